//! A guest: reads and writes as a CPU would, and a driver that finds its registers by the
//! capabilities.

use std::sync::Arc;

use hypervisor::{Machine, fake as machine};
use virtio_pci::{Bus, fake};
use virtio_spec::features;

/// Where the bus places BARs.
pub(crate) const WINDOW: std::ops::Range<u64> = 0xc000_0000..0xe000_0000;

pub(crate) const COMMAND: u64 = 0x04;
pub(crate) const BAR0: u64 = 0x10;

pub(crate) const ACKNOWLEDGE: u8 = 1;
pub(crate) const DRIVER: u8 = 2;
pub(crate) const DRIVER_OK: u8 = 4;
pub(crate) const FEATURES_OK: u8 = 8;
pub(crate) const NEEDS_RESET: u8 = 64;
pub(crate) const FAILED: u8 = 128;

pub(crate) const NO_VECTOR: u16 = 0xffff;

/// Fields of the common configuration.
pub(crate) mod common {
    pub(crate) const DEVICE_FEATURE_SELECT: u64 = 0x00;
    pub(crate) const DEVICE_FEATURE: u64 = 0x04;
    pub(crate) const DRIVER_FEATURE_SELECT: u64 = 0x08;
    pub(crate) const DRIVER_FEATURE: u64 = 0x0c;
    pub(crate) const CONFIG_VECTOR: u64 = 0x10;
    pub(crate) const NUM_QUEUES: u64 = 0x12;
    pub(crate) const DEVICE_STATUS: u64 = 0x14;
    pub(crate) const CONFIG_GENERATION: u64 = 0x15;
    pub(crate) const QUEUE_SELECT: u64 = 0x16;
    pub(crate) const QUEUE_SIZE: u64 = 0x18;
    pub(crate) const QUEUE_VECTOR: u64 = 0x1a;
    pub(crate) const QUEUE_ENABLE: u64 = 0x1c;
    pub(crate) const QUEUE_NOTIFY_OFF: u64 = 0x1e;
    pub(crate) const QUEUE_DESC: u64 = 0x20;
    pub(crate) const QUEUE_DRIVER: u64 = 0x28;
    pub(crate) const QUEUE_DEVICE: u64 = 0x30;
    pub(crate) const QUEUE_RESET: u64 = 0x3a;
    pub(crate) const ADMIN_QUEUES: u64 = 0x3c;
}

/// A bus with one device, in slot 1.
pub(crate) struct Guest {
    pub(crate) bus: Bus,
    pub(crate) machine: Arc<machine::Machine>,
    pub(crate) device: Arc<fake::Device>,
}

impl Guest {
    pub(crate) fn new(config: fake::Config) -> Self {
        let machine = Arc::new(machine::Machine::new());
        let device = fake::Device::new(config);
        let shared: Arc<dyn Machine> = machine.clone();
        let bus = Bus::new(&shared, vec![device.clone()], WINDOW).unwrap();
        Self { bus, machine, device }
    }

    /// Reads a configuration space by ECAM.
    pub(crate) fn ecam<const N: usize>(&self, function: u64, register: u64) -> [u8; N] {
        let mut bytes = [0xaa; N];
        self.bus.read_ecam(function << 12 | register, &mut bytes);
        bytes
    }

    pub(crate) fn config8(&self, register: u64) -> u8 {
        u8::from_le_bytes(self.ecam(8, register))
    }

    pub(crate) fn config16(&self, register: u64) -> u16 {
        u16::from_le_bytes(self.ecam(8, register))
    }

    pub(crate) fn config32(&self, register: u64) -> u32 {
        u32::from_le_bytes(self.ecam(8, register))
    }

    pub(crate) fn set_config(&self, register: u64, bytes: &[u8]) {
        self.bus.write_ecam(8 << 12 | register, bytes);
    }

    /// Memory decoding and bus mastering on.
    pub(crate) fn enable(&self) {
        self.set_config(COMMAND, &6_u16.to_le_bytes());
    }

    /// Offsets of the capabilities with this id, by the list.
    pub(crate) fn capabilities(&self, id: u8) -> Vec<u64> {
        let mut found = Vec::new();
        let mut at = u64::from(self.config8(0x34));
        while at != 0 {
            if self.config8(at) == id {
                found.push(at);
            }
            at = u64::from(self.config8(at + 1));
            assert!(found.len() < 48, "the list has an end");
        }
        found
    }

    /// The capability for a kind of virtio structure.
    pub(crate) fn virtio_capability(&self, kind: u8) -> Option<u64> {
        self.capabilities(9).into_iter().find(|&at| self.config8(at + 3) == kind)
    }

    /// The address in the 64-bit BAR.
    pub(crate) fn bar(&self) -> u64 {
        u64::from_le_bytes(self.ecam(8, BAR0)) & !0xf
    }

    /// A driver, with memory decoding and bus mastering on.
    pub(crate) fn driver(&self) -> Driver<'_> {
        self.enable();
        let msix = self.capabilities(0x11)[0];
        let place = |kind| self.virtio_capability(kind).map(|at| u64::from(self.config32(at + 8)));
        Driver {
            guest: self,
            common: place(1).unwrap(),
            notify: place(2).unwrap(),
            isr: place(3).unwrap(),
            config: place(4).unwrap(),
            msix,
            table: u64::from(self.config32(msix + 4)),
            pending: u64::from(self.config32(msix + 8)),
        }
    }
}

/// A driver that knows where its registers are in the BAR.
pub(crate) struct Driver<'a> {
    pub(crate) guest: &'a Guest,
    pub(crate) common: u64,
    pub(crate) notify: u64,
    pub(crate) isr: u64,
    pub(crate) config: u64,
    pub(crate) msix: u64,
    pub(crate) table: u64,
    pub(crate) pending: u64,
}

