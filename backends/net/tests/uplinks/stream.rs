//! Stream sockets as uplinks: a scripted peer that cuts, stalls, hangs up and talks nonsense.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use virtio_spec::net::{CSUM, GUEST_CSUM, GUEST_TSO4, HOST_TSO4, MRG_RXBUF};

use crate::card::{Card, LONG, frame};
use crate::program::Daemon;

const SHORT: Duration = Duration::from_millis(100);

fn start() -> (Daemon, UnixListener) {
    let directory = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(directory.path().join("peer")).unwrap();
    (Daemon::start_in(directory, &["--unix=DIR/peer"]), listener)
}

fn accept(listener: &UnixListener) -> UnixStream {
    let (peer, _) = listener.accept().unwrap();
    peer.set_read_timeout(Some(LONG)).unwrap();
    peer
}

fn read_frame(peer: &mut UnixStream) -> Vec<u8> {
    let mut length = [0; 4];
    peer.read_exact(&mut length).unwrap();
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    peer.read_exact(&mut frame).unwrap();
    frame
}

fn encode(frame: &[u8]) -> Vec<u8> {
    [&(frame.len() as u32).to_be_bytes()[..], frame].concat()
}

/// Frames of all sorts of lengths.
fn frames(count: usize, longest: usize) -> Vec<Vec<u8>> {
    (0..count).map(|n| frame(n, 14 + n * 611 % (longest - 14))).collect()
}

#[test]
fn nothing_is_left_to_the_peer() {
    let (daemon, _listener) = start();
    let card = Card::connect(&daemon.path("s"), &[CSUM, GUEST_CSUM, HOST_TSO4, GUEST_TSO4]);
    for bit in [CSUM, GUEST_CSUM, HOST_TSO4, GUEST_TSO4] {
        assert!(!card.negotiated.has(bit), "{bit}");
    }
}

#[test]
fn frames_are_sent_however_slowly_the_peer_reads() {
    let (daemon, listener) = start();
    let mut card = Card::connect(&daemon.path("s"), &[]);
    card.send(&[frame(0, 60)]);
    let mut peer = accept(&listener);
    let frames = frames(3000, 1514);
    let expected = frames.clone();
    let reader = std::thread::spawn(move || {
        let mut first = read_frame(&mut peer);
        if first.len() == 60 {
            first = read_frame(&mut peer);
        }
        let mut found = vec![first];
        while found.len() < 3000 {
            if found.len() % 500 == 0 {
                std::thread::sleep(SHORT);
            }
            found.push(read_frame(&mut peer));
        }
        found
    });
    card.send(&frames);
    assert!(reader.join().unwrap() == expected, "the frames are the same, in the same order");
    assert_eq!(daemon.count("tx_dropped") + daemon.count("tx_frames"), 3001);
}

#[test]
fn frames_are_received_however_the_stream_is_cut() {
    for (bits, size) in [(&[][..], 2048), (&[MRG_RXBUF], 300)] {
        let (daemon, listener) = start();
        let mut card = Card::connect(&daemon.path("s"), bits);
        card.post(200, size);
        let mut peer = accept(&listener);
        let frames = frames(1000, 1514);
        let bytes: Vec<u8> = frames.iter().flat_map(|frame| encode(frame)).collect();
        let writer = std::thread::spawn(move || {
            let mut rest = &bytes[..];
            for n in (1..).step_by(37) {
                let (now, later) = rest.split_at(rest.len().min(n * 31 % 9000 + 1));
                peer.write_all(now).unwrap();
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            peer
        });
        for (n, frame) in frames.iter().enumerate() {
            let (header, found) = card.receive(LONG).unwrap();
            assert_eq!((header.flags, header.gso_type), (0, 0));
            assert!(found == *frame, "frame {n}");
        }
        writer.join().unwrap();
    }
}

#[test]
fn a_guest_without_buffers_loses_nothing() {
    let (daemon, listener) = start();
    let mut card = Card::connect(&daemon.path("s"), &[]);
    card.post(1, 2048);
    let mut peer = accept(&listener);
    let frames = frames(100, 1000);
    for frame in &frames {
        peer.write_all(&encode(frame)).unwrap();
    }
    for frame in &frames {
        assert!(card.receive(LONG).unwrap().1 == *frame);
    }
    assert!(card.receive(SHORT).is_none());
}

#[test]
fn a_peer_that_is_lost_comes_back() {
    let (daemon, listener) = start();
    let mut card = Card::connect(&daemon.path("s"), &[]);
    card.post(100, 2048);
    for round in 0..4 {
        let mut peer = accept(&listener);
        match round {
            // Half a frame, lengths that cannot be, and a frame that is followed by one.
            0 => peer.write_all(&encode(&frame(1, 1000))[..500]).unwrap(),
            1 => peer.write_all(&u32::MAX.to_be_bytes()).unwrap(),
            2 => peer.write_all(&[&encode(&frame(2, 99))[..], &[0; 4]].concat()).unwrap(),
            _ => peer.write_all(&encode(&frame(3, 77))).unwrap(),
        }
        if round == 2 {
            assert_eq!(card.receive(LONG).unwrap().1, frame(2, 99));
        }
        if round == 3 {
            assert_eq!(card.receive(LONG).unwrap().1, frame(3, 77));
            card.send(&[frame(4, 80)]);
            assert_eq!(read_frame(&mut peer), frame(4, 80));
        } else if round > 0 {
            assert_eq!(peer.read(&mut [0]).unwrap(), 0, "it hangs up");
        }
    }
    daemon.wait_for("uplink_errors", 3);
}

#[test]
fn peers_connect_one_after_the_other() {
    let daemon = Daemon::start(&["--unix-listen=DIR/peer"]);
    let mut card = Card::connect(&daemon.path("s"), &[]);
    card.post(100, 2048);
    for n in 0..3 {
        let mut peer = UnixStream::connect(daemon.path("peer")).unwrap();
        peer.set_read_timeout(Some(LONG)).unwrap();
        peer.write_all(&encode(&frame(n, 100))).unwrap();
        assert_eq!(card.receive(LONG).unwrap().1, frame(n, 100));
        card.send(&[frame(n, 200)]);
        assert_eq!(read_frame(&mut peer), frame(n, 200));
    }
}

#[test]
fn waiting_for_a_peer_costs_nothing() {
    let daemon = Daemon::start(&["--unix=DIR/nobody"]);
    let mut card = Card::connect(&daemon.path("s"), &[]);
    card.post(10, 2048);
    card.send(&frames(300, 1000));
    assert_eq!(daemon.count("tx_dropped"), 300);
    let before = daemon.cpu_time();
    std::thread::sleep(Duration::from_secs(2));
    assert!(daemon.cpu_time() - before < Duration::from_millis(50));
    let stats = daemon.control(r#"{"cmd":"stats"}"#);
    assert!(stats["device_stats"]["uplink_error"].as_str().unwrap().contains("refused"), "{stats}");
}
