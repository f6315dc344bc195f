//! Calls that are held back.

use framework::worker::Command;
use virtio_spec::net::control::{Coalesce, Command as Kind};
use virtio_spec::net::{CTRL_VQ, Header, NOTF_COAL, VQ_NOTF_COAL};

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

/// Lets frames arrive; gives how often the driver was called before any time had passed.
fn calls_at_once(guest: &mut Guest, frames: usize) -> u64 {
    let before = guest.receive_calls();
    (0..frames).for_each(|_| guest.arrive(Header::default(), &frame(60)));
    guest.command(0, Command::Nudge);
    guest.turn();
    assert!(guest.queue(0, 0).has_used(), "what is used is shown at once");
    guest.receive_calls() - before
}

#[test]
fn a_driver_is_called_after_so_many_packets() {
    for (frames, calls) in [(1, 0), (2, 0), (3, 1), (5, 1)] {
        assert_eq!(calls_at_once(&mut guest(3, 1000), frames), calls, "{frames}");
    }
}

#[test]
fn a_held_call_is_made_when_its_time_has_come() {
    let mut guest = guest(1000, 500);
    assert_eq!(calls_at_once(&mut guest, 2), 0);
    // Where nothing else happens, time leaps to the timer.
    guest.run();
    assert_eq!(guest.receive_calls(), 1);
    assert!(guest.next_received().is_some() && guest.next_received().is_some());
}

#[test]
fn without_a_time_or_a_number_nothing_is_held_back() {
    for (packets, time) in [(0, 1000), (1000, 0), (0, 0)] {
        assert_eq!(calls_at_once(&mut guest(packets, time), 1), 1);
    }
}

#[test]
fn settings_that_change_hold_at_once() {
    let mut guest = guest(15, 1000);
    assert_eq!(calls_at_once(&mut guest, 2), 0);
    let command =
        [&Kind::CoalesceRxSet.header().to_bytes()[..], &[2, 0, 0, 0, 9, 0, 0, 0]].concat();
    guest.ask_control(&command);
    guest.command(0, Command::Nudge);
    guest.turn();
    assert_eq!(guest.receive_calls(), 1);
}

#[test]
fn a_ring_that_stops_owes_no_call() {
    let mut guest = guest(15, 1000);
    assert_eq!(calls_at_once(&mut guest, 2), 0);
    guest.command(0, Command::Stop { queue: 0 });
    guest.turn();
    assert_eq!(guest.receive_calls(), 1);
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
