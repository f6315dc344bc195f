//! Several who read what one guest writes.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use crate::guest::{Guest, scene};
use crate::process::{Daemon, read_until};

#[test]
fn several_share_a_socket() {
    let (daemon, mut guest) = scene(&["--port=name=con,backend=unix:@/con.sock,readers=2"], &[0]);
    guest.write(0, b"early\n");
    let mut first = daemon.connect("con.sock");
    assert_eq!(read_until(&mut first, "early\n"), "early\n");
    let mut second = daemon.connect("con.sock");
    daemon.await_port("con", |port| port["line"]["readers"] == 2);
    // Both are given all, and both are heard.
    for (name, peer) in [(b'1', &mut first), (b'2', &mut second)] {
        peer.write_all(&[name]).unwrap();
        assert_eq!(guest.hear(0).unwrap(), [name]);
    }
    guest.write(0, b"for both\n");
    assert!(read_until(&mut first, "both\n").ends_with("for both\n"));
    assert!(read_until(&mut second, "both\n").ends_with("for both\n"));
    // A third one waits until there is room, and misses nothing of what comes then.
    let mut third = daemon.connect("con.sock");
    guest.write(0, b"meanwhile\n");
    read_until(&mut first, "meanwhile\n");
    drop(first);
    daemon.await_port("con", |port| port["line"]["counts"]["attached"] == 3);
    guest.write(0, b"now\n");
    read_until(&mut third, "now\n");
    assert_eq!(daemon.port("con")["line"]["dropped_bytes"], 0);
}

#[test]
fn who_looks_on_sees_all_and_changes_nothing() {
    let (daemon, mut guest) =
        scene(&["--port=name=con,backend=null", "--port=name=a,backend=unix:@/a.sock"], &[0, 1]);
    let mut onlooker = daemon.attach(r#"{"cmd":"attach","name":"a","read-only":true}"#);
    let port = daemon.port("a");
    assert_eq!((&port["line"]["attached"], &port["host_open"]), (&false.into(), &false.into()));
    // The port waits for its reader all the same.
    guest.put(1, b"request\n");
    assert!(!guest.taken(1, Duration::from_millis(100)));
    onlooker.write_all(b"not heard").unwrap();
    let mut agent = daemon.connect("a.sock");
    assert_eq!(read_until(&mut agent, "request\n"), "request\n");
    assert_eq!(read_until(&mut onlooker, "request\n"), "request\n");
    agent.write_all(b"answer").unwrap();
    assert_eq!(guest.hear(1).unwrap(), b"answer");
    drop(onlooker);
    daemon.await_port("a", |port| port["line"]["readers"] == 0);
    assert_eq!(daemon.port("a")["line"]["attached"], true);
}

/// However much comes at once, who reads it misses nothing.
#[test]
fn many_bytes_come_to_all_who_read_them() {
    const ALL: usize = 4 << 20;
    let (daemon, mut guest) = scene(&["--port=name=con,backend=unix:@/con.sock,readers=2"], &[0]);
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let mut peer = daemon.connect("con.sock");
            std::thread::spawn(move || {
                let mut all = vec![0; ALL];
                peer.read_exact(&mut all).map(|()| all).unwrap()
            })
        })
        .collect();
    daemon.await_port("con", |port| port["line"]["readers"] == 2);
    let bytes: Vec<u8> = (0..ALL).map(|n| (n / 7) as u8).collect();
    // No faster than they read: the guest waits for none of them.
    for piece in bytes.chunks(16 << 10) {
        guest.write(0, piece);
        let so_far = |port: &serde_json::Value| port["line"]["counts"]["to_readers"].as_u64();
        daemon.await_port("con", |port| so_far(port).is_some_and(|all| all % (32 << 10) == 0));
    }
    for reader in readers {
        assert!(reader.join().unwrap() == bytes);
    }
}

/// One who does not read keeps nobody waiting, costs nothing, and is told what was missed.
#[test]
fn a_slow_onlooker_misses_some_and_is_told() {
    let (daemon, mut guest) = scene(&["--port=name=con,backend=unix:@/con.sock,readers=2"], &[0]);
    let mut slow = daemon.connect("con.sock");
    daemon.await_port("con", |port| port["line"]["attached"] == true);
    guest.write(0, &[b'x'; 1 << 20]);
    let before = daemon.memory();
    for _ in 0..50 {
        guest.write(0, &[b'x'; 1 << 20]);
    }
    assert!(daemon.memory() < before + 1024, "{} KiB after {before}", daemon.memory());
    guest.write(0, b"the end");
    let text = read_until(&mut slow, "the end");
    assert!(text.contains("bytes were dropped here"), "nothing says so");
    assert!(text.len() < 2 << 20);
}

#[test]
fn no_more_look_on_than_there_is_room_for() {
    let daemon = Daemon::start(&["--port=name=con,backend=null"]);
    let _guest = Guest::connect(&daemon, &[0]);
    let look_on = r#"{"cmd":"attach","name":"con","read-only":true}"#;
    let mut onlookers = Vec::new();
    for _ in 0..8 {
        onlookers.push(daemon.attach(look_on));
    }
    let (_ours, theirs) = UnixStream::pair().unwrap();
    let answer = daemon.control_with(look_on, Some(theirs.as_fd()));
    assert!(answer["error"].as_str().unwrap().contains("look on"), "{answer}");
}

#[test]
fn a_socket_is_connected_to_again_and_again() {
    let (daemon, mut guest) =
        scene(&["--port=name=con,backend=unix:@/far.sock,connect=on,log=1"], &[0]);
    guest.write(0, b"early\n");
    for turn in 0..3 {
        let listener = UnixListener::bind(daemon.path("far.sock")).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert!(read_until(&mut peer, "early\n").contains("early\n"));
        peer.write_all(&[turn]).unwrap();
        assert_eq!(guest.hear(0).unwrap(), [turn]);
        drop((listener, peer));
        std::fs::remove_file(daemon.path("far.sock")).unwrap();
        daemon.await_port("con", |port| port["line"]["attached"] == false);
    }
    // Nobody there: it is tried again, but not all the time.
    let before = daemon.ticks();
    std::thread::sleep(Duration::from_millis(300));
    assert!(daemon.ticks() - before < 4, "it is busy");
}

/// Who is sent away sees the end of the stream, and somebody else is there.
#[test]
fn a_place_can_be_taken() {
    let (daemon, mut guest) = scene(&["--port=name=con,backend=unix:@/con.sock"], &[0]);
    let mut first = daemon.connect("con.sock");
    daemon.await_port("con", |port| port["line"]["attached"] == true);
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let take = r#"{"cmd":"attach","name":"con","take":true,"cols":120,"rows":40}"#;
    let answer = daemon.control_with(take, Some(theirs.as_fd()));
    assert_eq!((&answer["ok"], &answer["visit"]), (&true.into(), &2.into()), "{answer}");
    assert_eq!(first.read(&mut [0]).unwrap(), 0);
    guest.write(0, b"hello");
    assert_eq!(read_until(&mut ours, "hello"), "hello");
    assert_eq!(daemon.port("con")["size"], serde_json::json!([120, 40]));
}
