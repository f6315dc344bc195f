//! The little that threads share, in all orders that the memory model allows (loom): who sleeps is
//! always woken, and what was said before the wake is seen after it.
//!
//! These are models: each names the code whose loads, stores and fences it repeats, with the kernel's
//! part (an eventfd) as a counter under a lock of the kernel's. Where an order or a fence is what makes
//! it work, a second test takes it away, and loom has to find the mistake.
#![expect(clippy::unwrap_used, reason = "a model that meets what it does not expect fails")]

use std::collections::VecDeque;

use loom::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering, fence};
use loom::sync::{Arc, Mutex};
use loom::thread;

/// An eventfd: the kernel orders all that is done to it.
#[derive(Default)]
struct Eventfd(Mutex<u64>);

impl Eventfd {
    fn write(&self) {
        *self.0.lock().unwrap() += 1;
    }

    /// What has been written since the last time, by a read or as edges that a watch reports; 0: it
    /// would block.
    fn read(&self) -> u64 {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// `stats::Counter`: one writer without a locked instruction, and a reader that may be behind but
/// never sees a counter go back.
#[test]
fn counters_have_one_writer_and_any_readers() {
    loom::model(|| {
        let counter = Arc::new(AtomicU64::new(0));
        let writers = Arc::clone(&counter);
        let writer = thread::spawn(move || {
            for _ in 0..2 {
                let value = writers.load(Ordering::Relaxed);
                writers.store(value + 1, Ordering::Relaxed);
            }
        });
        let (first, second) = (counter.load(Ordering::Relaxed), counter.load(Ordering::Relaxed));
        assert!(first <= second && second <= 2);
        writer.join().unwrap();
        assert_eq!(counter.load(Ordering::Relaxed), 2);
    });
}

/// `ring::Call::Message` and `Session::next_backend_request`: each call as a message is sent, and
/// comes after the used index that it is about.
#[test]
fn a_call_by_message_is_never_lost() {
    loom::model(|| {
        let pending = Arc::new(AtomicU64::new(0));
        let used = Arc::new(AtomicU16::new(0));
        let waker = Arc::new(Eventfd::default());
        let worker = {
            let (pending, used, waker) =
                (Arc::clone(&pending), Arc::clone(&used), Arc::clone(&waker));
            thread::spawn(move || {
                for batch in 1..=2 {
                    used.store(batch, Ordering::Release);
                    pending.fetch_add(1, Ordering::Release);
                    waker.write();
                }
            })
        };
        // The connection thread is woken, reads its eventfd, and then looks for calls.
        let mut calls = 0;
        let mut look = || {
            if waker.read() > 0 {
                let found = pending.swap(0, Ordering::Acquire);
                calls += found;
                assert!(u64::from(used.load(Ordering::Acquire)) >= calls);
            }
        };
        look();
        worker.join().unwrap();
        look();
        assert_eq!(calls, 2);
    });
}

/// `WorkerThread::send` and the worker's loop: the eventfd is never drained, each write is an edge.
/// The command is in the channel before the edge, and the channel is emptied after it.
#[test]
fn a_command_is_never_left_in_the_channel() {
    loom::model(|| {
        let channel = Arc::new(Mutex::new(VecDeque::new()));
        let edges = Arc::new(Eventfd::default());
        let connection = {
            let (channel, edges) = (Arc::clone(&channel), Arc::clone(&edges));
            thread::spawn(move || {
                for command in 0..2 {
                    channel.lock().unwrap().push_back(command);
                    edges.write();
                }
            })
        };
        let mut carried_out = Vec::new();
        let mut turn = || {
            if edges.read() > 0 {
                carried_out.extend(channel.lock().unwrap().drain(..));
            }
        };
        turn();
        connection.join().unwrap();
        // With no edge pending it would sleep now, for ever.
        turn();
        assert_eq!(carried_out, [0, 1]);
    });
}

/// One side of a notification: it shows its index, and asks whether the other wants to be told. The
/// other says what it waits for, and looks at the index once more before it sleeps. `fences`: between
/// the store and the load, on both sides.
fn notification(fences: bool) {
    loom::model(move || {
        let (index, event) = (Arc::new(AtomicU16::new(0)), Arc::new(AtomicU16::new(u16::MAX)));
        let shower = {
            let (index, event) = (Arc::clone(&index), Arc::clone(&event));
            thread::spawn(move || {
                index.store(1, Ordering::Release);
                if fences {
                    fence(Ordering::SeqCst);
                }
                virtio_spec::split::need_event(event.load(Ordering::Acquire), 1, 0)
            })
        };
        event.store(0, Ordering::Release);
        if fences {
            fence(Ordering::SeqCst);
        }
        let sleeps = index.load(Ordering::Acquire) == 0;
        let notified = shower.join().unwrap();
        assert!(notified || !sleeps, "it sleeps, and nobody tells it");
    });
}

/// `Split::enable_kicks` against the driver's publication, `Split::wants_call` against the driver that
/// asks for calls, and the same of packed rings (virtio 1.4, 2.7.7, 2.7.10 and 2.8.10).
#[test]
fn a_notification_is_never_lost() {
    notification(true);
}

#[test]
#[should_panic(expected = "it sleeps, and nobody tells it")]
fn a_notification_is_lost_without_the_fences() {
    notification(false);
}

/// A packed batch: the first descriptor's flags are written last, so that who sees it used sees all
/// of them (`Packed::write_used`, `Packed::publish`). `first_last`: in that order.
fn batch(first_last: bool) {
    loom::model(move || {
        let flags = Arc::new([AtomicU16::new(0), AtomicU16::new(0)]);
        let device = {
            let flags = Arc::clone(&flags);
            thread::spawn(move || {
                let order = if first_last { [1, 0] } else { [0, 1] };
                for at in order {
                    flags.get(at).unwrap().store(1, Ordering::Release);
                }
            })
        };
        let [first, second] = &*flags;
        if first.load(Ordering::Acquire) == 1 {
            assert_eq!(second.load(Ordering::Acquire), 1, "half a batch is seen");
        }
        device.join().unwrap();
    });
}

#[test]
fn a_batch_is_seen_as_a_whole() {
    batch(true);
}

#[test]
#[should_panic(expected = "half a batch is seen")]
fn half_a_batch_is_seen_in_the_other_order() {
    batch(false);
}

/// `Host::ring` and `Host::heard`: whoever finds the bell rung already leaves its news to be found by
/// who hears it. `reads`: hearing reads the bell, too, and so sees what was there before the ring.
fn bell(reads: bool) {
    loom::model(move || {
        let (rung, news) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
        let ringer = {
            let (rung, news) = (Arc::clone(&rung), Arc::clone(&news));
            thread::spawn(move || {
                news.store(1, Ordering::Relaxed);
                !rung.swap(true, Ordering::AcqRel)
            })
        };
        if reads {
            rung.swap(false, Ordering::AcqRel);
        } else {
            rung.store(false, Ordering::Release);
        }
        let found = news.load(Ordering::Relaxed) == 1;
        let told = ringer.join().unwrap();
        assert!(found || told, "news that nobody hears of");
    });
}

#[test]
fn a_ring_of_the_bell_is_never_lost() {
    bell(true);
}

#[test]
#[should_panic(expected = "news that nobody hears of")]
fn a_ring_is_lost_if_hearing_only_writes() {
    bell(false);
}

/// `memory::fault`: the signal handler looks at a place in the table while another thread takes one
/// mapping out of it and puts the next one in. `twice`: it looks at the length again in the end.
fn table(twice: bool) {
    loom::model(move || {
        // Base and length: from (1, 5) to (2, 6).
        let slot = Arc::new((AtomicU64::new(1), AtomicU64::new(5)));
        let mapper = {
            let slot = Arc::clone(&slot);
            thread::spawn(move || {
                slot.1.store(0, Ordering::Release);
                slot.0.store(0, Ordering::Release);
                let claimed =
                    slot.0.compare_exchange(0, 2, Ordering::AcqRel, Ordering::Relaxed).is_ok();
                slot.1.store(6, Ordering::Release);
                claimed
            })
        };
        let len = slot.1.load(Ordering::Acquire);
        let base = slot.0.load(Ordering::Acquire);
        let whole = !twice || slot.1.load(Ordering::Acquire) == len;
        if len != 0 && base != 0 && whole {
            assert_eq!(len - base, 4, "halves of two mappings");
        }
        assert!(mapper.join().unwrap());
    });
}

#[test]
fn a_mapping_is_found_as_a_whole() {
    table(true);
}

#[test]
#[should_panic(expected = "halves of two mappings")]
fn halves_are_found_without_a_second_look() {
    table(false);
}
