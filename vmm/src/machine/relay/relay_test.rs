//! Daemons that are one end of a socket pair.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, poll};
use serde_json::{Map, Value, json};

use super::*;

struct Bench {
    relay: Relay,
    ways: Vec<Commands>,
}

fn bench() -> Bench {
    let named = [("balloon0", "balloon"), ("disk0", "disk"), ("disk1", "disk")];
    let ways = named.map(|_| Commands::default());
    let all = named.into_iter().zip(&ways).map(|((name, kind), way)| (name, kind, way.clone()));
    Bench { relay: Relay::new(all).unwrap(), ways: ways.to_vec() }
}

impl Bench {
    /// A run of a daemon begins.
    fn start(&self, index: usize) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        self.ways[index].put(Some(ours.into()));
        theirs.set_nonblocking(true).unwrap();
        theirs
    }

    fn pass_on(&mut self, device: &str) -> (Option<Answer>, DeviceRequest) {
        let (device, ask) = (device.to_owned(), json!({ "cmd": "stats" }));
        let mut request = DeviceRequest { device, ask, fds: Vec::new(), pending: None };
        (self.relay.pass_on(&mut request), request)
    }

    fn complaint(&mut self, device: &str) -> String {
        self.pass_on(device).0.unwrap().unwrap_err()
    }

    fn is_readable(&self) -> bool {
        let mut fds = [PollFd::new(&self.relay, PollFlags::IN)];
        poll(&mut fds, Some(&NEVER)).unwrap() > 0
    }
}

fn line(socket: &UnixStream) -> Value {
    let mut line = String::new();
    BufReader::new(socket).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

fn answer(request: &DeviceRequest) -> Option<Answer> {
    request.pending.as_ref().unwrap().take()
}

#[test]
fn a_command_goes_to_its_daemon_and_its_answer_back() {
    let mut bench = bench();
    let mut daemon = bench.start(0);
    for device in ["balloon", "balloon0"] {
        let (now, request) = bench.pass_on(device);
        assert!(now.is_none());
        assert_eq!(line(&daemon), json!({ "cmd": "stats" }));
        assert!(!bench.is_readable());
        daemon.write_all(b"{\"ok\":true,\"n\":7}\n").unwrap();
        assert!(bench.is_readable());
        bench.relay.work();
        let members = Map::from_iter([("n".to_owned(), json!(7))]);
        assert_eq!(answer(&request), Some(Ok(members)));
    }
    let (_, request) = bench.pass_on("balloon");
    daemon.write_all(b"{\"ok\":false,\"error\":\"not now\"}\n").unwrap();
    bench.relay.work();
    assert_eq!(answer(&request), Some(Err("not now".to_owned())));
}

#[test]
fn who_is_meant_has_to_be_clear() {
    let mut bench = bench();
    assert!(bench.complaint("disk").contains("disk0, disk1"));
    assert!(bench.complaint("net").contains("balloon0, disk0, disk1"));
    assert!(bench.complaint("balloon").contains("not there now"));
}

#[test]
fn descriptors_go_along() {
    let mut bench = bench();
    let daemon = bench.start(0);
    let (mut pipe, write) = std::io::pipe().unwrap();
    let ask = json!({ "cmd": "attach" });
    let fds = vec![write.into()];
    let mut request = DeviceRequest { device: "balloon".into(), ask, fds, pending: None };
    assert!(bench.relay.pass_on(&mut request).is_none());
    let fds = received_fds(&daemon);
    std::fs::File::from(fds.into_iter().next().unwrap()).write_all(b"x").unwrap();
    let mut byte = [0];
    pipe.read_exact(&mut byte).unwrap();
    assert_eq!(byte, *b"x");
}

fn received_fds(socket: &UnixStream) -> Vec<OwnedFd> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; 100];
    let parts = &mut [std::io::IoSliceMut::new(&mut bytes)];
    recvmsg(socket, parts, &mut control, RecvFlags::empty()).unwrap();
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    rights.flatten().collect()
}

