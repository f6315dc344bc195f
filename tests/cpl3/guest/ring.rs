//! A split virtqueue, by polling (virtio 1.4, 2.7).

use core::sync::atomic::{Ordering, fence};

/// Entries of every queue here.
pub const SIZE: u16 = 16;
/// Free memory: the host leaves it alone, and it is zero at the start.
const HEAP: u64 = 12 << 20;
const PAGE: u64 = 4096;
/// Looks at the used ring before it is given up: many seconds.
const PATIENCE: u64 = 400_000_000;

const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// A page of memory. Each number gives another one.
pub fn page(number: u64) -> u64 {
    HEAP + number * PAGE
}

/// Copies from memory that a device may write.
pub fn load<T: Copy>(address: u64) -> T {
    // SAFETY: every address that is used here is in a page of this program's own.
    unsafe { (address as *const T).read_volatile() }
}

/// Copies to memory that a device may read.
pub fn store<T: Copy>(address: u64, value: T) {
    // SAFETY: as for loading.
    unsafe { (address as *mut T).write_volatile(value) }
}

/// A part of a descriptor chain.
#[derive(Clone, Copy)]
pub struct Part {
    pub address: u64,
    pub length: u32,
    pub device_writes: bool,
}

/// A queue, three pages of memory: descriptors, avail, used.
pub struct Queue {
    pub desc: u64,
    pub avail: u64,
    pub used: u64,
    next: u16,
    seen: u16,
}

impl Queue {
    /// Takes three pages from this one on.
    pub fn at(first: u64) -> Self {
        let (desc, avail, used) = (page(first), page(first + 1), page(first + 2));
        for at in (desc..desc + 3 * PAGE).step_by(8) {
            store(at, 0_u64);
        }
        Self { desc, avail, used, next: 0, seen: 0 }
    }

    /// Makes one chain available, in the first descriptors; there is only ever one.
    pub fn offer(&mut self, parts: &[Part]) {
        for (number, part) in (0_u16..).zip(parts) {
            let at = self.desc + u64::from(number) * 16;
            let last = usize::from(number) + 1 == parts.len();
            let flags = if part.device_writes { WRITE } else { 0 } | if last { 0 } else { NEXT };
            store(at, part.address);
            store(at + 8, part.length);
            store(at + 12, flags);
            store(at + 14, number + 1);
        }
        store(self.avail + 4 + 2 * u64::from(self.next % SIZE), 0_u16);
        self.next = self.next.wrapping_add(1);
        fence(Ordering::SeqCst);
        store(self.avail + 2, self.next);
        fence(Ordering::SeqCst);
    }

    /// Waits for it, and returns how many bytes the device has written.
    pub fn await_used(&mut self) -> u32 {
        for _ in 0..PATIENCE {
            if load::<u16>(self.used + 2) != self.seen {
                fence(Ordering::SeqCst);
                let at = self.used + 4 + 8 * u64::from(self.seen % SIZE);
                self.seen = self.seen.wrapping_add(1);
                assert!(load::<u32>(at) == 0, "a chain was used that was not offered");
                return load(at + 4);
            }
            core::hint::spin_loop();
        }
        panic!("the device does not use what it was offered");
    }
}
