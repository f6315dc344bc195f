//! One virtual machine, as the rest of the VMM sees it.

use std::os::fd::BorrowedFd;

use crate::memory::Region;
use crate::{GuestAddress, Result, Vcpu};

/// A memory slot: the number by which a mapping of guest memory is known to the hypervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

/// An interrupt line (global system interrupt). Lines below [`layout::IOAPIC_PINS`] are the IOAPIC's
/// pins; the others are handed out by [`Machine::allocate_vectors`].
///
/// [`layout::IOAPIC_PINS`]: crate::layout::IOAPIC_PINS
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gsi(pub u32);

/// A message-signalled interrupt as the guest's driver wrote it into a vector (PCI 3.0, 6.8.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Msi {
    /// Message address, both halves.
    pub address: u64,
    /// Message data.
    pub data: u32,
}

/// How a region is mapped into the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotOptions {
    /// The guest cannot write; its writes exit as MMIO.
    pub read_only: bool,
    /// The guest's writes are noted for [`Machine::take_dirty`].
    pub log_dirty: bool,
}

/// One virtual machine, shared by the threads of the VMM. No call waits for the guest.
pub trait Machine: Send + Sync {
    /// Maps a region of memory into the guest, at the address that the region states. The machine
    /// keeps the region's mapping alive for as long as the guest can reach it.
    ///
    /// # Errors
    /// When the slot is taken, the region overlaps another, or the hypervisor refuses.
    fn map(&self, slot: Slot, region: &Region, options: SlotOptions) -> Result<()>;

    /// Takes a region away from the guest.
    ///
    /// # Errors
    /// When the slot is empty, or the hypervisor refuses.
    fn unmap(&self, slot: Slot) -> Result<()>;

    /// Switches the dirty log of a slot on or off.
    ///
    /// # Errors
    /// When the slot is empty, or the hypervisor refuses.
    fn log_dirty(&self, slot: Slot, on: bool) -> Result<()>;

    /// The pages (of 4096 bytes, one bit each, lowest first) of a slot that the guest wrote since
    /// the last call, and forgets them.
    ///
    /// # Errors
    /// When the slot is empty or not logged.
    fn take_dirty(&self, slot: Slot) -> Result<Vec<u64>>;

    /// Connects a doorbell: the guest's write to `at` (MMIO, of any length and value) signals the
    /// eventfd `fd` and does not exit.
    ///
    /// # Errors
    /// When one is connected there already, or the hypervisor refuses.
    fn connect_kick(&self, at: GuestAddress, fd: BorrowedFd<'_>) -> Result<()>;

    /// Disconnects a doorbell; the guest's writes exit again.
    ///
    /// # Errors
    /// When it is not connected.
    fn disconnect_kick(&self, at: GuestAddress, fd: BorrowedFd<'_>) -> Result<()>;

    /// Hands out `n` interrupt lines that nobody else has. They have no route yet.
    ///
    /// # Errors
    /// When the hypervisor has no more; it then hands out none.
    fn allocate_vectors(&self, n: usize) -> Result<Vec<Gsi>>;

    /// Gives lines back. Their calls must have been disconnected; their routes are removed.
    ///
    /// # Errors
    /// When one of them was not allocated.
    fn free_vectors(&self, lines: &[Gsi]) -> Result<()>;

    /// Says which message each line sends, or that it sends none. One call for many lines costs the
    /// hypervisor no more than one for one; lines that do not change cost nothing.
    ///
    /// A line that is an IOAPIC pin needs its route here too, for [`Exit::Eoi`] to happen.
    ///
    /// [`Exit::Eoi`]: crate::Exit::Eoi
    ///
    /// # Errors
    /// When a line was not allocated, or the hypervisor refuses.
    fn route_all(&self, routes: &[(Gsi, Option<Msi>)]) -> Result<()>;

    /// Says which message one line sends, or that it sends none.
    ///
    /// # Errors
    /// As [`Machine::route_all`].
    fn route(&self, line: Gsi, message: Option<Msi>) -> Result<()> {
        self.route_all(&[(line, message)])
    }

    /// Connects a call: a signal of the eventfd `fd` sends the line's message. If the eventfd has
    /// been signalled before, the message is sent at once.
    ///
    /// # Errors
    /// When the line was not allocated, or the hypervisor refuses (it does if connected already).
    fn connect_call(&self, line: Gsi, fd: BorrowedFd<'_>) -> Result<()>;

    /// Disconnects a call; the eventfd counts from now on.
    ///
    /// # Errors
    /// When it is not connected.
    fn disconnect_call(&self, line: Gsi, fd: BorrowedFd<'_>) -> Result<()>;

    /// Sends a message now.
    ///
    /// # Errors
    /// When the hypervisor refuses.
    fn signal(&self, message: Msi) -> Result<()>;

    /// Makes a vCPU, complete but for where it starts: see [`Vcpu::reset`]. `index` counts from 0;
    /// the topology makes an APIC id of it. Different vCPUs can be made by different threads at once.
    ///
    /// # Errors
    /// When there is one already, or more than the machine was to have, or the hypervisor refuses.
    fn create_vcpu(&self, index: u32) -> Result<Box<dyn Vcpu>>;
}
