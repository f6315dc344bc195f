//! Who answers when the guest leaves its CPU: the few devices of the VMM's own, then PCI.

use std::sync::Arc;

use hypervisor::layout;

use crate::bus::Bus;
use crate::devices::ioapic::Ioapic;
use crate::vcpu::thread::Exits;

/// Every device that is not reached through shared memory and eventfds.
///
/// Fixed devices come first, so that no guest can put a BAR in front of them.
pub struct Devices {
    /// At fixed addresses.
    pub fixed: Bus,
    /// Where the guest put them.
    pub pci: virtio_pci::Bus,
    /// Wants to know of ends of interrupts.
    pub ioapic: Arc<Ioapic>,
}

impl Exits for Devices {
    fn port_read(&self, port: u16, data: &mut [u8]) {
        if !self.fixed.read_port(port, data) && layout::PCI_CONFIG.contains(&port) {
            self.pci.read_port(port, data);
        }
    }

    fn port_write(&self, port: u16, data: &[u8]) {
        if !self.fixed.write_port(port, data) && layout::PCI_CONFIG.contains(&port) {
            self.pci.write_port(port, data);
        }
    }

    fn mmio_read(&self, at: u64, data: &mut [u8]) {
        if layout::ECAM.contains(&at) {
            self.pci.read_ecam(at - layout::ECAM.start, data);
        } else if !self.fixed.read_memory(at, data) && !self.pci.read_memory(at, data) {
            data.fill(0xff);
        }
    }

    fn mmio_write(&self, at: u64, data: &[u8]) {
        if layout::ECAM.contains(&at) {
            self.pci.write_ecam(at - layout::ECAM.start, data);
        } else if !self.fixed.write_memory(at, data) {
            // A write that nobody listens to is nothing to a PC.
            let _ = self.pci.write_memory(at, data);
        }
    }

    fn end_of_interrupt(&self, vector: u8) {
        self.ioapic.eoi(vector);
    }
}
