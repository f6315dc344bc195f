//! Kicks, calls and errors, and that they can be changed while a ring runs.

use driver::{Event, Negotiation};
use virtio_spec::vhost_user::ProtocolFeatures;
use wire::{BackendRequest, Request};

use crate::back_end::{BOTH, BackEnd, USUAL, pause, submit_read, wait_used};

/// vhost-user, "Ring states": some aspects change while a ring is processed.
#[test]
fn kick_call_and_error_change_while_a_ring_runs() {
    for wanted in BOTH {
        let mut back_end = BackEnd::start().unwatched().negotiated(wanted);
        let (mut queue, old) = back_end.disk(0).into_parts();
        submit_read(&mut queue, 0);
        old.kick.inject().unwrap();
        wait_used(&mut queue);
        let (kick, call) = (Event::new().unwrap(), Event::new().unwrap());
        let front_end = &mut back_end.front_end;
        let fd = Some(call.share().unwrap());
        front_end.call(Request::SetVringCall { index: 0, fd }).unwrap();
        let fd = Some(kick.share().unwrap());
        front_end.call(Request::SetVringKick { index: 0, fd }).unwrap();
        front_end.call(Request::SetVringErr { index: 0, fd: None }).unwrap();
        old.call.take().unwrap();
        assert!(!queue.queue().enable_calls());
        submit_read(&mut queue, 1);
        kick.inject().unwrap();
        assert!(call.wait(front_end.deadline()).unwrap());
        wait_used(&mut queue);
        assert_eq!(old.call.take().unwrap(), 0);
        back_end.end();
    }
}

/// vhost-user, SET_VRING_CALL: without a descriptor the driver polls.
#[test]
fn without_a_call_descriptor_requests_are_used_silently() {
    let mut back_end = BackEnd::start().unwatched().negotiated(USUAL);
    let (mut queue, events) = back_end.disk(0).into_parts();
    back_end.front_end.call(Request::SetVringCall { index: 0, fd: None }).unwrap();
    events.call.take().unwrap();
    for sector in 0..5 {
        submit_read(&mut queue, sector);
        events.kick.inject().unwrap();
        wait_used(&mut queue);
    }
    assert_eq!(events.call.take().unwrap(), 0);
    back_end.end();
}

/// vhost-user, SET_VRING_KICK: without a descriptor the back-end polls.
#[test]
fn without_a_kick_descriptor_the_ring_is_polled() {
    for wanted in BOTH {
        let mut back_end = BackEnd::start().unwatched().negotiated(wanted);
        let mut queue = back_end.block_queue(16);
        let base = queue.queue().reaped_base();
        back_end.front_end.configure_ring(0, queue.queue(), base).unwrap();
        back_end.front_end.enable_ring(0, true).unwrap();
        back_end.front_end.call(Request::SetVringKick { index: 0, fd: None }).unwrap();
        for sector in 0..3 {
            pause();
            submit_read(&mut queue, sector);
            wait_used(&mut queue);
        }
        back_end.front_end.stop_ring(0).unwrap();
        back_end.end();
    }
}

/// virtio 1.4, 2.7.10.2: the block device bears kicks for nothing.
#[test]
fn kicks_for_nothing_are_borne() {
    for wanted in BOTH {
        let mut back_end = BackEnd::start().unwatched().negotiated(wanted);
        let mut disk = back_end.disk(0);
        for sector in 0..20 {
            for _ in 0..sector {
                disk.notifier().kick.inject().unwrap();
            }
            disk.read(sector, 512).unwrap();
        }
        back_end.end();
    }
}

/// vhost-user, "In-band notifications": a descriptor goes before messages.
#[test]
fn a_call_descriptor_is_preferred_to_messages() {
    let mut back_end = BackEnd::with(&["--inband"]).unwatched();
    let wanted = Negotiation::new(USUAL).with_protocol(ProtocolFeatures::all());
    back_end.front_end.negotiate(&wanted).unwrap();
    back_end.front_end.share_memory().unwrap();
    back_end.front_end.open_back_channel().unwrap();
    let (mut queue, events) = back_end.disk(0).into_parts();
    assert!(!queue.queue().enable_calls());
    submit_read(&mut queue, 1);
    back_end.front_end.kick_in_band(0).unwrap();
    assert!(events.call.wait(back_end.front_end.deadline()).unwrap());
    wait_used(&mut queue);
    // The ring's error descriptor too: no message tells of its failure.
    queue.queue().as_split().unwrap().offer(u16::MAX);
    queue.publish();
    back_end.front_end.kick_in_band(0).unwrap();
    assert!(events.wait_for_error(back_end.front_end.deadline()).unwrap());
    let mut front_end = back_end.front_end.with_limit(crate::back_end::PAUSE);
    assert!(front_end.next_backend_request().is_err());
}

/// vhost-user, VRING_CALL and VRING_ERR of the back-end.
#[test]
fn calls_and_errors_are_messages_where_there_is_no_descriptor() {
    let mut back_end = BackEnd::with(&["--inband"]).unwatched();
    let wanted = Negotiation::new(USUAL).with_protocol(ProtocolFeatures::all());
    back_end.front_end.negotiate(&wanted).unwrap();
    back_end.front_end.share_memory().unwrap();
    back_end.front_end.open_back_channel().unwrap();
    let mut queue = back_end.block_queue(16);
    back_end.front_end.configure_ring(1, queue.queue(), 0).unwrap();
    back_end.front_end.enable_ring(1, true).unwrap();
    assert!(!queue.queue().enable_calls());
    submit_read(&mut queue, 1);
    back_end.front_end.kick_in_band(1).unwrap();
    let request = back_end.front_end.next_backend_request().unwrap();
    assert_eq!(request, BackendRequest::VringCall { index: 1 });
    wait_used(&mut queue);
    queue.queue().as_split().unwrap().offer(u16::MAX);
    queue.publish();
    back_end.front_end.kick_in_band(1).unwrap();
    let request = back_end.front_end.next_backend_request().unwrap();
    assert_eq!(request, BackendRequest::VringErr { index: 1 });
    back_end.end();
}
