//! Classes of HOSTILE input, each by its name.

use std::fs::File;
use std::io::Write;
use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use driver::{Notifier, Placement};
use rustix::event::{EventfdFlags, epoll, eventfd};
use virtio_spec::console::{CONTROL_RECEIVE_QUEUE, CONTROL_TRANSMIT_QUEUE, Control, ControlEvent};

use crate::guest::{Guest, scene};
use crate::process::{Daemon, read_until};

/// console: unbounded output while nobody reads (CVE-2016-5403, firecracker#2177).
#[test]
fn unbounded_output_while_nobody_reads() {
    let daemon = Daemon::start(&["--port=name=con,backend=unix:@/con.sock"]);
    let mut guest = Guest::connect(&daemon, &[0]);
    guest.set_up(&[0]);
    guest.write(0, &[b'x'; 1 << 20]);
    let before = daemon.memory();
    for _ in 0..200 {
        guest.write(0, &[b'x'; 1 << 20]);
    }
    assert!(daemon.memory() < before + 1024, "{} KiB after {before}", daemon.memory());
    let port = daemon.port("con");
    assert!(port["line"]["dropped_bytes"].as_u64().unwrap() > 190 << 20, "{port}");
    assert_eq!(port["line"]["waiting_bytes"], 64 << 10);
}

/// console: a peer that never reads neither spins the device nor fills its memory.
#[test]
fn a_peer_that_never_reads_costs_nothing() {
    let daemon = Daemon::start(&["--port=backend=null", "--port=name=a,backend=unix:@/a.sock"]);
    let mut guest = Guest::connect(&daemon, &[0, 1]);
    guest.set_up(&[1]);
    let mut peer = daemon.connect("a.sock");
    let mut written = 0;
    loop {
        guest.put(1, &[b'x'; 64 << 10]);
        written += 64 << 10;
        if !guest.taken(1, Duration::from_millis(200)) {
            break;
        }
        assert!(written < 64 << 20, "somebody takes it all");
    }
    let before = daemon.ticks();
    std::thread::sleep(Duration::from_millis(500));
    assert!(daemon.ticks() - before < 5, "it is busy");
    let mut left = written;
    let mut bytes = vec![0; 1 << 20];
    while left > 0 {
        left -= std::io::Read::read(&mut peer, &mut bytes).unwrap();
    }
    assert!(guest.taken(1, Duration::from_secs(10)));
}

/// console: a peer that writes to a port which nobody in the guest has open waits; it is neither read
/// without bound nor polled.
#[test]
fn a_peer_that_is_not_heard_costs_nothing() {
    let daemon = Daemon::start(&["--port=backend=null", "--port=name=a,backend=unix:@/a.sock"]);
    let mut guest = Guest::connect(&daemon, &[0, 1]);
    guest.set_up(&[]);
    guest.listen(1, 4);
    let mut peer = daemon.connect("a.sock");
    peer.write_all(b"anybody?").unwrap();
    let before = daemon.ticks();
    std::thread::sleep(Duration::from_millis(500));
    assert!(daemon.ticks() - before < 5, "it is busy");
    guest.say(1, ControlEvent::PortOpen, 1);
    assert_eq!(guest.hear(1).unwrap(), b"anybody?");
}

