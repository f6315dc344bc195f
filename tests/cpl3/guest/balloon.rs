//! A balloon: pages given to the host, and taken back (virtio 1.4, 5.5.6).

use crate::ring::{Part, load, page, store};
use crate::transport::{Device, Lane};

/// Shift from a guest address to the balloon's number of a page.
const PAGE_SHIFT: u64 = 12;
/// Offsets in its configuration.
const WANTED: u64 = 0;
const ACTUAL: u64 = 4;
/// Looks at its configuration until it is given up.
const PATIENCE: u32 = 100_000;

/// Memory for page numbers.
const NUMBERS: u64 = 20;

/// A balloon that runs.
pub struct Balloon<'device> {
    device: &'device Device,
    inflate: Lane,
    deflate: Lane,
}

impl<'device> Balloon<'device> {
    /// Takes a balloon from reset to running.
    pub fn start(device: &'device Device) -> Self {
        let [inflate, deflate] = device.start_pair(0);
        Self { device, inflate, deflate }
    }

    /// How many pages the host wants.
    pub fn wanted(&self) -> u32 {
        for _ in 0..PATIENCE {
            match load::<u32>(self.device.config + WANTED) {
                0 => {}
                wanted => return wanted,
            }
        }
        panic!("the host wants no page");
    }

    /// Gives these pages away.
    pub fn give(&mut self, first: u64, count: u32) {
        let numbers = list(first, count);
        self.inflate.offer(&[numbers]);
        self.inflate.await_used();
        store(self.device.config + ACTUAL, count);
    }

    /// Takes them back.
    pub fn take(&mut self, first: u64, count: u32) {
        let numbers = list(first, count);
        self.deflate.offer(&[numbers]);
        self.deflate.await_used();
        store(self.device.config + ACTUAL, 0_u32);
    }
}

fn list(first: u64, count: u32) -> Part {
    for number in 0..u64::from(count) {
        store(page(NUMBERS) + 4 * number, (page(first + number) >> PAGE_SHIFT) as u32);
    }
    Part { address: page(NUMBERS), length: 4 * count, device_writes: false }
}
