use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, poll};
use serde_json::{Map, Value, json};

use super::*;
use crate::control::Command;

/// Answers with how often it was asked, or with a lot.
struct Counter {
    requests: Vec<Command>,
    fds: usize,
    answer_size: usize,
    /// A pause takes its time.
    busy: bool,
}

impl Handler for Counter {
    fn handle(&mut self, request: &mut Request) -> Option<Answer> {
        match request {
            Request::Machine(command) => self.requests.push(*command),
            Request::Device(request) => self.fds += request.fds.len(),
        }
        if matches!(request, Request::Machine(Command::Reset)) {
            return Some(Err("not now".into()));
        }
        self.finish(request)
    }

    fn finish(&mut self, request: &mut Request) -> Option<Answer> {
        if matches!(request, Request::Machine(Command::Pause)) && self.busy {
            return None;
        }
        let padding = json!("x".repeat(self.answer_size));
        let n = json!(self.requests.len());
        Some(Ok(Map::from_iter([("n".into(), n), ("padding".into(), padding)])))
    }
}

struct Bench {
    server: Server,
    counter: Counter,
    folder: tempfile::TempDir,
}

fn bench(answer_size: usize) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::listen(&folder.path().join("s")).unwrap();
    Bench {
        server,
        counter: Counter { requests: Vec::new(), fds: 0, answer_size, busy: false },
        folder,
    }
}

impl Bench {
    fn client(&self) -> UnixStream {
        let client = UnixStream::connect(self.folder.path().join("s")).unwrap();
        client.set_nonblocking(true).unwrap();
        client
    }

    /// Serves until there is nothing to do.
    fn settle(&mut self) {
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        for _ in 0..100_000 {
            let mut fds = [PollFd::new(&self.server, PollFlags::IN)];
            if poll(&mut fds, Some(&at_once)).unwrap() == 0 {
                return;
            }
            self.server.serve(&mut self.counter);
        }
        panic!("the server never rests");
    }
}

