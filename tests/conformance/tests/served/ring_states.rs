//! Rings are stopped or started, and beside that enabled or disabled (vhost-user, "Ring states").

use driver::{Event, Negotiation};
use virtio_spec::features::mask;
use virtio_spec::vhost_user::{F_PROTOCOL_FEATURES, VringState};
use wire::{Reply, Request};

use crate::back_end::{BOTH, BackEnd, USUAL, pause, submit_read, wait_used};

/// While it is stopped, a ring is not processed, enabled or not.
#[test]
fn a_stopped_ring_is_not_processed() {
    for wanted in BOTH {
        let mut back_end = BackEnd::start().unwatched().negotiated(wanted);
        let mut disk = back_end.disk(0);
        disk.read(0, 512).unwrap();
        let base = back_end.front_end.stop_ring(0).unwrap();
        let (mut queue, events) = disk.into_parts();
        events.call.take().unwrap();
        for enable in [true, false, true] {
            back_end.front_end.enable_ring(0, enable).unwrap();
            submit_read(&mut queue, 1);
            events.kick.inject().unwrap();
            pause();
            assert!(!queue.queue().has_used());
            assert_eq!(events.call.take().unwrap(), 0);
        }
        // It starts again where it stopped.
        assert_eq!(base, queue.queue().reaped_base());
        let events = back_end.front_end.start_ring(0, queue.queue(), base).unwrap();
        for _ in 0..3 {
            wait_used(&mut queue);
        }
        drop(events);
        back_end.end();
    }
}

/// A ring begins disabled; what was said about that while it was stopped counts when it starts.
#[test]
fn rings_are_disabled_until_they_are_enabled() {
    for wanted in BOTH {
        let mut back_end = BackEnd::start().unwatched().negotiated(wanted);
        let mut queue = back_end.block_queue(16);
        let base = queue.queue().reaped_base();
        back_end.front_end.configure_ring(0, queue.queue(), base).unwrap();
        submit_read(&mut queue, 1);
        let kick = Event::new().unwrap();
        let started = Request::SetVringKick { index: 0, fd: Some(kick.share().unwrap()) };
        back_end.front_end.call(started).unwrap();
        kick.inject().unwrap();
        pause();
        assert!(!queue.queue().has_used(), "it is disabled");
        // No kick is needed for what came before.
        back_end.front_end.enable_ring(0, true).unwrap();
        wait_used(&mut queue);

        back_end.front_end.enable_ring(0, false).unwrap();
        submit_read(&mut queue, 2);
        kick.inject().unwrap();
        pause();
        assert!(!queue.queue().has_used(), "it is disabled again");
        let stopped = back_end.front_end.stop_ring(0).unwrap();
        back_end.front_end.enable_ring(0, true).unwrap();
        back_end.front_end.configure_ring(0, queue.queue(), stopped).unwrap();
        let started = Request::SetVringKick { index: 0, fd: Some(kick.share().unwrap()) };
        back_end.front_end.call(started).unwrap();
        wait_used(&mut queue);
        back_end.end();
    }
}

/// Front-ends should kick after SET_VRING_KICK; nobody relies on it.
#[test]
fn a_ring_is_looked_at_when_it_starts_without_any_kick() {
    for wanted in BOTH {
        let mut back_end = BackEnd::start().unwatched().negotiated(wanted);
        let mut queue = back_end.block_queue(16);
        submit_read(&mut queue, 1);
        let base = queue.queue().reaped_base();
        back_end.front_end.configure_ring(0, queue.queue(), base).unwrap();
        back_end.front_end.enable_ring(0, true).unwrap();
        let kick = Event::new().unwrap();
        let started = Request::SetVringKick { index: 0, fd: Some(kick.share().unwrap()) };
        back_end.front_end.call(started).unwrap();
        wait_used(&mut queue);
        back_end.end();
    }
}

/// A front-end that takes no protocol features has no SET_VRING_ENABLE.
#[test]
fn without_protocol_features_every_ring_is_enabled() {
    let mut back_end = BackEnd::start().unwatched();
    back_end.front_end.negotiate(&Negotiation::new(USUAL)).unwrap();
    let features = back_end.front_end.negotiated().bits() & !mask(F_PROTOCOL_FEATURES);
    back_end.front_end.call(Request::SetFeatures(features)).unwrap();
    back_end.front_end.share_memory().unwrap();
    for index in 0..2 {
        let mut queue = back_end.block_queue(16);
        submit_read(&mut queue, 1);
        back_end.front_end.configure_ring(index, queue.queue(), 0).unwrap();
        let kick = Event::new().unwrap();
        let started = Request::SetVringKick { index, fd: Some(kick.share().unwrap()) };
        back_end.front_end.call(started).unwrap();
        wait_used(&mut queue);
    }
    back_end.end();
}

/// vhost-user, GET_VRING_BASE: what is in flight is completed first, and the reply says where the
/// ring stands: the index and nothing else.
#[test]
fn stopping_completes_what_is_in_flight() {
    for wanted in BOTH {
        let mut back_end = BackEnd::start().negotiated(wanted);
        let mut queue = back_end.block_queue(64);
        let base = queue.queue().reaped_base();
        let events = back_end.front_end.start_ring(0, queue.queue(), base).unwrap();
        for sector in 0..20 {
            queue.submit(crate::back_end::read(sector), &driver::Layout::default()).unwrap();
        }
        if queue.publish() {
            events.kick.signal().unwrap();
        }
        wait_used(&mut queue);
        let stopped = back_end.front_end.stop_ring(0).unwrap();
        while queue.reap().unwrap().is_some() {}
        let reaped = queue.queue().reaped_base();
        assert_eq!(stopped, reaped, "everything that was taken has ended");
        if wanted == BOTH[0] {
            assert!(stopped <= 20);
        }
        back_end.end();
    }
}

/// vhost-user, GET_VRING_BASE of a ring that never ran: what was set.
#[test]
fn a_ring_that_never_ran_stops_where_it_was_to_start() {
    let mut back_end = BackEnd::start().negotiated(USUAL);
    back_end.front_end.call(Request::SetVringBase(VringState { index: 1, num: 77 })).unwrap();
    match back_end.front_end.call(Request::GetVringBase { index: 1 }).unwrap() {
        Reply::VringState(state) => assert_eq!(state, VringState { index: 1, num: 77 }),
        other => panic!("{other:?}"),
    }
    back_end.end();
}

/// vhost-user, SET_VRING_BASE: a split ring goes on at the used index that stands in memory.
#[test]
fn the_used_index_of_a_split_ring_comes_from_memory() {
    let mut back_end = BackEnd::start().unwatched().negotiated(USUAL);
    let mut disk = back_end.disk(0);
    for sector in 0..10 {
        disk.read(sector, 512).unwrap();
    }
    back_end.front_end.stop_ring(0).unwrap();
    let (mut queue, _) = disk.into_parts();
    let events = back_end.front_end.start_ring(0, queue.queue(), 10).unwrap();
    submit_read(&mut queue, 11);
    events.kick.inject().unwrap();
    wait_used(&mut queue);
    assert_eq!(queue.queue().as_split().unwrap().used_index(), 11);
    back_end.end();
}
