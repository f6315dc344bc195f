//! A switch that leads outside.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use virtio_spec::net::{CSUM, HOST_TSO4, Header};

use crate::card::{Card, LONG, frame};
use crate::program::Daemon;

const SHORT: Duration = Duration::from_millis(100);

fn start(more: &[&str]) -> (Daemon, Vec<Card>, UnixStream) {
    let ports = ["--switch", "--socket-path=DIR/s1", "--unix-listen=DIR/peer"];
    let daemon = Daemon::start(&[&ports, more].concat());
    let connect = |name| Card::connect(&daemon.path(name), &[CSUM, HOST_TSO4]);
    let mut cards: Vec<Card> = ["s", "s1"].map(connect).into();
    cards.iter_mut().for_each(|card| card.post(100, 2048));
    cards.iter_mut().for_each(|card| assert!(card.receive(SHORT).is_none()));
    let peer = UnixStream::connect(daemon.path("peer")).unwrap();
    peer.set_read_timeout(Some(LONG)).unwrap();
    (daemon, cards, peer)
}

fn give(peer: &mut UnixStream, frame: &[u8]) {
    let length = u32::try_from(frame.len()).unwrap().to_be_bytes();
    peer.write_all(&[&length, frame].concat()).unwrap();
}

fn next(peer: &mut UnixStream) -> Vec<u8> {
    let mut length = [0; 4];
    peer.read_exact(&mut length).unwrap();
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    peer.read_exact(&mut frame).unwrap();
    frame
}

/// A frame between stations; 0 and 1 are guests, 9 is outside.
fn between(from: u8, to: u8, length: usize) -> Vec<u8> {
    let mut frame = frame(length, length);
    frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, to]);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, from]);
    frame
}

#[test]
fn guests_and_the_outside_reach_each_other() {
    let (daemon, mut cards, mut peer) = start(&[]);
    give(&mut peer, &between(9, 0, 100));
    for card in &mut cards {
        assert_eq!(card.receive(LONG).unwrap().1, between(9, 0, 100), "nobody was heard yet");
    }
    cards[0].send(&[between(0, 9, 200)]);
    assert_eq!(next(&mut peer), between(0, 9, 200));
    for length in 60..300 {
        give(&mut peer, &between(9, 0, length));
        assert_eq!(cards[0].receive(LONG).unwrap().1, between(9, 0, length));
    }
    assert!(cards[1].receive(SHORT).is_none(), "it is none of its business");
    cards[0].send(&(60..300).map(|length| between(0, 9, length)).collect::<Vec<_>>());
    (60..300).for_each(|length| assert_eq!(next(&mut peer), between(0, 9, length)));
    let stats = daemon.control(r#"{"cmd":"stats"}"#);
    let uplink = &stats["ports"][0]["device_stats"]["switch"]["uplink"];
    assert_eq!(
        (uplink["tx_frames"].as_u64(), uplink["rx_frames"].as_u64()),
        (Some(241), Some(241))
    );
}

#[test]
fn isolated_guests_reach_the_outside_alone() {
    let (_daemon, mut cards, mut peer) = start(&["--isolate=0,1"]);
    cards[0].send(&[between(0, 7, 80)]);
    assert_eq!(next(&mut peer), between(0, 7, 80));
    assert!(cards[1].receive(SHORT).is_none());
    give(&mut peer, &between(9, 7, 90));
    cards.iter_mut().for_each(|card| assert!(card.receive(LONG).is_some()));
}

/// The protocol has no checksums that are left to anybody, and no segments to be cut.
#[test]
fn what_a_guest_leaves_to_its_receiver_is_done_before_it_goes_outside() {
    let (_daemon, mut cards, mut peer) = start(&[]);
    let (head, payload) = (54, 3000);
    let mut long = between(0, 9, head + payload);
    long[12..34].copy_from_slice(&[
        8, 0, 0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ]);
    long[46] = 0x50;
    let header = Header {
        flags: 1,
        gso_type: 1,
        hdr_len: 54,
        gso_size: 1000,
        csum_start: 34,
        csum_offset: 16,
        num_buffers: 0,
    };
    cards[0].submit_with(&header, &long);
    cards[0].kick();
    for part in 0..3 {
        let segment = next(&mut peer);
        assert_eq!(segment.len(), head + 1000);
        assert_eq!(segment[head..], long[head + 1000 * part..][..1000]);
    }
}

#[test]
fn a_peer_that_goes_away_is_missed_by_nobody() {
    let (daemon, mut cards, peer) = start(&[]);
    drop(peer);
    cards[0].send(&[between(0, 1, 100)]);
    assert_eq!(cards[1].receive(LONG).unwrap().1, between(0, 1, 100));
    let mut peer = UnixStream::connect(daemon.path("peer")).unwrap();
    give(&mut peer, &between(9, 1, 70));
    assert_eq!(cards[1].receive(LONG).unwrap().1, between(9, 1, 70));
}