#[test]
fn a_daemon_that_ends_or_is_started_anew_leaves_nobody_waiting() {
    let mut bench = bench();
    let first = bench.start(0);
    let (_, request) = bench.pass_on("balloon");
    drop(first);
    bench.relay.work();
    assert!(answer(&request).unwrap().unwrap_err().contains("ended before"));
    assert!(bench.complaint("balloon").contains("not there now"));

    let _second = bench.start(0);
    let (_, request) = bench.pass_on("balloon");
    let third = bench.start(0);
    let (_, after) = bench.pass_on("balloon");
    assert!(answer(&request).unwrap().unwrap_err().contains("started anew"));
    assert_eq!(line(&third), json!({ "cmd": "stats" }));
    assert!(answer(&after).is_none());
}

#[test]
fn a_daemon_that_talks_nonsense_is_not_listened_to() {
    for said in ["dance\n", "7\n", "{\"ok\":false}\n", "{}\n{}\n"] {
        let mut bench = bench();
        let mut daemon = bench.start(0);
        let (_, request) = bench.pass_on("balloon");
        daemon.write_all(said.as_bytes()).unwrap();
        bench.relay.work();
        assert!(answer(&request).unwrap().is_err(), "{said}");
        assert!(bench.relay.lines[0].conversation.is_none());
    }
    // What nobody asked for is nonsense too, and so is an answer without an end.
    let mut bench = bench();
    let mut daemon = bench.start(0);
    let (_, request) = bench.pass_on("balloon");
    for _ in 0..100 {
        let _ = daemon.write(&[b'x'; 65536]);
        bench.relay.work();
    }
    assert!(answer(&request).unwrap().unwrap_err().contains("bytes"));
    assert!(bench.relay.lines[0].conversation.is_none());
}

#[test]
fn who_waits_too_long_is_told_and_a_late_answer_is_nobody_elses() {
    let mut bench = bench();
    let mut daemon = bench.start(0);
    let (_, request) = bench.pass_on("balloon");
    let conversation = bench.relay.lines[0].conversation.as_mut().unwrap();
    assert!(conversation.until().is_some());
    conversation.expire(Instant::now() + LIMIT, LIMIT);
    assert!(answer(&request).unwrap().unwrap_err().contains("for 10 s"));
    let (_, second) = bench.pass_on("balloon");
    daemon.write_all(b"{\"ok\":true,\"n\":1}\n{\"ok\":true,\"n\":2}\n").unwrap();
    bench.relay.work();
    assert_eq!(answer(&second).unwrap().unwrap()["n"], 2);
}

#[test]
fn a_daemon_that_never_answers_takes_only_so_much() {
    let mut bench = bench();
    let _daemon = bench.start(0);
    let complaints = (0..100).filter_map(|_| bench.pass_on("balloon").0).count();
    assert_eq!(complaints, 36);
}

#[test]
fn a_command_that_the_kernel_does_not_send_ends_nothing_but_itself() {
    let (ours, mut daemon) = UnixStream::pair().unwrap();
    let mut conversation = Conversation::new(ours.into());
    let pending: [Pending; 3] = Default::default();
    for (number, pending) in pending.iter().enumerate() {
        let until = Instant::now() + LIMIT;
        conversation.ask(&json!(number), Vec::new(), pending.promise(), until).unwrap();
        if number == 0 {
            conversation.work().unwrap();
        }
    }
    conversation.refuse_first(rustix::io::Errno::TOOMANYREFS);
    assert!(pending[1].take().unwrap().unwrap_err().contains("try again"));
    daemon.write_all(b"{\"ok\":true,\"n\":1}\n{\"ok\":true,\"n\":3}\n").unwrap();
    conversation.work().unwrap();
    assert_eq!(pending[0].take().unwrap().unwrap()["n"], 1);
    assert_eq!(pending[2].take().unwrap().unwrap()["n"], 3);
    let mut sent = [0; 4];
    daemon.read_exact(&mut sent).unwrap();
    assert_eq!(&sent, b"0\n2\n");
}
