use std::{
    io::{BufRead, BufReader, Read, Write},
    net::Shutdown,
    path::PathBuf,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    net::{SendAncillaryBuffer, SendAncillaryMessage, sendmsg},
};
use serde_json::{Map, Value, json};

use super::*;

struct Bench {
    _folder: tempfile::TempDir,
    path: PathBuf,
    server: Server,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let listener = Listener::bind(&path, SocketAccess::OWNER).unwrap();
        let server = Server::new(Some(listener)).unwrap();
        Self { _folder: folder, path, server }
    }

    fn connect(&mut self) -> UnixStream {
        let client = UnixStream::connect(&self.path).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        self.serve();
        client
    }

    fn is_ready(&self) -> bool {
        let mut fds = [PollFd::new(&self.server, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() > 0
    }

    /// Does what there is to do, and answers each command with its name and its descriptors' number.
    fn serve(&mut self) {
        for _ in 0..10_000 {
            if !self.is_ready() {
                return;
            }
            for request in self.server.poll() {
                let answer = request.command.as_ref().map(echo).map_err(Clone::clone);
                self.server.answer(request.client, answer);
            }
        }
        panic!("the server is ready for ever");
    }
}

fn echo(command: &Command) -> Map<String, Value> {
    let members = [("name", json!(command.name)), ("fds", json!(command.fds.len()))];
    members.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
}

fn next(client: &UnixStream) -> Value {
    let mut line = String::new();
    // One byte at a time, so that nothing of the next line is taken.
    BufReader::with_capacity(1, client).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

fn is_closed(mut client: &UnixStream) -> bool {
    matches!(client.read(&mut [0; 1]), Ok(0))
}

#[test]
fn each_line_is_answered_in_order() {
    let mut bench = Bench::new();
    let mut client = bench.connect();
    client.write_all(b"{\"cmd\":\"one\"}\nnonsense\n{\"cmd\":\"two\"}\n").unwrap();
    bench.serve();
    assert_eq!(next(&client), json!({"ok": true, "name": "one", "fds": 0}));
    assert_eq!(next(&client)["ok"], false);
    assert_eq!(next(&client)["name"], "two");
}

#[test]
fn clients_do_not_mix() {
    let mut bench = Bench::new();
    let (mut first, mut second) = (bench.connect(), bench.connect());
    first.write_all(b"{\"cmd\":").unwrap();
    second.write_all(b"{\"cmd\":\"second\"}\n").unwrap();
    bench.serve();
    assert_eq!(next(&second)["name"], "second");
    first.write_all(b"\"first\"}\n").unwrap();
    bench.serve();
    assert_eq!(next(&first)["name"], "first");
}

fn send_with_fds(client: &UnixStream, line: &[u8], count: usize) {
    let pipe = std::io::pipe().unwrap().0;
    send_fds(client, line, &vec![pipe.as_fd(); count]);
}

fn send_fds(client: &UnixStream, line: &[u8], fds: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX + 1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
    sendmsg(client, &[std::io::IoSlice::new(line)], &mut control, SendFlags::empty()).unwrap();
}

#[test]
fn descriptors_stay_with_their_line() {
    let mut bench = Bench::new();
    let mut client = bench.connect();
    client.write_all(b"{\"cmd\":\"before\"}\n").unwrap();
    send_with_fds(&client, b"{\"cmd\":\"resize\"}\n", 2);
    client.write_all(b"{\"cmd\":\"after\"}\n").unwrap();
    bench.serve();
    for (name, fds) in [("before", 0), ("resize", 2), ("after", 0)] {
        assert_eq!(next(&client), json!({"ok": true, "name": name, "fds": fds}));
    }
}

#[test]
fn too_many_descriptors_end_the_connection() {
    let mut bench = Bench::new();
    let client = bench.connect();
    send_with_fds(&client, b"{\"cmd\":\"resize\"}\n", FDS_MAX + 1);
    bench.serve();
    let answer = next(&client);
    assert!(answer["error"].as_str().unwrap().contains("more than 8 file descriptors"));
    assert!(is_closed(&client));
}

#[test]
fn a_line_without_end_ends_the_connection() {
    let mut bench = Bench::new();
    let mut client = bench.connect();
    client.set_nonblocking(true).unwrap();
    let mut sent = 0;
    while sent < 100 * 1024 {
        sent += client.write(&[b'x'; 4096]).unwrap_or(0);
        bench.serve();
        if bench.server.clients.is_empty() {
            break;
        }
    }
    client.set_nonblocking(false).unwrap();
    assert!(next(&client)["error"].as_str().unwrap().contains("more than 65536 bytes"));
    assert!(bench.server.clients.is_empty());
}

#[test]
fn a_client_that_sends_and_shuts_down_gets_its_answers() {
    let mut bench = Bench::new();
    let mut client = bench.connect();
    client.write_all(b"{\"cmd\":\"late\"}\n").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let request = bench.server.poll().pop().unwrap();
    // The end is seen, and the answer still to come.
    assert!(bench.server.poll().is_empty());
    assert!(!bench.is_ready(), "a finished client must not keep the loop busy");
    assert_eq!(bench.server.clients.len(), 1);
    bench.server.answer(request.client, request.command.as_ref().map(echo).map_err(Clone::clone));
    assert_eq!(next(&client)["name"], "late");
    assert!(is_closed(&client));
}

#[test]
fn a_client_that_goes_away_is_forgotten() {
    let mut bench = Bench::new();
    let mut client = bench.connect();
    client.write_all(b"{\"cmd\":\"never read\"}\n").unwrap();
    let request = bench.server.poll().pop().unwrap();
    drop(client);
    bench.serve();
    assert!(bench.server.clients.is_empty());
    bench.server.answer(request.client, request.command.as_ref().map(echo).map_err(Clone::clone));
    assert!(!bench.is_ready());
}

#[test]
fn one_client_too_many_is_told_so() {
    let mut bench = Bench::new();
    let mut clients: Vec<_> = (0..CLIENTS_MAX).map(|_| bench.connect()).collect();
    let refused = bench.connect();
    assert!(next(&refused)["error"].as_str().unwrap().contains("16 clients are connected"));
    assert!(is_closed(&refused));
    clients.pop();
    bench.serve();
    let mut client = bench.connect();
    client.write_all(b"{\"cmd\":\"fits\"}\n").unwrap();
    bench.serve();
    assert_eq!(next(&client)["name"], "fits");
}

#[test]
fn a_client_that_does_not_read_is_stopped_and_then_dropped() {
    let mut bench = Bench::new();
    let mut lazy = bench.connect();
    lazy.set_nonblocking(true).unwrap();
    let mut other = bench.connect();
    let long = json!("x".repeat(100 * 1024));
    let mut answered = 0;
    while !bench.server.clients.is_empty() && bench.server.clients.len() > 1 && answered < 1000 {
        let _ = lazy.write(&b"{\"cmd\":\"big\"}\n".repeat(64));
        let mut waiting = bench.server.poll();
        assert!(waiting.len() <= 16 * 1024 / 14);
        for request in waiting.drain(..) {
            let members = Map::from_iter([("long".to_owned(), long.clone())]);
            bench.server.answer(request.client, Ok(members));
            answered += 1;
        }
    }
    assert_eq!(bench.server.clients.len(), 1, "the lazy one is dropped");
    other.write_all(b"{\"cmd\":\"served\"}\n").unwrap();
    bench.serve();
    assert_eq!(next(&other)["name"], "served");
}

#[test]
fn unanswered_requests_are_bounded() {
    let mut bench = Bench::new();
    let mut client = bench.connect();
    client.write_all(&b"{\"cmd\":\"wait\"}\n".repeat(2000)).unwrap();
    let first = bench.server.poll();
    assert!(first.len() >= REQUESTS_MAX);
    assert!(!bench.is_ready(), "not read from until it is answered");
    for request in first {
        bench
            .server
            .answer(request.client, request.command.as_ref().map(echo).map_err(Clone::clone));
    }
    assert!(bench.is_ready());
}

/// The other end of a pipe shows whether a descriptor is still open.
#[test]
fn descriptors_that_nobody_takes_are_closed() {
    let mut bench = Bench::new();
    let client = bench.connect();
    let (read, write) = std::io::pipe().unwrap();
    send_fds(&client, b"{\"cmd\":\"resize\"}\nhalf a line", &[write.as_fd(); 3]);
    drop(write);
    bench.serve();
    next(&client);
    drop(client);
    bench.serve();
    assert_eq!(rustix::io::read(&read, &mut [0]), Ok(0), "a write end is open");
}

#[test]
fn the_socket_is_for_the_daemons_user_alone() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new();
    assert_eq!(bench.path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_client_may_have_been_there_from_the_start() {
    let (client, ours) = UnixStream::pair().unwrap();
    let mut server = Server::new(None).unwrap();
    assert!(server.listener().is_none());
    ours.set_nonblocking(true).unwrap();
    server.welcome(ours);
    (&client).write_all(b"{\"cmd\":\"stats\"}\n").unwrap();
    for request in server.poll() {
        server.answer(request.client, request.command.as_ref().map(echo).map_err(Clone::clone));
    }
    let mut answer = String::new();
    BufReader::new(&client).read_line(&mut answer).unwrap();
    assert!(answer.contains("stats"), "{answer}");
    // When it goes, nobody is left, and that is no reason to wake.
    drop(client);
    assert!(server.poll().is_empty());
    let mut fds = [PollFd::new(&server, PollFlags::IN)];
    assert_eq!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(0));
}
