//! A block device's requests, one at a time (virtio 1.4, 5.2.6).

use crate::ring::{Part, Queue, load, page, store};
use crate::transport::Device;

pub const FLUSH_FEATURE: u64 = 1 << 9;
const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
/// Bytes of a request's data here.
pub const LENGTH: u32 = 4096;

/// Memory for a request.
const HEADER: u64 = 20;
const DATA: u64 = 21;
const STATUS: u64 = 22;

/// A block device with one queue.
pub struct Block<'device> {
    pub device: &'device Device,
    pub queue: Queue,
    doorbell: u64,
}

impl<'device> Block<'device> {
    /// Takes a device from reset to running.
    pub fn start(device: &'device Device) -> Self {
        device.negotiate(FLUSH_FEATURE);
        let queue = Queue::at(0);
        device.enable_queue(0, &queue, 1);
        let doorbell = device.doorbell(0);
        device.start();
        Self { device, queue, doorbell }
    }

    pub fn capacity(&self) -> u64 {
        u64::from(load::<u32>(self.device.config))
            | u64::from(load::<u32>(self.device.config + 4)) << 32
    }

    pub fn kick(&self) {
        store(self.doorbell, 0_u16);
    }

    pub fn write(&mut self, sector: u64, seed: u64) {
        for at in (0..u64::from(LENGTH)).step_by(8) {
            store(page(DATA) + at, pattern(sector, seed, at));
        }
        self.request(OUT, sector, LENGTH, false);
    }

    /// Reads, and says whether the content is what was written with this seed.
    pub fn holds(&mut self, sector: u64, seed: u64) -> bool {
        for at in (0..u64::from(LENGTH)).step_by(8) {
            store(page(DATA) + at, 0_u64);
        }
        self.request(IN, sector, LENGTH, true);
        (0..u64::from(LENGTH))
            .step_by(8)
            .all(|at| load::<u64>(page(DATA) + at) == pattern(sector, seed, at))
    }

    pub fn flush(&mut self) {
        self.request(FLUSH, 0, 0, false);
    }

    /// The device's name, up to the first NUL.
    pub fn id(&mut self) -> ([u8; 20], usize) {
        self.request(GET_ID, 0, 20, true);
        let id: [u8; 20] = load(page(DATA));
        let length = id.iter().position(|byte| *byte == 0).unwrap_or(id.len());
        (id, length)
    }

    fn request(&mut self, kind: u32, sector: u64, length: u32, device_writes: bool) {
        store(page(HEADER), kind);
        store(page(HEADER) + 4, 0_u32);
        store(page(HEADER) + 8, sector);
        store(page(STATUS), 0xff_u8);
        let header = Part { address: page(HEADER), length: 16, device_writes: false };
        let data = Part { address: page(DATA), length, device_writes };
        let status = Part { address: page(STATUS), length: 1, device_writes: true };
        if length == 0 {
            self.queue.offer(&[header, status]);
        } else {
            self.queue.offer(&[header, data, status]);
        }
        self.kick();
        self.queue.await_used();
        assert!(load::<u8>(page(STATUS)) == 0, "a request has failed");
    }
}

fn pattern(sector: u64, seed: u64, at: u64) -> u64 {
    (sector << 32 ^ seed << 16 ^ at).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
