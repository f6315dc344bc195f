//! A bare guest on this machine's real KVM that drives the VMM's own device code, in milliseconds.
//!
//! ```text
//! guest/ (no kernel, CPL 3) ─ exits ─▶ Stage: virtio-pci ─▶ any Device, as a front-end
//!                           ─ ioeventfd ─────────────────────────▶ back-end process
//! ```
//! The guest runs at user privilege with IOPL 3: every KVM executes that natively, even one that
//! emulates kernels because the machine is a virtual one itself. It enumerates PCI, finds a device,
//! negotiates, works with it by polling, and says what it finds; the host measures what it marks.

mod error;
mod image;
mod report;
mod stage;

pub use error::{Error, Result};
pub use report::Report;
pub use stage::Stage;

/// What the guest can play: `guest/scenes.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scene {
    /// Every function of the bus, through both ways into its configuration space.
    Enumerate = 0,
    /// A network card whose daemon echoes: frames of several lengths, before and after a reset.
    Net = 1,
    /// A block device: requests, pending bits, resets, and what they cost.
    Block = 2,
    /// A console: a line out, and one that the host says and is told again.
    Console = 3,
    /// A balloon: the pages that the host wants, given and taken back.
    Balloon = 5,
}

/// What the guest marks, so that the host can measure it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// A kick, which is an ioeventfd.
    Kick = 1,
    /// A read of a register of the common configuration.
    RegisterRead = 2,
    /// A write to a port that nobody has.
    PortWrite = 3,
    /// A request of the device's without data, from kick to used.
    Request = 4,
    /// 5000 stores to memory: no exit at all.
    Stores = 5,
}
