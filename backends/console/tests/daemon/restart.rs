//! A daemon that dies: what the driver set up and what it wrote goes on.

use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use serde_json::json;
use virtio_spec::console::{ControlEvent, receive_queue};

use crate::guest::Guest;
use crate::process::{Daemon, read_until};

const ARGUMENTS: &[&str] = &[
    "--state-path=@/state",
    "--port=name=con,backend=null",
    "--port=name=agent,backend=unix:@/agent.sock",
];

#[test]
fn names_ports_and_open_states_outlive_the_daemon() {
    let mut daemon = Daemon::start(ARGUMENTS);
    let mut guest = Guest::connect(&daemon, &[0, 1]);
    guest.set_up(&[0, 1]);
    daemon.control(r#"{"cmd":"add-port","name":"late","backend":"null"}"#);
    guest.all_told();
    guest.say(2, ControlEvent::PortOpen, 1);
    daemon.crash();
    guest.reconnect(&daemon);
    guest.all_told();
    for (name, number) in [("con", 0), ("agent", 1), ("late", 2)] {
        let port = daemon.port(name);
        assert_eq!(
            (&port["number"], &port["guest_open"]),
            (&number.into(), &true.into()),
            "{port}"
        );
    }
    let mut peer = daemon.connect("agent.sock");
    guest.write(1, b"still there");
    assert_eq!(read_until(&mut peer, "there"), "still there");
}

/// A port that was added at run time has its file again, if that is where files may be.
#[test]
fn files_of_ports_at_run_time_outlive_the_daemon() {
    let mut daemon = Daemon::start(&[
        "--state-path=@/state",
        "--port=name=con,backend=null",
        "--port-directory=@",
    ]);
    let mut guest = Guest::connect(&daemon, &[0, 1, 2]);
    guest.set_up(&[0]);
    let path = daemon.path("late.log");
    let add =
        json!({"cmd": "add-port", "name": "late", "backend": format!("file:{}", path.display())});
    assert_eq!(daemon.control(&add.to_string())["ok"], true);
    let (_ours, theirs) = UnixStream::pair().unwrap();
    let add = r#"{"cmd":"add-port","name":"later","log":8}"#;
    assert_eq!(daemon.control_with(add, Some(theirs.as_fd()))["ok"], true);
    guest.all_told();
    guest.write(1, b"one");
    daemon.crash();
    guest.reconnect(&daemon);
    guest.write(1, b"two");
    assert_eq!(std::fs::read(path).unwrap(), b"onetwo");
    // One that was a descriptor waits for another one.
    assert_eq!(daemon.port("later")["line"]["backend"], "waiting");
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let attach = r#"{"cmd":"attach","name":"later"}"#;
    assert_eq!(daemon.control_with(attach, Some(theirs.as_fd()))["ok"], true);
    guest.write(2, b"found");
    assert_eq!(read_until(&mut ours, "found"), "found");
}

/// A driver that was reset, or unbound and bound, finds the same ports.
#[test]
fn names_and_ports_outlive_a_reset() {
    let daemon = Daemon::start(ARGUMENTS);
    let mut guest = Guest::connect(&daemon, &[0, 1]);
    daemon.control(r#"{"cmd":"add-port","name":"late","backend":"null"}"#);
    let told = guest.set_up(&[0, 1]);
    assert!(told.contains(&"2 PortName late".to_owned()), "{told:?}");
    guest.front_end.reset_device().unwrap();
    assert_eq!(daemon.port("agent")["guest_open"], false);
    drop(guest);
    let mut guest = Guest::connect(&daemon, &[0, 1]);
    assert_eq!(guest.set_up(&[0, 1]), told);
}

/// The driver writes numbered lines while daemons die: none is missing, and their order is kept.
#[test]
fn a_stream_goes_on_after_a_death() {
    let mut daemon = Daemon::start(ARGUMENTS);
    let mut guest = Guest::connect(&daemon, &[0, 1]);
    guest.set_up(&[1]);
    let mut text = String::new();
    let mut number = 0;
    for _ in 0..4 {
        let mut peer = daemon.connect("agent.sock");
        for _ in 0..200 {
            guest.write(1, format!("{number}\n").as_bytes());
            number += 1;
        }
        // Some more for which there is no time.
        for _ in 0..20 {
            guest.put(1, format!("{number}\n").as_bytes());
            number += 1;
        }
        daemon.crash();
        peer.read_to_string(&mut text).unwrap();
        guest.reconnect(&daemon);
    }
    let mut peer = daemon.connect("agent.sock");
    guest.write(1, b"end\n");
    text += &read_until(&mut peer, "end\n");
    let mut next = 0;
    for line in text.lines().filter(|line| *line != "end") {
        let line: u32 = line.parse().unwrap();
        // What was written when the daemon died may come once more.
        assert!(line <= next, "{next} is missing before {line}");
        next = next.max(line + 1);
    }
    assert_eq!(next, number);
}

/// Numbered lines, as many as fit into the queue at a time, while daemons are killed: they are all in the
/// file. What was being written when a daemon died may be there once more.
#[test]
fn a_file_misses_nothing_when_daemons_are_killed() {
    const LINES: usize = 6000;
    let mut daemon = Daemon::start(&["--port=name=log,backend=file:@/log,overflow=block"]);
    let mut guest = Guest::connect(&daemon, &[0]);
    guest.set_up(&[0]);
    for number in 0..LINES {
        guest.queue(0, format!("{number}\n").as_bytes());
        if number % 997 == 996 {
            daemon.crash();
            guest.reconnect(&daemon);
        }
    }
    guest.drain(0);
    let text = std::fs::read_to_string(daemon.path("log")).unwrap();
    assert_eq!(distinct_lines(&text), LINES);
}

/// The same with a reader who takes its time, and is there whenever there is a daemon.
#[test]
fn a_slow_reader_misses_nothing_when_daemons_are_killed() {
    const LINES: usize = 4000;
    let mut daemon = Daemon::start(ARGUMENTS);
    let mut guest = Guest::connect(&daemon, &[0, 1]);
    guest.set_up(&[1]);
    let mut readers = Vec::new();
    for number in 0..LINES {
        if number % 800 == 0 {
            daemon.crash();
            guest.reconnect(&daemon);
            let mut peer = daemon.connect("agent.sock");
            readers.push(std::thread::spawn(move || {
                std::thread::sleep(std::time::Duration::from_millis(50));
                let mut text = String::new();
                peer.read_to_string(&mut text).map(|_| text).unwrap()
            }));
        }
        // Long enough for the socket to be full now and then.
        guest.queue(1, format!("{number:0>2000}\n").as_bytes());
    }
    guest.drain(1);
    drop(daemon);
    let text: String = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
    assert_eq!(distinct_lines(&text), LINES);
}

/// What was taken and not written out when a queue stops waits for the reader, all of it.
#[test]
fn a_pause_loses_nothing_while_a_reader_takes_nothing() {
    const CHUNKS: u8 = 40;
    let daemon = Daemon::start(ARGUMENTS);
    let mut guest = Guest::connect(&daemon, &[0, 1]);
    guest.set_up(&[1]);
    let mut peer = daemon.connect("agent.sock");
    daemon.await_port("agent", |port| port["line"]["attached"] == true);
    let chunks: Vec<_> = (0..CHUNKS).map(|number| vec![number; 32 << 10]).collect();
    chunks.iter().for_each(|chunk| guest.put(1, chunk));
    daemon.await_port("agent", |port| port["line"]["counts"]["to_host"] != 0);
    guest.pause(receive_queue(1) + 1);
    guest.pause(receive_queue(1) + 1);
    let mut all = vec![0; usize::from(CHUNKS) * (32 << 10)];
    peer.read_exact(&mut all).unwrap();
    assert!(all == chunks.concat());
    guest.drain(1);
    assert_eq!(daemon.port("agent")["line"]["dropped_bytes"], 0);
}

/// How many numbered lines there are, none of which may be missing.
fn distinct_lines(text: &str) -> usize {
    let mut next = 0;
    for line in text.lines() {
        // Before its four digits may be the beginning of the same line, from a daemon that died at it.
        let line: usize = line[line.len().saturating_sub(4)..].parse().unwrap();
        assert!(line <= next, "{next} is missing before {line}");
        next = next.max(line + 1);
    }
    next
}