fn answer(client: &UnixStream) -> Value {
    let mut line = String::new();
    BufReader::with_capacity(1, client).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

fn is_closed(mut client: &UnixStream) -> bool {
    matches!(client.read(&mut [0]), Ok(0))
}

#[test]
fn requests_are_answered_in_order() {
    let mut bench = bench(0);
    let mut client = bench.client();
    client.write_all(b"{\"cmd\":\"status\"}\n\n{\"cmd\":\"reset\"}\nnonsense\n{\"cmd\":").unwrap();
    bench.settle();
    assert_eq!(answer(&client)["n"], 1);
    assert_eq!(answer(&client)["error"], "not now");
    assert_eq!(answer(&client)["ok"], false);
    client.write_all(b"\"pause\"}\n").unwrap();
    bench.settle();
    assert_eq!(answer(&client)["n"], 3);
    assert_eq!(bench.counter.requests, [Command::Status, Command::Reset, Command::Pause]);
}

#[test]
fn what_takes_longer_is_answered_when_it_is_done() {
    let mut bench = bench(0);
    bench.counter.busy = true;
    let (mut client, mut other) = (bench.client(), bench.client());
    client.write_all(b"{\"cmd\":\"pause\"}\n{\"cmd\":\"reset\"}\n").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    bench.settle();
    bench.server.answer_late(&mut bench.counter);
    other.write_all(b"{\"cmd\":\"status\"}\n").unwrap();
    bench.settle();
    assert_eq!(answer(&other)["n"], 2, "others do not wait");
    let nothing = (&client).read(&mut [0]).unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
    bench.counter.busy = false;
    bench.server.answer_late(&mut bench.counter);
    bench.settle();
    assert_eq!(answer(&client)["ok"], true);
    assert_eq!(answer(&client)["error"], "not now");
    assert!(is_closed(&client));
    assert_eq!(bench.counter.requests, [Command::Pause, Command::Status, Command::Reset]);
}

#[test]
fn a_client_that_closed_its_side_gets_its_answers() {
    let mut bench = bench(0);
    let mut client = bench.client();
    client.write_all(b"{\"cmd\":\"stop\"}\n").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    bench.settle();
    assert_eq!(answer(&client)["ok"], true);
    assert!(is_closed(&client));
    assert!(bench.server.clients.is_empty());
}

#[test]
fn a_client_that_does_not_read_holds_up_only_itself() {
    let mut bench = bench(10_000);
    let mut greedy = bench.client();
    let line = b"{\"cmd\":\"stats\"}\n";
    let mut written = 0;
    for _ in 0..100_000 {
        match greedy.write(line) {
            Ok(length) => written += length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
        bench.settle();
    }
    let held: usize = bench.server.clients.values().map(|c| c.input.len() + c.output.len()).sum();
    assert!(held < 2 * UNREAD_MAX, "{held}");
    assert!(bench.counter.requests.len() < written / line.len());
    let mut other = bench.client();
    other.write_all(line).unwrap();
    bench.settle();
    assert_eq!(answer(&other)["ok"], true);
    // When it reads at last, it is served on.
    let before = bench.counter.requests.len();
    for _ in 0..100 {
        while greedy.read(&mut [0; 65536]).is_ok_and(|length| length > 0) {}
        bench.settle();
    }
    assert!(bench.counter.requests.len() > before);
}

#[test]
fn an_endless_line_is_cut_off() {
    let mut bench = bench(0);
    let mut client = bench.client();
    for _ in 0..3 {
        let _ = client.write(&[b'x'; LINE_MAX]);
        bench.settle();
    }
    assert!(answer(&client)["error"].as_str().unwrap().contains("4096 bytes"));
    assert!(bench.server.clients.is_empty());
}

#[test]
fn a_server_without_descriptors_rests_and_tries_again() {
    let mut bench = bench(0);
    let mut client = bench.client();
    client.write_all(b"{\"cmd\":\"status\"}\n").unwrap();
    bench.server.rest_after(Errno::MFILE);
    let is_readable = |bench: &Bench, limit| {
        let mut fds = [PollFd::new(&bench.server, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: limit, tv_nsec: 0 })).unwrap() > 0
    };
    assert!(!is_readable(&bench, 0), "nothing keeps its thread busy");
    assert!(is_readable(&bench, 10));
    bench.settle();
    assert_eq!(answer(&client)["ok"], true);
    // Whoever has gone away is no reason to.
    let _other = bench.client();
    bench.server.rest_after(Errno::CONNABORTED);
    assert!(is_readable(&bench, 0));
}

#[test]
fn the_number_of_clients_is_bounded() {
    let mut bench = bench(0);
    let mut clients = Vec::new();
    for _ in 0..=CLIENTS_MAX {
        clients.push(bench.client());
        bench.settle();
    }
    let last = clients.pop().unwrap();
    assert!(answer(&last)["error"].as_str().unwrap().contains("try again later"));
    clients.remove(0);
    bench.settle();
    let mut next = bench.client();
    next.write_all(b"{\"cmd\":\"status\"}\n").unwrap();
    bench.settle();
    assert_eq!(answer(&next)["ok"], true);
}

#[test]
fn descriptors_come_with_the_line_that_they_belong_to() {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, sendmsg};
    let mut bench = bench(0);
    let client = bench.client();
    let line = b"{\"cmd\":\"device\",\"device\":\"x\",\"ask\":{\"cmd\":\"y\"}}\n";
    let fds = [client.as_fd(), client.as_fd()];
    for count in [2, 0, 1] {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if count > 0 {
            control.push(SendAncillaryMessage::ScmRights(&fds[..count]));
        }
        let parts = [std::io::IoSlice::new(line)];
        sendmsg(&client, &parts, &mut control, SendFlags::empty()).unwrap();
        bench.settle();
        assert_eq!(answer(&client)["ok"], true);
    }
    assert_eq!(bench.counter.fds, 3);
}
