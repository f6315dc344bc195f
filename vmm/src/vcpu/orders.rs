//! Orders from the main thread to all vCPU threads at once.
//!
//! # Theory of operation
//! There is one order at a time, with a serial number. A vCPU thread carries out each serial it sees once;
//! the main thread waits until all have done so, except for [`Order::Run`], which has no end of its own.
//! A vCPU that is in the guest is got out of it by its handle, which the main thread uses *after* the order
//! stands. A vCPU that had seen the order by itself meets that interruption at its next run, finds that
//! nothing has [changed](Orders::have_changed), and runs on.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hypervisor::BootState;

/// What vCPUs are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Run the guest until there is another order.
    Run,
    /// Stay out of the guest.
    Park,
    /// Go back to the state after power-on, and stay out of the guest. vCPU 0 will start here.
    Reset(BootState),
    /// End the thread.
    Quit,
}

/// The order that stands.
#[derive(Debug)]
pub struct Orders {
    board: Mutex<Board>,
    changed: Condvar,
    vcpus: usize,
}

#[derive(Debug)]
struct Board {
    order: Order,
    serial: u64,
    done: usize,
}

/// How far one vCPU thread has come.
#[derive(Debug, Default)]
pub struct Progress(u64);

impl Orders {
    /// For so many vCPU threads, none of which has anything to do yet.
    #[must_use]
    pub fn new(vcpus: usize) -> Self {
        let board = Board { order: Order::Park, serial: 0, done: 0 };
        Self { board: Mutex::new(board), changed: Condvar::new(), vcpus }
    }

    /// Puts up an order. Interrupt the vCPUs after this.
    pub fn give(&self, order: Order) {
        let mut board = self.board();
        board.order = order;
        board.serial += 1;
        board.done = 0;
        drop(board);
        self.changed.notify_all();
    }

    /// Waits until every vCPU has carried out the present order, but no longer than `limit`; whether they
    /// have. A vCPU that is late is stuck in the kernel: nothing that it calls in this process blocks.
    #[must_use]
    pub fn wait_until_done(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut board = self.board();
        while board.done < self.vcpus {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.changed.wait_timeout(board, left);
            board = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Whether there is an order that this vCPU has not seen.
    #[must_use]
    pub fn have_changed(&self, progress: &Progress) -> bool {
        self.board().serial != progress.0
    }

    /// A vCPU waits for its next order.
    pub fn next(&self, progress: &mut Progress) -> Order {
        let mut board = self.board();
        while board.serial == progress.0 {
            board = self.changed.wait(board).unwrap_or_else(PoisonError::into_inner);
        }
        progress.0 = board.serial;
        board.order
    }

    /// A vCPU has carried out the order it took last.
    pub fn done(&self, progress: &Progress) {
        let mut board = self.board();
        if board.serial == progress.0 {
            board.done += 1;
        }
        drop(board);
        self.changed.notify_all();
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    /// vCPUs that spin in their guest until interrupted, and two thousand orders: each park finds all of
    /// them out of the guest, each run finds them in it again.
    #[test]
    fn no_order_is_lost() {
        let orders = Arc::new(Orders::new(2));
        let interrupted: Arc<[AtomicBool; 2]> = Arc::default();
        let inside = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..2)
            .map(|index| {
                let (orders, interrupted, inside) =
                    (orders.clone(), interrupted.clone(), inside.clone());
                thread::spawn(move || {
                    let mut progress = Progress::default();
                    loop {
                        match orders.next(&mut progress) {
                            Order::Run => {
                                inside.fetch_add(1, Ordering::SeqCst);
                                while !(interrupted[index].swap(false, Ordering::SeqCst)
                                    && orders.have_changed(&progress))
                                {
                                    thread::yield_now();
                                }
                                inside.fetch_sub(1, Ordering::SeqCst);
                            }
                            Order::Park | Order::Reset(_) => orders.done(&progress),
                            Order::Quit => return orders.done(&progress),
                        }
                    }
                })
            })
            .collect();
        let give = |order| {
            orders.give(order);
            if order != Order::Run {
                interrupted.iter().for_each(|flag| flag.store(true, Ordering::SeqCst));
                assert!(orders.wait_until_done(LIMIT), "{order:?} is carried out");
            }
        };
        for _ in 0..1000 {
            give(Order::Run);
            give(Order::Park);
            assert_eq!(inside.load(Ordering::SeqCst), 0);
        }
        give(Order::Quit);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }

    #[test]
    fn a_vcpu_that_is_stuck_is_noticed() {
        let orders = Orders::new(1);
        orders.give(Order::Park);
        assert!(!orders.wait_until_done(Duration::from_millis(5)));
    }
}
