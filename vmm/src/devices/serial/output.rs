//! What the guest wrote and the host has not taken yet.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

/// What it holds, in bytes; when it is full, the oldest give way.
pub(super) const CAPACITY: usize = 64 << 10;
/// How long a vCPU waits for a reader that was not slow before.
const PATIENCE: Duration = Duration::from_millis(200);

/// A queue between vCPUs and the main loop, with the eventfd that wakes the latter.
pub(super) struct Output {
    queue: Mutex<Queue>,
    room: Condvar,
    wake: OwnedFd,
}

#[derive(Default)]
struct Queue {
    bytes: VecDeque<u8>,
    /// How many bytes have left it, which is the place of its first in all that the guest wrote.
    first: u64,
    /// The reader did not make room in time; it is not waited for until it has taken something.
    given_up: bool,
    /// There is nobody to read, and never will be.
    closed: bool,
}

impl Queue {
    fn drop_front(&mut self, count: usize) {
        let count = count.min(self.bytes.len());
        self.bytes.drain(..count);
        self.first = self.first.wrapping_add(count as u64);
    }
}

impl Output {
    pub(super) fn new() -> rustix::io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { queue: Mutex::default(), room: Condvar::new(), wake })
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is room, or no longer than is fair to the guest. A lost reader costs it
    /// the wait once, not for every byte.
    pub(super) fn wait_for_room(&self) {
        let full =
            |queue: &mut Queue| queue.bytes.len() >= CAPACITY && !queue.given_up && !queue.closed;
        let mut queue = self.lock();
        if full(&mut queue) {
            queue = self
                .room
                .wait_timeout_while(queue, PATIENCE, full)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            queue.given_up = queue.bytes.len() >= CAPACITY;
        }
    }

    fn push(&self, byte: u8) {
        let mut queue = self.lock();
        if queue.closed {
            return;
        }
        if queue.bytes.len() >= CAPACITY {
            queue.drop_front(1);
        }
        queue.bytes.push_back(byte);
        if queue.bytes.len() == 1 {
            self.wake();
        }
    }

    /// Makes the main loop serve the port.
    pub(super) fn wake(&self) {
        // It fails only when it is signalled already, 2⁶⁴ - 2 times.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// Forgets that it was woken.
    pub(super) fn woken(&self) {
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
    }

    /// The oldest bytes, at most `at_most`, and their place; they stay until they are
    /// [taken](Self::take).
    pub(super) fn peek(&self, at_most: usize) -> (u64, Vec<u8>) {
        let queue = self.lock();
        (queue.first, queue.bytes.iter().take(at_most).copied().collect())
    }

    /// Forgets the bytes before `place`, which were written. A vCPU may have pushed out some of
    /// them meanwhile.
    pub(super) fn take(&self, place: u64) {
        let mut queue = self.lock();
        let count = usize::try_from(place.saturating_sub(queue.first)).unwrap_or(usize::MAX);
        queue.drop_front(count);
        queue.given_up = false;
        self.room.notify_all();
    }

    /// Nobody reads any more, and nobody will.
    pub(super) fn close(&self) {
        let mut queue = self.lock();
        queue.bytes = VecDeque::new();
        queue.closed = true;
        self.room.notify_all();
    }

    /// Nobody reads at the moment.
    pub(super) fn give_up(&self) {
        self.lock().given_up = true;
        self.room.notify_all();
    }
}

impl AsFd for Output {
    /// The eventfd.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// The 16550's end of it, which never waits and never fails.
pub(super) struct Transmitter(pub(super) Arc<Output>);

impl Write for Transmitter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for &byte in bytes {
            self.0.push(byte);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn filled() -> Output {
        let output = Output::new().unwrap();
        for n in 0..CAPACITY {
            output.push(n.to_le_bytes()[0]);
        }
        output
    }

    #[test]
    fn a_reader_that_does_not_read_costs_one_wait_and_the_oldest_bytes() {
        let output = filled();
        let start = Instant::now();
        output.wait_for_room();
        assert!(start.elapsed() >= PATIENCE);
        for _ in 0..100 {
            output.wait_for_room();
            output.push(b'x');
        }
        assert!(start.elapsed() < 2 * PATIENCE, "the wait is not repeated");
        let (place, bytes) = output.peek(usize::MAX);
        assert_eq!((place, bytes.len()), (100, CAPACITY));
        assert_eq!((bytes[0], &bytes[CAPACITY - 100..]), (100, &[b'x'; 100][..]));
    }

    #[test]
    fn a_reader_that_reads_again_is_waited_for_again() {
        let output = filled();
        output.give_up();
        output.take(1);
        output.push(b'x');
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                output.wait_for_room();
                output.lock().bytes.len()
            });
            std::thread::sleep(PATIENCE / 10);
            output.take(11);
            assert_eq!(waiter.join().unwrap(), CAPACITY - 10, "it went on when there was room");
        });
    }

    #[test]
    fn only_the_first_byte_wakes() {
        let output = Output::new().unwrap();
        let count = || {
            let mut count = [0; 8];
            rustix::io::read(&output.wake, &mut count).map(|_| u64::from_ne_bytes(count)).ok()
        };
        Transmitter(Arc::new(Output::new().unwrap())).write_all(b"elsewhere").unwrap();
        assert_eq!(count(), None);
        output.push(b'a');
        output.push(b'b');
        assert_eq!(count(), Some(1));
        output.take(2);
        output.push(b'c');
        assert_eq!(count(), Some(1));
        output.close();
        output.push(b'd');
        assert!(output.lock().bytes.is_empty());
    }
}
