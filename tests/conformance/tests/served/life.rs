//! Status, reset, failure.

use driver::{Cut, Layout, Negotiation, Operation, Placement};
use virtio_spec::Status;
use virtio_spec::split::{DESC_F_NEXT, Descriptor};

use crate::back_end::{BOTH, BackEnd, USUAL, pause, read, submit_read, wait_used};

const RUNNING: Status =
    Status::ACKNOWLEDGE.union(Status::DRIVER).union(Status::FEATURES_OK).union(Status::DRIVER_OK);

/// virtio 1.4, 2.1.2: the front-end starts rings when the driver is ready, and not before.
#[test]
fn nothing_is_used_and_nobody_called_before_the_driver_is_ready() {
    for wanted in BOTH {
        let mut back_end = BackEnd::start().unwatched().negotiated(wanted);
        let mut queue = back_end.block_queue(64);
        let base = queue.queue().reaped_base();
        back_end.front_end.configure_ring(0, queue.queue(), base).unwrap();
        back_end.front_end.enable_ring(0, true).unwrap();
        submit_read(&mut queue, 1);
        pause();
        assert!(!queue.queue().has_used());
        let events = back_end.front_end.start_ring(0, queue.queue(), base).unwrap();
        wait_used(&mut queue);
        drop(events);
        back_end.end();
    }
}

/// virtio 1.4, 2.4.1.
#[test]
fn after_a_reset_the_status_is_zero_and_rings_are_left_alone() {
    for wanted in BOTH {
        for by_status in [false, true] {
            let mut back_end = BackEnd::start().unwatched().negotiated(wanted);
            let mut disk = back_end.disk(0);
            back_end.front_end.set_status(RUNNING).unwrap();
            disk.read(1, 512).unwrap();
            if by_status {
                back_end.front_end.set_status(Status::RESET).unwrap();
            } else {
                back_end.front_end.reset_device().unwrap();
            }
            assert_eq!(back_end.front_end.status().unwrap(), Status::RESET);
            let (mut queue, events) = disk.into_parts();
            events.call.take().unwrap();
            submit_read(&mut queue, 2);
            events.kick.inject().unwrap();
            pause();
            assert!(!queue.queue().has_used());
            assert_eq!(events.call.take().unwrap(), 0);
            assert_eq!(back_end.front_end.status().unwrap(), Status::RESET);
            back_end.end();
        }
    }
}

/// virtio 1.4, 3.4.2: without the feature a driver does not suspend the device, and is not told that
/// it had.
#[test]
fn the_suspend_bit_is_ignored() {
    let mut back_end = BackEnd::start().unwatched().negotiated(USUAL);
    let mut disk = back_end.disk(0);
    for status in [Status::ACKNOWLEDGE, RUNNING] {
        back_end.front_end.set_status(status | Status::SUSPEND).unwrap();
        assert_eq!(back_end.front_end.status().unwrap(), status);
        assert!(disk.read(1, 512).unwrap() == [1; 512]);
    }
    back_end.end();
}

/// virtio 1.4, 2.1.2: the ring is lost until a reset, the driver is told to look, and other rings go
/// on.
#[test]
fn a_broken_ring_asks_for_a_reset_and_says_so() {
    let mut back_end = BackEnd::start().unwatched().negotiated(USUAL);
    back_end.front_end.open_back_channel().unwrap();
    let (disk, mut other) = (back_end.disk(0), back_end.disk(1));
    back_end.front_end.set_status(RUNNING).unwrap();
    let (mut queue, events) = disk.into_parts();
    let split = queue.queue().as_split().unwrap();
    // A chain that bites its own tail.
    split.write_descriptor(5, Descriptor { addr: 4096, len: 16, flags: DESC_F_NEXT, next: 5 });
    split.offer(5);
    split.publish();
    events.kick.inject().unwrap();
    back_end.front_end.wait_for_config_change().unwrap();
    let status = back_end.front_end.status().unwrap();
    assert_eq!(status, RUNNING | Status::DEVICE_NEEDS_RESET);
    assert!(events.wait_for_error(back_end.front_end.deadline()).unwrap());
    assert!(!queue.queue().has_used());
    assert!(other.read(3, 512).unwrap() == [3; 512]);

    back_end.front_end.reset_device().unwrap();
    assert_eq!(back_end.front_end.status().unwrap(), Status::RESET);
    back_end.front_end.negotiate(&Negotiation::new(USUAL)).unwrap();
    assert!(back_end.disk(0).read(4, 512).unwrap() == [4; 512]);
    back_end.end();
}

/// virtio 1.4, 2.1.2: no notification is sent to a driver that is not running.
#[test]
fn before_driver_ok_a_broken_ring_is_not_notified() {
    let mut back_end = BackEnd::start().unwatched().negotiated(USUAL);
    back_end.front_end.open_back_channel().unwrap();
    let (mut queue, events) = back_end.disk(0).into_parts();
    queue.queue().as_split().unwrap().offer(64);
    queue.publish();
    events.kick.inject().unwrap();
    assert!(events.wait_for_error(back_end.front_end.deadline()).unwrap());
    let mut front_end = back_end.front_end.with_limit(crate::back_end::PAUSE);
    assert!(front_end.next_backend_request().is_err());
    assert_eq!(front_end.status().unwrap(), Status::DEVICE_NEEDS_RESET);
}

/// virtio 1.4, 2.6.1.1.1 and 2.6.1.2.1: a queue reset reaches a back-end as a stop; nothing of the
/// queue is remembered, its new size and place count.
#[test]
fn a_queue_that_was_reset_starts_anew_with_another_size() {
    for wanted in BOTH {
        let mut back_end = BackEnd::start().unwatched().negotiated(wanted);
        let mut disk = back_end.disk(0);
        let mut other = back_end.disk(1);
        for sector in 0..70 {
            disk.read(sector, 512).unwrap();
        }
        back_end.front_end.stop_ring(0).unwrap();
        back_end.front_end.enable_ring(0, false).unwrap();
        let (mut queue, events) = disk.into_parts();
        events.call.take().unwrap();
        submit_read(&mut queue, 1);
        events.kick.inject().unwrap();
        pause();
        assert!(!queue.queue().has_used());
        assert_eq!(events.call.take().unwrap(), 0);
        other.read(9, 512).unwrap();

        // In new memory, from the start.
        let mut queue = back_end.block_queue(16);
        let base = queue.queue().reaped_base();
        let events = back_end.front_end.start_ring(0, queue.queue(), base).unwrap();
        for sector in 0..40 {
            submit_read(&mut queue, sector);
            events.kick.inject().unwrap();
            wait_used(&mut queue);
        }
        other.read(9, 512).unwrap();
        back_end.end();
    }
}

/// virtio 1.4, 2.7.4.1 and 2.7.13: what the device is given it completes, whatever it makes of it.
#[test]
fn requests_of_any_layout_are_served() {
    for wanted in BOTH {
        let mut back_end = BackEnd::start().negotiated(wanted);
        let mut disk = back_end.disk(0);
        for placement in [Placement::Direct, Placement::Indirect] {
            for cut in [Cut::Usual, Cut::Whole, Cut::Every(100), Cut::Every(11)] {
                disk = disk.with_layout(Layout { placement, cut });
                assert!(disk.read(7, 512).unwrap() == [7; 512]);
                disk.run(Operation::Flush).unwrap().into_data().unwrap();
            }
            disk.run(read(8)).unwrap().into_data().unwrap();
        }
        back_end.front_end.settle(crate::back_end::PAUSE).unwrap();
        back_end.end();
    }
}
