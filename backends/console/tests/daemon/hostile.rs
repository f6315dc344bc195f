//! Classes of HOSTILE input, each by its name.

use std::io::Write;
use std::time::Duration;

use virtio_spec::console::{CONTROL_RECEIVE_QUEUE, ControlEvent};

use crate::guest::Guest;
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
