//! In which order chains are taken and used.

use driver::Placement;
use virtio_spec::features::{IN_ORDER, RING_PACKED};

use crate::bench::{BOTH, Bench};

/// virtio 1.4, 6.2: whatever the order in which the device ends them.
#[test]
fn with_in_order_buffers_are_used_in_the_order_in_which_they_came() {
    for features in [&[IN_ORDER][..], &[IN_ORDER, RING_PACKED]] {
        let mut bench = Bench::new(features);
        bench.plan.lock().at_once = false;
        for round in 0..5 {
            let sent = bench.send_empty(4);
            bench.turn();
            let first = round * 4;
            bench.plan.lock().end = vec![first + 2, first + 3, first + 1];
            bench.turn();
            assert!(!bench.queue.has_used(), "the first is still under way");
            bench.plan.lock().end = vec![first];
            bench.turn();
            let used: Vec<_> = bench.reap().iter().map(|used| used.token).collect();
            assert_eq!(used, sent, "{features:?}");
        }
    }
}

/// virtio 1.4, 6.2: what is in front is used at once, it need not wait for what is behind.
#[test]
fn with_in_order_nothing_waits_for_what_came_later() {
    for features in [&[IN_ORDER][..], &[IN_ORDER, RING_PACKED]] {
        let mut bench = Bench::new(features);
        bench.plan.lock().at_once = false;
        let sent = bench.send_empty(3);
        bench.turn();
        bench.plan.lock().end = vec![0];
        bench.turn();
        assert_eq!(bench.reap().iter().map(|used| used.token).collect::<Vec<_>>(), sent[..1]);
    }
}

/// virtio 1.4, 2.8.12: used descriptors are written in the order in which buffers were completed.
#[test]
fn without_in_order_buffers_are_used_as_they_are_completed() {
    for features in BOTH {
        let mut bench = Bench::new(features);
        bench.plan.lock().at_once = false;
        for round in 0..5 {
            let sent = bench.send_empty(4);
            bench.turn();
            bench.plan.lock().end = [2, 0, 3, 1].map(|n| round * 4 + n).to_vec();
            bench.turn();
            let used: Vec<_> = bench.reap().iter().map(|used| used.token).collect();
            assert_eq!(used, [sent[2], sent[0], sent[3], sent[1]]);
        }
    }
}

/// virtio 1.4, 2.8.12 and 2.8.18: lists are taken as they stand in the ring, and the descriptors of
/// a list as they stand in it, around the end of the ring too.
#[test]
fn descriptors_are_taken_in_the_order_of_the_ring() {
    for features in BOTH {
        let mut bench = Bench::new(features);
        for round in 0..10_u8 {
            let buffers: Vec<_> =
                (0..6_u8).map(|n| bench.memory.alloc_with(&[round * 6 + n]).unwrap()).collect();
            for pair in buffers.chunks(2) {
                let parts = [pair[0].readable(), pair[1].readable()];
                bench.queue.add(&parts, Placement::Direct).unwrap();
            }
            bench.queue.publish();
            bench.turn();
            assert_eq!(bench.reap().len(), 3);
        }
        let read = bench.plan.lock().read.concat();
        assert_eq!(read, (0..60).collect::<Vec<u8>>());
    }
}
