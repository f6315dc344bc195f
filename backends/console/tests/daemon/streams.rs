//! Bytes through ports, both ways.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::guest::{BUFFER, Guest, scene};
use crate::process::{Daemon, read_until};

const MARK: &str = "bytes were dropped here";

#[test]
fn a_console_and_a_plain_port_talk() {
    let daemon = Daemon::start(&[
        "--port=name=con,backend=unix:@/con.sock",
        "--port=name=agent,backend=unix:@/agent.sock",
    ]);
    let mut guest = Guest::connect(&daemon, &[0, 1]);
    guest.set_up(&[0, 1]);
    for (port, name) in [(0, "con.sock"), (1, "agent.sock")] {
        let mut peer = daemon.connect(name);
        guest.listen(port, 4);
        guest.write(port, b"from the guest");
        assert_eq!(read_until(&mut peer, "guest"), "from the guest");
        peer.write_all(b"from the host").unwrap();
        assert_eq!(guest.hear(port).unwrap(), b"from the host");
    }
}

#[test]
fn packed_rings_serve_as_well() {
    let daemon = Daemon::start(&["--packed", "--port=name=con,backend=unix:@/con.sock"]);
    let mut guest = Guest::connect_packed(&daemon, &[0]);
    guest.set_up(&[0]);
    let mut peer = daemon.connect("con.sock");
    guest.listen(0, 4);
    guest.write(0, b"packed");
    assert_eq!(read_until(&mut peer, "packed"), "packed");
    peer.write_all(b"rings").unwrap();
    assert_eq!(guest.hear(0).unwrap(), b"rings");
}

#[test]
fn input_comes_in_as_few_buffers_as_it_fits_in() {
    let daemon = Daemon::start(&["--port=name=con,backend=unix:@/con.sock"]);
    let mut guest = Guest::connect(&daemon, &[0]);
    guest.set_up(&[]);
    let mut peer = daemon.connect("con.sock");
    let all: Vec<u8> = (0..3 * BUFFER + 100).map(|n| n as u8).collect();
    peer.write_all(&all).unwrap();
    guest.listen(0, 16);
    guest.say(0, virtio_spec::console::ControlEvent::PortOpen, 1);
    let heard: Vec<_> = (0..4).map(|_| guest.hear(0).unwrap()).collect();
    assert_eq!(heard.iter().map(Vec::len).collect::<Vec<_>>(), [BUFFER, BUFFER, BUFFER, 100]);
    assert_eq!(heard.concat(), all);
}

#[test]
fn a_plain_port_waits_for_its_reader_and_loses_nothing() {
    let daemon = Daemon::start(&["--port=backend=null", "--port=name=a,backend=unix:@/a.sock"]);
    let mut guest = Guest::connect(&daemon, &[0, 1]);
    guest.set_up(&[1]);
    guest.put(1, b"early");
    assert!(!guest.taken(1, Duration::from_millis(100)), "nobody reads yet");
    let mut peer = daemon.connect("a.sock");
    assert_eq!(read_until(&mut peer, "early"), "early");
}

#[test]
fn a_console_keeps_the_latest_for_whoever_comes() {
    let daemon = Daemon::start(&["--port=name=con,backend=unix:@/con.sock,log=1"]);
    let mut guest = Guest::connect(&daemon, &[0]);
    guest.set_up(&[0]);
    for n in 0..100 {
        guest.write(0, format!("line {n} {}\n", "x".repeat(1000)).as_bytes());
    }
    // A reader who comes finds what is left, and is told of the rest; the next one finds it too.
    let mut first = daemon.connect("con.sock");
    let text = read_until(&mut first, "line 99");
    assert!(text.contains(MARK) && !text.contains("line 1 "), "{text}");
    drop(first);
    daemon.await_port("con", |port| port["line"]["attached"] == false);
    let mut second = daemon.connect("con.sock");
    assert!(read_until(&mut second, "line 99").contains("line 98"));
}

#[test]
fn many_bytes_come_through_unchanged_both_ways() {
    const ALL: usize = 8 << 20;
    let daemon = Daemon::start(&["--port=backend=null", "--port=name=b,backend=unix:@/b.sock"]);
    let mut guest = Guest::connect(&daemon, &[0, 1]);
    guest.set_up(&[1]);
    let mut random = fastrand::Rng::with_seed(7);
    let mut bytes = vec![0; ALL];
    random.fill(&mut bytes);

    let mut peer = daemon.connect("b.sock");
    let mut reader = peer.try_clone().unwrap();
    let count = bytes.len();
    let reading = std::thread::spawn(move || {
        let mut all = vec![0; count];
        reader.read_exact(&mut all).unwrap();
        all
    });
    for piece in bytes.chunks(32 << 10) {
        guest.write(1, piece);
    }
    assert!(reading.join().unwrap() == bytes);

    let sent = bytes.clone();
    let writing = std::thread::spawn(move || peer.write_all(&sent).map(|()| peer).unwrap());
    guest.listen(1, 32);
    let mut heard = Vec::new();
    while heard.len() < ALL {
        heard.extend(guest.hear(1).unwrap());
        guest.listen(1, 1);
    }
    assert!(heard == bytes);
    writing.join().unwrap();
}

#[test]
fn a_port_may_be_a_tcp_socket_of_this_machine() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let port = format!("--port=name=con,backend=tcp:{}", free.port());
    let (daemon, mut guest) = scene(&[&port], &[0]);
    for turn in 0..3 {
        let mut peer = TcpStream::connect(free).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        peer.write_all(&[turn]).unwrap();
        assert_eq!(guest.hear(0).unwrap(), [turn]);
        guest.write(0, b"answer");
        assert_eq!(read_until(&mut peer, "answer"), "answer");
        drop(peer);
        daemon.await_port("con", |port| port["line"]["attached"] == false);
    }
}

#[test]
fn a_file_gets_all_of_it() {
    let daemon = Daemon::start(&["--port=name=log,backend=file:@/log.txt"]);
    let mut guest = Guest::connect(&daemon, &[0]);
    guest.set_up(&[0]);
    guest.write(0, &[b'a'; 10_000]);
    guest.write(0, b"end");
    let text = std::fs::read(daemon.path("log.txt")).unwrap();
    assert_eq!((text.len(), &text[10_000..]), (10_003, &b"end"[..]));
}

#[test]
fn characters_are_written_before_anything_is_set_up() {
    let daemon = Daemon::start(&["--port=name=con,backend=unix:@/con.sock"]);
    let mut guest = Guest::connect(&daemon, &[]);
    for character in b"panic!" {
        let at = virtio_spec::console::EMERG_WR_OFFSET as u32;
        guest.front_end.write_config(at, &[*character, 0, 0, 0]).unwrap();
    }
    let mut peer = daemon.connect("con.sock");
    guest.set_up(&[0]);
    assert_eq!(read_until(&mut peer, "!"), "panic!");
}
