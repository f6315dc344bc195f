//! A switch: guests of one daemon among each other.

use std::process::Command;
use std::time::Duration;

use virtio_spec::net::{CSUM, GUEST_CSUM, GUEST_TSO4, HOST_TSO4, Header, MRG_RXBUF};

use crate::card::{Card, LONG, frame};
use crate::program::Daemon;

const SHORT: Duration = Duration::from_millis(100);
const OFFLOADS: [u32; 5] = [CSUM, GUEST_CSUM, HOST_TSO4, GUEST_TSO4, MRG_RXBUF];

/// A daemon with three ports, the first of which is that of every test's daemon.
fn start(more: &[&str]) -> Daemon {
    let ports = ["--switch", "--socket-path=DIR/s1", "--socket-path=DIR/s2"];
    Daemon::start(&[&ports, more].concat())
}

fn connect(daemon: &Daemon, bits: &[u32]) -> Vec<Card> {
    let cards = ["s", "s1", "s2"].map(|name| Card::connect(&daemon.path(name), bits));
    let mut cards = Vec::from(cards);
    cards.iter_mut().for_each(|card| card.post(100, 2048));
    // A port takes frames once its guest has looked for some.
    cards.iter_mut().for_each(|card| assert!(card.receive(SHORT).is_none()));
    cards
}

fn station(n: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, n]
}

/// A frame from one station to another.
fn between(from: u8, to: u8, number: usize) -> Vec<u8> {
    let mut frame = frame(number, 200 + number);
    frame[..6].copy_from_slice(&station(to));
    frame[6..12].copy_from_slice(&station(from));
    frame
}

#[test]
fn frames_reach_whom_they_are_for() {
    let daemon = start(&[]);
    let mut cards = connect(&daemon, &[]);
    // Nobody was heard yet: everybody gets it.
    cards[0].send(&[between(0, 1, 0)]);
    for card in &mut cards[1..] {
        assert_eq!(card.receive(LONG).unwrap().1, between(0, 1, 0));
    }
    cards[1].send(&[between(1, 0, 1)]);
    assert_eq!(cards[0].receive(LONG).unwrap().1, between(1, 0, 1));
    let many: Vec<Vec<u8>> = (0..90).map(|n| between(0, 1, n)).collect();
    cards[0].send(&many);
    for expected in &many {
        assert_eq!(cards[1].receive(LONG).unwrap().1, *expected);
    }
    assert!(cards[2].receive(SHORT).is_none(), "it is none of its business");
    assert!(cards[0].receive(SHORT).is_none());
}

#[test]
fn isolated_ports_do_not_see_each_other() {
    let daemon = start(&["--isolate=1,2"]);
    let mut cards = connect(&daemon, &[]);
    cards[1].send(&[between(1, 9, 1)]);
    assert_eq!(cards[0].receive(LONG).unwrap().1, between(1, 9, 1));
    assert!(cards[2].receive(SHORT).is_none());
    cards[0].send(&[between(0, 9, 2)]);
    assert!(cards[1].receive(LONG).is_some() && cards[2].receive(LONG).is_some());
}

#[test]
fn a_long_segment_passes_whole_and_a_checksum_is_completed_for_who_wants_it() {
    let daemon = start(&[]);
    let bits: [&[u32]; 2] = [&OFFLOADS, &[]];
    let names = ["s", "s1", "s2"];
    let mut cards: Vec<Card> =
        (0..3).map(|n| Card::connect(&daemon.path(names[n]), bits[n / 2])).collect();
    cards.iter_mut().for_each(|card| card.post(100, 2048));
    cards.iter_mut().for_each(|card| assert!(card.receive(SHORT).is_none()));
    let long = frame(1, 60_000);
    let header = Header {
        flags: 1,
        gso_type: 1,
        hdr_len: 54,
        gso_size: 1448,
        csum_start: 34,
        csum_offset: 16,
        num_buffers: 0,
    };
    cards[0].submit_with(&header, &long);
    cards[0].kick();
    let (found, bytes) = cards[1].receive(LONG).unwrap();
    assert!(bytes == long && found.num_buffers > 20);
    assert_eq!(Header { num_buffers: 0, ..found }, header);
    // The third guest takes neither.
    let short = frame(2, 500);
    let header = Header { gso_type: 0, hdr_len: 0, gso_size: 0, ..header };
    cards[0].submit_with(&header, &short);
    cards[0].kick();
    let (found, bytes) = cards[1].receive(LONG).unwrap();
    assert!(bytes == short && found.flags == 1);
    let (found, bytes) = cards[2].receive(LONG).unwrap();
    assert_eq!(found.flags, 0);
    assert!(
        bytes[..50] == short[..50] && bytes[50..52] != short[50..52] && bytes[52..] == short[52..]
    );
}

#[test]
fn a_guest_that_takes_nothing_holds_up_nobody() {
    let daemon = start(&[]);
    let mut cards = connect(&daemon, &[]);
    let many: Vec<Vec<u8>> = (0..4000).map(|n| between(0, 9, n % 90)).collect();
    for part in many.chunks(50) {
        cards[0].send(part);
        for expected in part {
            assert_eq!(cards[1].receive(LONG).unwrap().1, *expected);
        }
    }
    let stats = daemon.control(r#"{"cmd":"stats"}"#);
    let port = |n: usize| stats["ports"][n]["device_stats"]["switch"]["overflowed"].as_u64();
    assert_eq!(port(1), Some(0));
    assert!(port(2) > Some(2000), "{stats}");
}

/// Frames lie in the memory of the guest that sends them until they are delivered; and that guest, with
/// its memory, may go away at any moment.
#[test]
fn an_asynchronous_operation_outlives_its_buffer_or_mapping() {
    let daemon = start(&[]);
    let mut cards = connect(&daemon, &[]);
    let mut arrived = 0;
    for round in 0..20 {
        cards.remove(0);
        let mut sender = Card::connect(&daemon.path("s"), &[]);
        (0..200).for_each(|n| sender.submit_with(&Header::default(), &between(0, 1, n)));
        sender.kick();
        std::thread::sleep(Duration::from_micros(200 * round));
        cards.insert(0, sender);
        while let Some((_, frame)) = cards[1].receive(Duration::from_millis(1)) {
            assert!(frame == between(0, 1, frame.len() - 200), "it is whole");
            arrived += 1;
        }
    }
    assert!(arrived > 0);
    // What was flooded to the third guest leaves room for one frame more.
    while cards[2].receive(SHORT).is_some() {}
    cards[0].send(&[between(0, 2, 7)]);
    while cards[2].receive(LONG).unwrap().1 != between(0, 2, 7) {}
}

#[test]
fn sockets_and_devices_are_as_many() {
    let run = |arguments: &[&str]| {
        let program = env!("CARGO_BIN_EXE_outrigger-net");
        Command::new("timeout").args(["10", program]).args(arguments).output().unwrap()
    };
    let output = run(&["--null", "--socket-path=/tmp/none/a", "--socket-path=/tmp/none/b"]);
    assert_eq!(output.status.code(), Some(2));
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(complaint.contains("2 times") && complaint.contains("1 devices"), "{complaint}");
}
