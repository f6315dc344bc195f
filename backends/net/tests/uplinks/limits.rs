//! Limits that are set while frames cross.

use std::time::{Duration, Instant};

use crate::card::{Card, LONG, frame};
use crate::program::Daemon;

#[test]
fn a_guest_sends_no_faster_than_it_may() {
    let daemon = Daemon::start(&["--null"]);
    let mut card = Card::connect(&daemon.path("s"), &[]);
    let frames: Vec<Vec<u8>> = (0..100).map(|n| frame(n, 1000)).collect();
    card.send(&frames);
    let answer = daemon.control(r#"{"cmd":"rate","direction":"tx","bytes_per_second":200000}"#);
    assert_eq!(answer["tx"]["bytes_per_second"], 200_000, "{answer}");
    let (start, cpu) = (Instant::now(), daemon.cpu_time());
    for _ in 0..2 {
        card.send(&frames);
    }
    // 200,000 bytes less the burst, of 65,536.
    let took = start.elapsed();
    assert!((Duration::from_millis(600)..Duration::from_secs(3)).contains(&took), "{took:?}");
    assert!(daemon.cpu_time() - cpu < took / 2, "no busy loop");
    // Lifted in the middle of a wait.
    daemon.control(r#"{"cmd":"rate","direction":"tx","packets_per_second":1}"#);
    for frame in &frames {
        card.submit_with(&virtio_spec::net::Header::default(), frame);
    }
    card.kick();
    std::thread::sleep(Duration::from_millis(100));
    assert!(card.unsent() > 50);
    daemon.control(r#"{"cmd":"rate","direction":"tx"}"#);
    card.send(&[]);
}

#[test]
fn a_guest_receives_no_faster_than_it_may() {
    let daemon = Daemon::start(&["--null", "100"]);
    daemon.wait_until_there();
    daemon.control(r#"{"cmd":"rate","direction":"rx","packets_per_second":200}"#);
    let mut card = Card::connect(&daemon.path("s"), &[]);
    let start = Instant::now();
    card.post(200, 256);
    for _ in 0..110 {
        assert_eq!(card.receive(LONG).unwrap().1.len(), 100);
    }
    let took = start.elapsed();
    assert!((Duration::from_millis(400)..Duration::from_secs(3)).contains(&took), "{took:?}");
    assert!(daemon.cpu_time() < took / 2, "no busy loop");
}

#[test]
fn there_may_be_a_limit_from_the_start() {
    let daemon = Daemon::start(&["--null", "--tx-bytes-per-second=200000"]);
    let mut card = Card::connect(&daemon.path("s"), &[]);
    let limits = daemon.control(r#"{"cmd":"stats"}"#)["device_stats"]["limits"].clone();
    assert_eq!(limits["tx"]["bytes_per_second"], 200_000, "{limits}");
    let start = Instant::now();
    card.send(&(0..130).map(|n| frame(n, 1000)).collect::<Vec<_>>());
    // 130,000 bytes less the burst, of 65,536.
    assert!(start.elapsed() > Duration::from_millis(200), "{:?}", start.elapsed());
}
