//! Captures of what crosses.

use std::time::{Duration, Instant};

use crate::card::{Card, LONG, frame};
use crate::program::Daemon;

/// The frames of a file: flags, length on the wire, bytes.
fn frames(file: &[u8]) -> Vec<(u32, usize, Vec<u8>)> {
    let number = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    let (mut at, mut frames) = (0, Vec::new());
    while at + 12 <= file.len() && at + number(at + 4) <= file.len() {
        if number(at) == 6 {
            let kept = number(at + 20);
            let bytes = file[at + 28..at + 28 + kept].to_vec();
            let flags = number(at + 28 + kept.next_multiple_of(4) + 4) as u32;
            frames.push((flags, number(at + 24), bytes));
        }
        at += number(at + 4);
    }
    frames
}

#[test]
fn what_crosses_in_both_directions_is_in_the_file() {
    let daemon = Daemon::start(&["--echo", "--capture=DIR/file", "--capture-snap=100"]);
    let mut card = Card::connect(&daemon.path("s"), &[]);
    card.post(50, 2048);
    let sent = [frame(1, 60), frame(2, 1500)];
    for frame in &sent {
        card.send(std::slice::from_ref(frame));
        assert_eq!(card.receive(LONG).unwrap().1, *frame);
    }
    let until = Instant::now() + LONG;
    let found = loop {
        let found = frames(&std::fs::read(daemon.path("file")).unwrap());
        if found.len() == 4 {
            break found;
        }
        assert!(Instant::now() < until, "{found:?}");
        std::thread::sleep(Duration::from_millis(20));
    };
    for (n, (flags, length, bytes)) in found.into_iter().enumerate() {
        let frame = &sent[n / 2];
        assert_eq!((flags as usize, length), (2 - n % 2, frame.len()));
        assert_eq!(bytes, frame[..frame.len().min(100)]);
    }
}

#[test]
fn a_file_that_is_full_holds_nobody_up() {
    let daemon = Daemon::start(&["--null", "--capture=DIR/file", "--capture-size=1"]);
    let mut card = Card::connect(&daemon.path("s"), &[]);
    let many: Vec<Vec<u8>> = (0..2000).map(|n| frame(n, 1500)).collect();
    card.send(&many);
    assert_eq!(daemon.count("tx_frames"), 2000);
    let until = Instant::now() + LONG;
    let stats = loop {
        let stats = daemon.control(r#"{"cmd":"stats"}"#)["device_stats"]["capture"].clone();
        if stats["missed"].as_u64() > Some(0) || Instant::now() > until {
            break stats;
        }
        card.send(&many[..10]);
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(stats["frames"].as_u64().unwrap() > 100, "{stats}");
    assert!(std::fs::metadata(daemon.path("file")).unwrap().len() <= 1 << 20);
}