impl Driver<'_> {
    pub(crate) fn read<const N: usize>(&self, offset: u64) -> [u8; N] {
        let mut bytes = [0xaa; N];
        assert!(self.guest.bus.read_memory(self.guest.bar() + offset, &mut bytes));
        bytes
    }

    /// Writes, as a CPU would: a doorbell that is connected takes it, or else the bus.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) {
        let at = self.guest.bar() + offset;
        if !self.guest.machine.write_mmio(hypervisor::GuestAddress(at)) {
            assert!(self.guest.bus.write_memory(at, bytes));
        }
    }

    pub(crate) fn common8(&self, field: u64) -> u8 {
        u8::from_le_bytes(self.read(self.common + field))
    }

    pub(crate) fn common16(&self, field: u64) -> u16 {
        u16::from_le_bytes(self.read(self.common + field))
    }

    pub(crate) fn common32(&self, field: u64) -> u32 {
        u32::from_le_bytes(self.read(self.common + field))
    }

    pub(crate) fn set8(&self, field: u64, value: u8) {
        self.write(self.common + field, &[value]);
    }

    pub(crate) fn set16(&self, field: u64, value: u16) {
        self.write(self.common + field, &value.to_le_bytes());
    }

    pub(crate) fn set32(&self, field: u64, value: u32) {
        self.write(self.common + field, &value.to_le_bytes());
    }

    pub(crate) fn set64(&self, field: u64, value: u64) {
        self.write(self.common + field, &value.to_le_bytes()[..4]);
        self.write(self.common + field + 4, &value.to_le_bytes()[4..]);
    }

    pub(crate) fn status(&self) -> u8 {
        self.common8(common::DEVICE_STATUS)
    }

    pub(crate) fn set_status(&self, status: u8) {
        self.set8(common::DEVICE_STATUS, status);
    }

    pub(crate) fn reset(&self) {
        self.set_status(0);
        assert_eq!(self.status(), 0);
    }

    pub(crate) fn offered(&self) -> u64 {
        (0..2).rev().fold(0, |bits, select| {
            self.set32(common::DEVICE_FEATURE_SELECT, select);
            bits << 32 | u64::from(self.common32(common::DEVICE_FEATURE))
        })
    }

    pub(crate) fn accept(&self, bits: u64) {
        for select in 0..2 {
            self.set32(common::DRIVER_FEATURE_SELECT, select);
            let word = bits >> (32 * select) & 0xffff_ffff;
            self.set32(common::DRIVER_FEATURE, u32::try_from(word).unwrap());
        }
    }

    /// From reset to FEATURES_OK, with these features and VERSION_1; says whether it stood.
    pub(crate) fn negotiate(&self, bits: u64) -> bool {
        self.reset();
        self.set_status(ACKNOWLEDGE);
        self.set_status(ACKNOWLEDGE | DRIVER);
        self.accept(bits | features::mask(features::VERSION_1));
        self.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK);
        self.status() & FEATURES_OK != 0
    }

    /// Configures and enables a queue; its three areas are at `at`, `at` + 0x1000, and so on.
    pub(crate) fn enable_queue(&self, index: u16, size: u16, at: u64) {
        self.set16(common::QUEUE_SELECT, index);
        self.set16(common::QUEUE_SIZE, size);
        self.set64(common::QUEUE_DESC, at);
        self.set64(common::QUEUE_DRIVER, at + 0x1000);
        self.set64(common::QUEUE_DEVICE, at + 0x2000);
        self.set16(common::QUEUE_ENABLE, 1);
    }

    /// Everything up to DRIVER_OK, with all queues.
    pub(crate) fn go_live(&self, bits: u64) {
        assert!(self.negotiate(bits));
        for index in 0..self.common16(common::NUM_QUEUES) {
            self.enable_queue(index, 16, 0x10_0000 * (u64::from(index) + 1));
        }
        self.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
        assert_ne!(self.status() & DRIVER_OK, 0);
    }

    /// Maps a queue to a vector, and reads back what became of it.
    pub(crate) fn map_queue(&self, index: u16, vector: u16) -> u16 {
        self.set16(common::QUEUE_SELECT, index);
        self.set16(common::QUEUE_VECTOR, vector);
        self.common16(common::QUEUE_VECTOR)
    }

    /// The switches of MSI-X.
    pub(crate) fn set_msix(&self, enabled: bool, masked: bool) {
        let control = u16::from(enabled) << 15 | u16::from(masked) << 14;
        self.guest.set_config(self.msix + 2, &control.to_le_bytes());
    }

    /// A vector's message, and whether it is masked.
    pub(crate) fn set_vector(&self, vector: u16, data: u32, masked: bool) {
        let entry = self.table + u64::from(vector) * 16;
        self.write(entry, &0xfee0_0000_u32.to_le_bytes());
        self.write(entry + 4, &0_u32.to_le_bytes());
        self.write(entry + 8, &data.to_le_bytes());
        self.mask_vector(vector, masked);
    }

    pub(crate) fn mask_vector(&self, vector: u16, masked: bool) {
        let control = self.table + u64::from(vector) * 16 + 12;
        self.write(control, &u32::from(masked).to_le_bytes());
    }

    /// The data of the messages that were sent since the last time, sorted.
    pub(crate) fn messages(&self) -> Vec<u32> {
        let mut data: Vec<u32> =
            self.guest.machine.messages().iter().map(|message| message.data).collect();
        data.sort_unstable();
        data
    }

    /// No message was sent since the last time.
    #[track_caller]
    pub(crate) fn hears_nothing(&self) {
        assert_eq!(self.messages(), Vec::<u32>::new());
    }

    pub(crate) fn isr(&self) -> u8 {
        self.read::<1>(self.isr)[0]
    }
}
