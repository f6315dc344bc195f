//! Back-ends that die, hang, refuse, or come back as less than they were (HOSTILE: from the
//! back-end, towards the VMM).

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use front_end::{Error, Policy, Socket, Source};
use virtio_pci::Device;
use wire::{Reply, Request};

use crate::back_end::{BackEnd, Reaction};
use crate::guest::{Guest, LONG};

#[test]
fn nobody_there_is_reported_in_words() {
    let guest = Guest::new(Socket::new("/nonexistent/socket"), |_| ());
    let begin = Instant::now();
    let error = guest.device.wait_until_ready(begin + Duration::from_millis(100)).unwrap_err();
    assert!(matches!(error, Error::NotReady { .. }));
    assert!(error.to_string().contains("/nonexistent/socket"), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert_eq!(guest.device.report().state, "waiting");
    assert!(guest.device.stop(Instant::now() + LONG));
}

#[test]
fn a_back_end_that_dies_is_connected_to_again_and_again() {
    let back_end = BackEnd::proper();
    let guest = Guest::ready(back_end.source());
    guest.start(false, 2);
    guest.wait_running();
    for (kick, _) in &guest.events {
        kick.take();
    }
    for losses in 1..4 {
        back_end.cut();
        guest.wait("it has noticed", || guest.device.report().losses == losses);
        guest.wait_running();
        // In case that one died before it called, and a kick went to the other.
        guest.wait("all are kicked and called", || {
            guest.events[..2].iter().all(|(kick, call)| kick.is_signalled() && call.is_signalled())
        });
        for (kick, call) in &guest.events {
            kick.take();
            call.take();
        }
    }
    assert_eq!(back_end.count("GET_INFLIGHT_FD"), 1);
    assert_eq!(back_end.count("SET_INFLIGHT_FD"), 4);
    assert_eq!(guest.told.needs_reset.load(Ordering::SeqCst), 0);
}

#[test]
fn one_that_dies_over_and_over_is_not_connected_to_without_pause() {
    let back_end = BackEnd::scripted(|request, connection| match request {
        Request::SetVringKick { .. } if connection < 100 => Reaction::Close,
        _ => Reaction::Proper,
    });
    let guest = Guest::ready(back_end.source());
    guest.start(false, 1);
    std::thread::sleep(Duration::from_millis(600));
    let attempts = back_end.count("GET_FEATURES");
    assert!((2..12).contains(&attempts), "{attempts}");
    let begin = Instant::now();
    assert!(guest.device.stop(begin + LONG));
    assert!(begin.elapsed() < Duration::from_secs(4));
}

/// A back-end that hangs at one request of its first connection.
fn hangs_at(name: &'static str) -> BackEnd {
    BackEnd::scripted(move |request, connection| {
        if connection == 0 && request.name() == name { Reaction::Hang } else { Reaction::Proper }
    })
}

#[test]
fn one_that_hangs_is_reported_blocks_nobody_and_is_given_up() {
    for name in ["GET_FEATURES", "GET_CONFIG", "SET_VRING_KICK", "SET_FEATURES", "ADD_MEM_REG"] {
        let back_end = hangs_at(name);
        let guest = Guest::new(back_end.source(), |_| ());
        let begin = Instant::now();
        if !matches!(name, "GET_FEATURES" | "GET_CONFIG") {
            guest.device.wait_until_ready(begin + LONG).unwrap();
            guest.start(false, 2);
        }
        guest.wait("it waits", || guest.device.report().waiting_for == Some(name));
        // Whatever a vCPU does now returns at once.
        let calls = Instant::now();
        guest.device.read_config(0, &mut [0; 8]);
        guest.device.write_config(0, &[1]);
        guest.device.is_reset();
        let _ = guest.device.report();
        assert!(calls.elapsed() < Duration::from_millis(250));
        guest.wait("it is given up", || {
            guest.device.report().last_error.is_some_and(|error| error.contains(name))
        });
        guest.device.wait_until_ready(Instant::now() + LONG).unwrap();
        guest.reset();
        guest.start(false, 2);
        guest.wait_running();
    }
}

#[test]
fn a_reset_ends_even_if_the_back_end_hangs_in_it() {
    for name in ["GET_VRING_BASE", "RESET_DEVICE"] {
        let back_end = hangs_at(name);
        let guest = Guest::ready(back_end.source());
        guest.start(false, 2);
        guest.wait_running();
        let begin = Instant::now();
        guest.device.reset();
        assert!(begin.elapsed() < Duration::from_millis(250));
        assert!(!guest.device.is_reset());
        guest.wait("it is reset", || guest.device.is_reset());
        guest.start(false, 2);
        guest.wait_running();
    }
}

#[test]
fn the_end_comes_even_if_the_back_end_hangs_in_it() {
    let back_end = hangs_at("GET_VRING_BASE");
    let guest = Guest::ready(back_end.source());
    guest.start(false, 2);
    guest.wait_running();
    let begin = Instant::now();
    assert!(!guest.device.stop(begin + Duration::from_millis(50)));
    assert!(guest.device.stop(begin + LONG));
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[test]
fn the_policy_says_who_hears_of_a_loss() {
    for policy in [Policy::Stall, Policy::Fail, Policy::Stop] {
        let back_end = BackEnd::proper();
        let guest = Guest::new(back_end.source(), |config| config.policy = policy);
        guest.device.wait_until_ready(Instant::now() + LONG).unwrap();
        guest.start(false, 1);
        guest.wait_running();
        back_end.cut();
        guest.wait("it has noticed", || guest.device.report().losses == 1);
        let told = || {
            let lost = guest.told.lost.lock().unwrap().len();
            (guest.told.needs_reset.load(Ordering::SeqCst), lost)
        };
        let expected = match policy {
            Policy::Stall => (0, 0),
            Policy::Fail => (1, 0),
            Policy::Stop => (0, 1),
        };
        guest.wait("the right ones are told", || told() == expected);
        // In any case the device can be used again.
        guest.reset();
        guest.start(false, 1);
        guest.wait_running();
        assert_eq!(told(), expected);
    }
}

#[test]
fn a_ring_that_the_back_end_refuses_needs_a_reset() {
    let refuse = Arc::new(AtomicBool::new(true));
    let refuses = Arc::clone(&refuse);
    let back_end = BackEnd::scripted(move |request, _| match request {
        Request::SetVringKick { index: 1, .. } if refuses.load(Ordering::SeqCst) => {
            Reaction::Send(Reply::Ack(1).encode(request.code()))
        }
        _ => Reaction::Proper,
    });
    let guest = Guest::ready(back_end.source());
    guest.start(false, 2);
    guest.wait("it is told", || guest.told.needs_reset.load(Ordering::SeqCst) == 1);
    guest.wait("the other runs", || guest.device.report().queues[0].state == "running");
    assert_eq!(guest.device.report().queues[1].state, "refused");
    refuse.store(false, Ordering::SeqCst);
    guest.reset();
    guest.start(false, 2);
    guest.wait_running();
    assert_eq!(guest.device.report().losses, 0);
}

#[test]
fn one_that_comes_back_with_less_is_not_used() {
    let back_end = BackEnd::scripted(|request, connection| match request {
        Request::GetFeatures if connection == 1 => {
            let bits = crate::back_end::features() & !(1 << virtio_spec::features::RING_RESET);
            Reaction::Send(Reply::U64(bits).encode(request.code()))
        }
        Request::GetQueueNum if connection == 2 => {
            Reaction::Send(Reply::U64(1).encode(request.code()))
        }
        _ => Reaction::Proper,
    });
    let guest = Guest::ready(back_end.source());
    guest.start(false, 2);
    guest.wait_running();
    back_end.cut();
    guest.wait("the fourth is good", || back_end.count("GET_FEATURES") == 4);
    guest.wait_running();
    assert_eq!(back_end.count("SET_VRING_KICK"), 4);
}

/// Counts how often it was said that the back-end is to be ended.
struct Counting {
    socket: Socket,
    given_up: Arc<AtomicU32>,
}

impl Source for Counting {
    fn connect(&mut self, deadline: Instant) -> io::Result<OwnedFd> {
        self.socket.connect(deadline)
    }

    fn give_up(&mut self) -> bool {
        // Processes take their time to die.
        std::thread::sleep(Duration::from_millis(20));
        self.given_up.fetch_add(1, Ordering::SeqCst);
        true
    }

    fn describe(&self) -> String {
        self.socket.describe()
    }
}

#[test]
fn the_owner_hears_of_one_that_hangs_but_not_of_one_that_leaves() {
    for (back_end, expected) in [(hangs_at("SET_FEATURES"), 1), (BackEnd::proper(), 0)] {
        let given_up = Arc::new(AtomicU32::new(0));
        let source = Counting { socket: back_end.source(), given_up: Arc::clone(&given_up) };
        let guest = Guest::ready(source);
        guest.start(false, 1);
        if expected == 0 {
            guest.wait_running();
            back_end.cut();
        }
        guest.wait("it is lost", || guest.device.report().losses == 1);
        guest.wait_running();
        assert_eq!(given_up.load(Ordering::SeqCst), expected);
    }
}

/// Class: an asynchronous operation outlives its buffer or mapping. What follows a reset may be
/// another kernel in the same memory.
#[test]
fn a_reset_is_not_over_before_one_that_hangs_is_ended() {
    let back_end = hangs_at("GET_VRING_BASE");
    let given_up = Arc::new(AtomicU32::new(0));
    let source = Counting { socket: back_end.source(), given_up: Arc::clone(&given_up) };
    let guest = Guest::ready(source);
    guest.start(false, 1);
    guest.wait_running();
    guest.device.reset();
    guest.wait("the reset is over", || guest.device.is_reset());
    assert_eq!(given_up.load(Ordering::SeqCst), 1);
}

/// Class: a back-end that hangs. One that takes almost all of the time for each of many rings would
/// hang as long as it likes.
#[test]
fn all_rings_together_have_the_time_to_stop() {
    let back_end = BackEnd::scripted(|request, _| {
        if request.name() == "GET_VRING_BASE" {
            std::thread::sleep(Duration::from_millis(70));
        }
        Reaction::Proper
    });
    let guest = Guest::new(back_end.source(), |config| {
        config.limits.drain = Duration::from_millis(100);
    });
    guest.device.wait_until_ready(Instant::now() + LONG).unwrap();
    guest.start(false, 2);
    guest.wait_running();
    guest.device.reset();
    guest.wait("the reset is over", || guest.device.is_reset());
    assert_eq!(guest.device.report().losses, 1);
}