/// console: control messages that are too short, too long, or about nothing.
#[test]
fn control_messages_of_any_shape() {
    let daemon = Daemon::start(&["--port=name=con,backend=unix:@/con.sock"]);
    let mut guest = Guest::connect(&daemon, &[0]);
    for length in [1, 7, 9, 4096] {
        guest.say_bytes(&vec![0xff; length]);
    }
    guest.say(u32::MAX, ControlEvent::PortReady, 1);
    // Buffers that no message fits into go back, and those behind them serve.
    guest.set_up(&[0]);
    for size in [1, 7] {
        guest.offer(CONTROL_RECEIVE_QUEUE, size);
    }
    let mut peer = daemon.connect("con.sock");
    guest.write(0, b"alive");
    assert_eq!(read_until(&mut peer, "alive"), "alive");
    assert!(
        daemon.control(r#"{"cmd":"stats"}"#)["device_stats"]["refused_messages"].as_u64().unwrap()
            >= 5
    );
}

/// console: writes to ports that do not exist are taken, and go nowhere.
#[test]
fn output_of_ports_that_are_not_there() {
    let daemon = Daemon::start(&["--port=name=con,backend=null"]);
    let mut guest = Guest::connect(&daemon, &[0, 7]);
    guest.set_up(&[]);
    guest.write(7, &[b'x'; 100_000]);
    guest.write(0, b"and on");
}

/// console: a chain of half a gigabyte, which the same few pages are, keeps nobody else waiting. When its
/// queue stops, what is left of it is counted.
#[test]
fn a_chain_that_seems_endless() {
    const PIECES: usize = 60;
    let (daemon, mut guest) =
        scene(&["--port=backend=null", "--port=name=f,backend=file:/dev/null"], &[0, 1]);
    let buffer = guest.memory.alloc(8 << 20).unwrap();
    let parts: Vec<_> = (0..PIECES).map(|_| buffer.readable()).collect();
    let line = guest.line(5);
    line.queue.add(&parts, Placement::Direct).unwrap();
    assert!(line.queue.publish());
    guest.line(5).events.kick().unwrap();
    guest.write(0, b"others have their turn");
    let done = |port: &serde_json::Value| {
        let count = |key: &str| port["line"]["counts"][key].as_u64().unwrap();
        (count("recorded"), count("lost"))
    };
    let all = (PIECES * buffer.len()) as u64;
    assert!(done(&daemon.port("f")).0 < all, "they had it after half a gigabyte");
    guest.front_end.stop_ring(5).unwrap();
    let (recorded, lost) = done(&daemon.port("f"));
    assert!(lost > 0 && recorded + lost == all, "{recorded} {lost}");
}

/// console: many control messages at once are one change of what is kept, and the last one counts.
#[test]
fn a_flood_of_control_messages() {
    let mut daemon = Daemon::start(&["--port=name=con,backend=null", "--state-path=@/state"]);
    let mut guest = Guest::connect(&daemon, &[0]);
    guest.set_up(&[0]);
    for turn in 0..50 {
        let memory = guest.memory.clone();
        let line = guest.line(CONTROL_TRANSMIT_QUEUE);
        for number in 0..60 {
            let value = (number + turn) % 2;
            let message = Control { id: 0, event: ControlEvent::PortOpen as u16, value };
            line.put(&memory, &message.to_bytes());
        }
        while line.queue.in_flight() > 0 {
            assert!(line.used(driver::Deadline::after(crate::process::MOMENT)).is_some());
        }
        let open = (59 + turn) % 2 == 1;
        assert_eq!(daemon.port("con")["guest_open"], open);
    }
    daemon.crash();
    guest.reconnect(&daemon);
    assert_eq!(daemon.port("con")["guest_open"], false);
}

/// console: descriptors of every wrong kind, for every command that takes one.
#[test]
fn descriptors_that_are_nothing_to_attach() {
    let (daemon, mut guest) =
        scene(&["--port=name=con,backend=null", "--port=name=f,backend=file:@/f"], &[0, 1]);
    let read_only = daemon.path("read-only");
    std::fs::write(&read_only, b"what is in it").unwrap();
    let kinds: Vec<(&str, OwnedFd)> = vec![
        ("directory", File::open(daemon.path(".")).unwrap().into()),
        ("null", File::open("/dev/null").unwrap().into()),
        ("full", File::options().write(true).open("/dev/full").unwrap().into()),
        ("read-only", File::open(read_only).unwrap().into()),
        ("datagrams", UdpSocket::bind("127.0.0.1:0").unwrap().into()),
        ("eventfd", eventfd(0, EventfdFlags::CLOEXEC).unwrap()),
        ("epoll", epoll::create(epoll::CreateFlags::CLOEXEC).unwrap()),
    ];
    for (kind, fd) in &kinds {
        for line in [
            r#"{"cmd":"attach","name":"con","take":true}"#.to_owned(),
            r#"{"cmd":"attach","name":"con","read-only":true}"#.to_owned(),
            r#"{"cmd":"reopen","name":"f"}"#.to_owned(),
            format!(r#"{{"cmd":"add-port","name":"{kind}"}}"#),
        ] {
            // Some are taken and found to be useless later; none hurts.
            let answer = daemon.control_with(&line, Some(fd.as_fd()));
            assert!(answer["ok"] == true || answer["error"].is_string(), "{kind}: {answer}");
            guest.put(0, b"to whoever is there");
            guest.put(1, b"to the file");
        }
        let remove = format!(r#"{{"cmd":"remove-port","name":"{kind}"}}"#);
        daemon.control(&remove);
        daemon.control(r#"{"cmd":"detach","name":"con"}"#);
    }
    guest.drain(0);
    let before = daemon.ticks();
    std::thread::sleep(Duration::from_millis(300));
    assert!(daemon.ticks() - before < 5, "it is busy");
}

/// console: many who knock at the same moment are all let in, and served.
#[test]
fn many_knock_at_once() {
    let (daemon, mut guest) =
        scene(&["--port=name=con,backend=unix:@/con.sock,readers=8,log=1"], &[0]);
    guest.write(0, b"here you are");
    for _ in 0..5 {
        let mut all: Vec<_> = (0..8).map(|_| daemon.connect("con.sock")).collect();
        for peer in &mut all {
            assert_eq!(read_until(peer, "are"), "here you are");
        }
        drop(all);
        daemon.await_port("con", |port| port["line"]["readers"] == 0);
    }
}

/// console: somebody who waits at the door while there is no room costs nothing, and is let in later.
#[test]
fn who_waits_at_the_door_costs_nothing() {
    let (daemon, mut guest) = scene(&["--port=name=con,backend=unix:@/con.sock,log=1"], &[0]);
    let first = daemon.connect("con.sock");
    daemon.await_port("con", |port| port["line"]["attached"] == true);
    let mut second = daemon.connect("con.sock");
    guest.write(0, b"here you are");
    std::thread::sleep(Duration::from_millis(50));
    let before = (daemon.ticks(), daemon.sleeps());
    std::thread::sleep(Duration::from_millis(500));
    let after = (daemon.ticks(), daemon.sleeps());
    assert!(after.0 - before.0 < 5 && after.1 - before.1 < 20, "it is busy: {before:?} {after:?}");
    drop(first);
    assert_eq!(read_until(&mut second, "are"), "here you are");
}

/// console: a peer that has closed its half of a connection is gone; nothing spins, and what the guest
/// writes waits for the next one.
#[test]
fn a_half_closed_connection() {
    let (daemon, mut guest) =
        scene(&["--port=backend=null", "--port=name=a,backend=unix:@/a.sock"], &[0, 1]);
    let mut peer = daemon.connect("a.sock");
    peer.write_all(b"request").unwrap();
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(guest.hear(1).unwrap(), b"request");
    daemon.await_port("a", |port| port["line"]["attached"] == false);
    let before = daemon.ticks();
    std::thread::sleep(Duration::from_millis(300));
    assert!(daemon.ticks() - before < 5, "it is busy");
    guest.put(1, b"to whoever comes");
    let mut next = daemon.connect("a.sock");
    assert_eq!(read_until(&mut next, "comes"), "to whoever comes");
}

/// A driver that looks at its ring by itself, as Linux's console does, is not called for each write; one
/// that waits is called soon.
#[test]
fn calls_that_nobody_waits_for_are_not_made() {
    const WRITES: u64 = 300;
    let (daemon, mut guest) = scene(&["--port=name=con,backend=unix:@/con.sock"], &[0]);
    let mut peer = daemon.connect("con.sock");
    daemon.await_port("con", |port| port["line"]["attached"] == true);
    let calls = || {
        let stats = daemon.control(r#"{"cmd":"stats"}"#);
        stats["queues"][1]["calls"].as_u64().unwrap_or_else(|| panic!("{stats}"))
    };
    // On a busy machine the driver may not be there to look.
    let mut tries = 0..10;
    let made = tries.find_map(|_| {
        let before = calls();
        for _ in 0..WRITES {
            guest.put(0, b"quick");
            let line = guest.line(1);
            let until = Instant::now() + crate::process::MOMENT;
            while line.queue.reap().unwrap().is_none() {
                assert!(Instant::now() < until, "nobody takes what the guest writes");
            }
            // It says how far it has looked.
            line.queue.enable_calls();
        }
        let mut all = vec![0; 5 * WRITES as usize];
        std::io::Read::read_exact(&mut peer, &mut all).unwrap();
        let made = calls() - before;
        (made < WRITES / 3).then_some(made)
    });
    assert!(made.is_some(), "it was called for most of its writes, each time");
    let begun = Instant::now();
    for _ in 0..20 {
        guest.write(0, b"slow");
    }
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}
