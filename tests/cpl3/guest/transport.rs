//! The virtio-pci transport, from the driver's side (virtio 1.4, 4.1).

use crate::pci::{Function, MsiX};
use crate::ring::{Part, Queue, SIZE, load, store};

pub const ACKNOWLEDGE: u8 = 1;
pub const DRIVER: u8 = 2;
pub const DRIVER_OK: u8 = 4;
pub const FEATURES_OK: u8 = 8;
const VERSION_1: u64 = 1 << 32;
/// How often a status is looked at before it is given up.
const PATIENCE: u32 = 100_000;

/// Offsets in the common configuration (virtio 1.4, 4.1.4.3).
const DEVICE_FEATURE_SELECT: u64 = 0x00;
const DEVICE_FEATURE: u64 = 0x04;
const DRIVER_FEATURE_SELECT: u64 = 0x08;
const DRIVER_FEATURE: u64 = 0x0c;
const NUM_QUEUES: u64 = 0x12;
const DEVICE_STATUS: u64 = 0x14;
const QUEUE_SELECT: u64 = 0x16;
const QUEUE_SIZE: u64 = 0x18;
const QUEUE_VECTOR: u64 = 0x1a;
const QUEUE_ENABLE: u64 = 0x1c;
const QUEUE_NOTIFY_OFF: u64 = 0x1e;
const QUEUE_DESC: u64 = 0x20;
const QUEUE_DRIVER: u64 = 0x28;
const QUEUE_DEVICE: u64 = 0x30;

/// A virtio device on PCI.
pub struct Device {
    pub function: Function,
    pub common: u64,
    pub isr: u64,
    pub config: u64,
    notify: u64,
    multiplier: u32,
    pub msi_x: MsiX,
}

/// A queue and its doorbell.
pub struct Lane {
    queue: Queue,
    index: u16,
    doorbell: u64,
}

impl Lane {
    /// Makes a chain available, and says so.
    pub fn offer(&mut self, parts: &[Part]) {
        self.queue.offer(parts);
        store(self.doorbell, self.index);
    }

    /// Waits for it, and returns how many bytes the device has written.
    pub fn await_used(&mut self) -> u32 {
        self.queue.await_used()
    }
}

impl Device {
    /// Finds its structures and switches it on.
    pub fn new(function: Function) -> Self {
        let found = |kind| function.structure(kind).expect("a structure is missing");
        let (common, notify, isr, config) = (found(1), found(2), found(3), found(4));
        assert!(common.length >= 56, "the common configuration is too short");
        let multiplier = function.read(notify.capability + 16);
        let msi_x = function.msi_x().expect("it has no MSI-X");
        function.enable();
        Self {
            function,
            common: common.address,
            isr: isr.address,
            config: config.address,
            notify: notify.address,
            multiplier,
            msi_x,
        }
    }

    /// Whether there is one of these at the function, and of what type.
    pub fn kind(function: Function) -> Option<u16> {
        match function.ids() {
            (0x1af4, id @ 0x1040..=0x107f) => Some(id - 0x1040),
            _ => None,
        }
    }

    pub fn status(&self) -> u8 {
        load(self.common + DEVICE_STATUS)
    }

    /// Resets it and waits until that is done.
    pub fn reset(&self) {
        store(self.common + DEVICE_STATUS, 0_u8);
        for _ in 0..PATIENCE {
            if self.status() == 0 {
                return;
            }
        }
        panic!("the device does not come out of its reset");
    }

    fn add_status(&self, bit: u8) {
        store(self.common + DEVICE_STATUS, self.status() | bit);
    }

    pub fn features(&self) -> u64 {
        let half = |select: u32| {
            store(self.common + DEVICE_FEATURE_SELECT, select);
            u64::from(load::<u32>(self.common + DEVICE_FEATURE))
        };
        half(0) | half(1) << 32
    }

    /// From a reset to FEATURES_OK, with these features as far as they are offered.
    pub fn negotiate(&self, wanted: u64) -> u64 {
        self.reset();
        self.add_status(ACKNOWLEDGE);
        self.add_status(DRIVER);
        let features = self.features() & (wanted | VERSION_1);
        assert!(features & VERSION_1 != 0, "it does not offer VERSION_1");
        for (select, half) in [(0_u32, features as u32), (1, (features >> 32) as u32)] {
            store(self.common + DRIVER_FEATURE_SELECT, select);
            store(self.common + DRIVER_FEATURE, half);
        }
        self.add_status(FEATURES_OK);
        assert!(self.status() & FEATURES_OK != 0, "it refuses its own features");
        features
    }

    pub fn queues(&self) -> u16 {
        load(self.common + NUM_QUEUES)
    }

    /// Configures and enables a queue, whose calls go to a vector.
    pub fn enable_queue(&self, index: u16, queue: &Queue, vector: u16) {
        store(self.common + QUEUE_SELECT, index);
        assert!(load::<u16>(self.common + QUEUE_SIZE) >= SIZE, "its queue is too small");
        store(self.common + QUEUE_SIZE, SIZE);
        store(self.common + QUEUE_VECTOR, vector);
        assert!(load::<u16>(self.common + QUEUE_VECTOR) == vector, "it refuses a vector");
        let areas =
            [(QUEUE_DESC, queue.desc), (QUEUE_DRIVER, queue.avail), (QUEUE_DEVICE, queue.used)];
        for (register, address) in areas {
            store(self.common + register, address as u32);
            store(self.common + register + 4, (address >> 32) as u32);
        }
        store(self.common + QUEUE_ENABLE, 1_u16);
        assert!(load::<u16>(self.common + QUEUE_ENABLE) == 1, "its queue is not enabled");
    }

    /// Takes it from reset to running, with its first two queues.
    pub fn start_pair(&self, features: u64) -> [Lane; 2] {
        self.negotiate(features);
        let lanes = [0, 1].map(|index: u16| {
            let queue = Queue::at(3 * u64::from(index));
            self.enable_queue(index, &queue, index + 1);
            Lane { queue, index, doorbell: self.doorbell(index) }
        });
        self.start();
        lanes
    }

    /// Lets it run.
    pub fn start(&self) {
        self.add_status(DRIVER_OK);
        assert!(self.status() & DRIVER_OK != 0, "it does not start");
    }

    /// Where a queue's doorbell is.
    pub fn doorbell(&self, index: u16) -> u64 {
        store(self.common + QUEUE_SELECT, index);
        let offset: u16 = load(self.common + QUEUE_NOTIFY_OFF);
        self.notify + u64::from(offset) * u64::from(self.multiplier)
    }

    /// Switches MSI-X on, with all vectors masked or not.
    pub fn enable_msi_x(&self, masked: bool) {
        let control = 1 << 15 | if masked { 1 << 14 } else { 0 };
        self.function.write16(self.msi_x.capability + 2, control);
    }

    /// Fills in a vector's entry, and unmasks it.
    pub fn set_vector(&self, vector: u16, data: u32) {
        let entry = self.msi_x.table + 16 * u64::from(vector);
        store(entry, 0xfee0_0000_u32);
        store(entry + 4, 0_u32);
        store(entry + 8, data);
        store(entry + 12, 0_u32);
    }

    pub fn is_pending(&self, vector: u16) -> bool {
        let word: u64 = load(self.msi_x.pending + 8 * u64::from(vector / 64));
        word & 1 << (vector % 64) != 0
    }
}
