//! The few devices that the VMM emulates itself: what a guest needs before it has drivers for
//! virtio, and what no other process can do for it.
//!
//! | module | what it is |
//! |---|---|
//! | `ioapic` | interrupt pins for devices without MSI |
//! | `power` | power button, and the register that switches the machine off |
//! | `reset` | the two ports by which PCs are reset |
//! | `pvpanic` | where a guest says that its kernel has crashed |
//! | `serial` | COM1, and what it is connected to |

use std::sync::Arc;

pub mod ioapic;
pub mod power;
pub mod pvpanic;
pub mod reset;
pub mod serial;

/// What the guest, or the person at its console, asks of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The guest switches the machine off (S5).
    PowerOff,
    /// The guest resets the machine.
    Reset,
    /// The guest's kernel has crashed. If `loaded`, a crash kernel takes over in the guest.
    Panic {
        /// Whether the guest goes on with a crash kernel.
        loaded: bool,
    },
    /// Somebody typed the escape that ends the VMM.
    Quit,
}

/// Tells the machine about an [`Event`]. It is called by vCPU threads and must not block.
pub type Report = Arc<dyn Fn(Event) + Send + Sync>;

/// An interrupt line.
pub trait Line: Send + Sync {
    /// Makes the line high or low.
    fn set_level(&self, high: bool);

    /// One edge: an interrupt of a device whose line is edge-triggered.
    fn pulse(&self) {
        self.set_level(true);
        self.set_level(false);
    }
}
