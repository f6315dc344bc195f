//! When the driver is called for used buffers, and when not.

use std::sync::atomic::Ordering;

use driver::Split;
use virtio_spec::features::{EVENT_IDX, RING_PACKED};
use virtio_spec::packed::Position;
use virtio_spec::split::{AVAIL_F_NO_INTERRUPT, AVAIL_FLAGS_OFFSET, used_event_offset};

use crate::bench::Bench;

fn set_flags(bench: &mut Bench, flags: u16) {
    let area = split(bench).available_area();
    area.store_u16(AVAIL_FLAGS_OFFSET, flags, Ordering::Relaxed);
}

fn set_event(bench: &mut Bench, event: u16) {
    let area = split(bench).available_area();
    area.store_u16(used_event_offset(8), event, Ordering::Relaxed);
}

fn split(bench: &mut Bench) -> &mut Split {
    bench.queue.as_split().unwrap()
}

/// Sends so many chains that are used in one batch, and counts the calls.
fn calls_for(bench: &mut Bench, count: usize) -> u64 {
    bench.send_empty(count);
    bench.turn();
    let calls = bench.calls();
    while bench.queue.has_used() {
        // Not by way of `reap`, which would say anew what is to be called for.
        bench.queue.reap().unwrap();
    }
    calls
}

/// virtio 1.4, 2.7.7.2.
#[test]
fn without_event_idx_the_flag_decides_about_calls() {
    let mut bench = Bench::new(&[]);
    for (flags, calls) in [(0, 1), (AVAIL_F_NO_INTERRUPT, 0), (0, 1)] {
        for count in 1..=3 {
            set_flags(&mut bench, flags);
            assert_eq!(calls_for(&mut bench, count), calls, "flags {flags}, {count} used");
        }
    }
}

/// virtio 1.4, 2.7.7.2.
#[test]
fn without_event_idx_the_event_is_ignored() {
    let mut bench = Bench::new(&[]);
    for event in 0..20 {
        set_flags(&mut bench, 0);
        set_event(&mut bench, event);
        assert_eq!(calls_for(&mut bench, 1), 1, "event {event}");
        set_flags(&mut bench, AVAIL_F_NO_INTERRUPT);
        let used = split(&mut bench).used_index();
        set_event(&mut bench, used);
        assert_eq!(calls_for(&mut bench, 1), 0);
    }
}

/// virtio 1.4, 2.7.7.2.
#[test]
fn with_event_idx_the_flag_is_ignored() {
    let mut bench = Bench::new(&[EVENT_IDX]);
    for flags in [AVAIL_F_NO_INTERRUPT, 0] {
        set_flags(&mut bench, flags);
        let used = split(&mut bench).used_index();
        set_event(&mut bench, used);
        assert_eq!(calls_for(&mut bench, 1), 1, "flags {flags}");
        set_flags(&mut bench, flags);
        let used = split(&mut bench).used_index();
        set_event(&mut bench, used.wrapping_sub(1));
        assert_eq!(calls_for(&mut bench, 1), 0, "flags {flags}");
    }
}

/// virtio 1.4, 2.7.7.2: the batch that covers the event's place is called for, no other one is.
#[test]
fn with_event_idx_the_driver_is_called_when_its_place_is_used() {
    for count in 1..=4_u16 {
        for ahead in 0..6_u16 {
            let mut bench = Bench::new(&[EVENT_IDX]);
            // Past the wrap of the index, too.
            for round in 0..3 {
                let used = split(&mut bench).used_index();
                set_event(&mut bench, used.wrapping_add(ahead));
                let expected = u64::from(ahead < count);
                let calls = calls_for(&mut bench, count.into());
                assert_eq!(calls, expected, "{count} used, the {ahead}-th asked for, {round}");
            }
        }
    }
}

/// virtio 1.4, 2.8.10: ENABLE, DISABLE, and DESC with a place.
#[test]
fn a_packed_rings_driver_is_called_as_it_asks() {
    let mut bench = Bench::new(&[RING_PACKED]);
    for _ in 0..5 {
        bench.queue.enable_calls();
        assert_eq!(calls_for(&mut bench, 3), 1);
        bench.queue.disable_calls();
        assert_eq!(calls_for(&mut bench, 3), 0);
    }
}

/// virtio 1.4, 2.8.10: the place that is asked for may lie behind the end of the ring.
#[test]
fn with_event_idx_a_packed_rings_driver_is_called_when_its_place_is_used() {
    for count in 1..=4_u16 {
        for ahead in 0..6_u16 {
            let mut bench = Bench::new(&[RING_PACKED, EVENT_IDX]);
            // Every place of the ring in turn, and every wrap counter.
            for round in 0..20 {
                bench.queue.disable_calls();
                let packed = bench.queue.as_packed().unwrap();
                let at: Position = packed.reaped().advance(ahead, 8);
                packed.call_at(at);
                let expected = u64::from(ahead < count);
                let calls = calls_for(&mut bench, count.into());
                assert_eq!(calls, expected, "{count} used, the {ahead}-th asked for, {round}");
            }
        }
    }
}
