//! Calls that are held back.

use std::time::Duration;

use virtio_spec::net::control::{Coalesce, Command as Kind};
use virtio_spec::net::{CTRL_VQ, NOTF_COAL, VQ_NOTF_COAL};

use crate::guest::{Guest, Setup, frame};

fn guest(max_packets: u32, max_usecs: u32) -> Guest {
    let mut guest = Setup::with(&[CTRL_VQ, NOTF_COAL, VQ_NOTF_COAL]).start();
    for _ in 0..40 {
        guest.post(&[2000]);
    }
    coalesce(&mut guest, max_packets, max_usecs);
    guest
}

fn coalesce(guest: &mut Guest, max_packets: u32, max_usecs: u32) {
    guest.set(Kind::CoalesceRxSet, &Coalesce { max_packets, max_usecs }.to_bytes());
}

/// Lets a frame arrive; gives how often the driver was called for it.
fn calls_for_one(guest: &mut Guest) -> u64 {
    guest.queue(0, 0).enable_calls();
    let before = guest.receive_calls();
    assert!(guest.receive(&frame(60)).is_some(), "what is used is shown at once");
    guest.receive_calls() - before
}

#[test]
fn a_driver_is_called_after_so_many_packets() {
    let mut guest = guest(3, 1_000_000_000);
    let calls: Vec<u64> = (0..6).map(|_| calls_for_one(&mut guest)).collect();
    assert_eq!(calls, [0, 0, 1, 0, 0, 1]);
}

#[test]
fn without_a_time_or_a_number_nothing_is_held_back() {
    for (packets, time) in [(0, 1000), (1000, 0), (0, 0)] {
        let mut guest = guest(packets, time);
        assert_eq!((calls_for_one(&mut guest), calls_for_one(&mut guest)), (1, 1));
    }
}

#[test]
fn settings_that_change_hold_at_once() {
    let mut guest = guest(15, 1_000_000_000);
    assert_eq!((calls_for_one(&mut guest), calls_for_one(&mut guest)), (0, 0));
    let before = guest.receive_calls();
    coalesce(&mut guest, 2, 1_000_000_000);
    assert_eq!(guest.receive_calls(), before + 1);
}

#[test]
fn each_queue_tells_its_own_settings() {
    let mut guest = guest(7, 9);
    let ask = |guest: &mut Guest, queue: u16| {
        let header = Kind::CoalesceQueueGet.header().to_bytes();
        guest.ask(&[&header[..], &queue.to_le_bytes(), &[0; 2]].concat(), &[2, 1], &[1, 3, 5])
    };
    let expected = [&[0][..], &Coalesce { max_packets: 7, max_usecs: 9 }.to_bytes()].concat();
    assert_eq!(ask(&mut guest, 0), expected);
    assert_eq!(ask(&mut guest, 1), [0; 9]);
    assert_eq!(ask(&mut guest, 2), [1], "there is no such queue");
}

#[test]
fn a_held_call_is_made_when_its_time_has_come() {
    let mut guest = guest(1000, 500);
    guest.queue(0, 0).enable_calls();
    let before = guest.receive_calls();
    guest.receive(&frame(60)).unwrap();
    guest.advance(Duration::from_micros(600));
    assert_eq!(guest.receive_calls(), before + 1);
}
