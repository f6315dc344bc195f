//! What the device says about kicks, and that it bears those that come for nothing.

use std::sync::atomic::Ordering;

use framework::engine::Event;
use virtio_spec::features::{EVENT_IDX, RING_PACKED};
use virtio_spec::packed::{EVENT_F_DESC, EVENT_F_DISABLE, EVENT_F_ENABLE, EVENT_FLAGS_OFFSET};
use virtio_spec::split::{USED_F_NO_NOTIFY, USED_FLAGS_OFFSET};

use crate::bench::{BOTH, Bench};

fn split_flags(bench: &mut Bench) -> u16 {
    let area = bench.queue.as_split().unwrap().used_area();
    area.load_u16(USED_FLAGS_OFFSET, Ordering::Relaxed)
}

fn packed_flags(bench: &mut Bench) -> u16 {
    let area = bench.queue.as_packed().unwrap().device_event_area();
    area.load_u16(EVENT_FLAGS_OFFSET, Ordering::Relaxed)
}

/// Runs through busy and idle turns, and collects what `look` sees in each.
fn while_working(bench: &mut Bench, look: fn(&mut Bench) -> u16) -> Vec<u16> {
    let mut seen = Vec::new();
    // What stood there before the device has first said something is the driver's.
    bench.turn();
    bench.turn();
    for round in 0..30 {
        bench.send_empty(round % 4);
        bench.turn();
        seen.push(look(bench));
        bench.turn();
        seen.push(look(bench));
        bench.reap();
    }
    seen.sort_unstable();
    seen.dedup();
    seen
}

/// virtio 1.4, 2.7.10.2: the device is kicked while it sleeps, and need not be while it works.
#[test]
fn without_event_idx_the_flags_are_0_or_1() {
    let seen = while_working(&mut Bench::new(&[]), split_flags);
    assert_eq!(seen, [0, USED_F_NO_NOTIFY]);
}

/// virtio 1.4, 2.7.10.2.
#[test]
fn with_event_idx_the_flags_are_0() {
    assert_eq!(while_working(&mut Bench::new(&[EVENT_IDX]), split_flags), [0]);
}

/// virtio 1.4, 2.8.14.
#[test]
fn a_packed_rings_flags_are_among_those_that_exist() {
    let mut bench = Bench::new(&[RING_PACKED]);
    assert_eq!(while_working(&mut bench, packed_flags), [EVENT_F_ENABLE, EVENT_F_DISABLE]);
    let mut bench = Bench::new(&[RING_PACKED, EVENT_IDX]);
    assert_eq!(while_working(&mut bench, packed_flags), [EVENT_F_DISABLE, EVENT_F_DESC]);
}

/// virtio 1.4, 2.7.10.2.
#[test]
fn kicks_for_nothing_do_nothing() {
    for features in BOTH {
        for event_idx in [&[][..], &[EVENT_IDX]] {
            let mut bench = Bench::new(&[features, event_idx].concat());
            for round in 0..10 {
                bench.plan.lock().events.extend([Event::Kick(0), Event::Kick(0)]);
                let before = bench.queue.has_used();
                bench.turn();
                assert!(!before && !bench.queue.has_used());
                assert_eq!((bench.calls(), bench.failure()), (0, None));
                // Between them requests are served as ever.
                bench.send_empty(1);
                bench.turn();
                assert_eq!(bench.reap().len(), 1, "{round}");
                bench.calls();
            }
            assert_eq!(bench.plan.lock().read.len(), 10);
        }
    }
}

/// vhost-user, "Ring states": a kick is a hint, and what came without one is seen at the start.
#[test]
fn chains_from_before_the_start_need_no_kick() {
    for features in BOTH {
        let mut bench = Bench::stopped(8, features, None);
        bench.send_empty(3);
        bench.start();
        bench.turn();
        assert_eq!(bench.reap().len(), 3);
    }
}
