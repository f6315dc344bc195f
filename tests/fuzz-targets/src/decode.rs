//! Bytes as vhost-user messages: of either direction, as replies, and as they come from a socket.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use arbitrary::{Arbitrary, Unstructured};
use rustix::event::{EventfdFlags, eventfd};
use wire::{BackendRequest, Channel, Frame, Reply, Request};

/// A message.
#[derive(Arbitrary, Debug)]
struct Message {
    code: u8,
    high_code: Option<u32>,
    reply: bool,
    need_reply: bool,
    fds: u8,
    words: Vec<u32>,
    odd: u8,
}

/// One input.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    if input.arbitrary().unwrap_or(false) {
        from_socket(input.take_rest());
        return;
    }
    while let Ok(message) = Message::arbitrary(&mut input) {
        decode(&message);
        if input.is_empty() {
            break;
        }
    }
}

fn decode(message: &Message) {
    let code = message.high_code.unwrap_or((message.code % 50).into());
    if let Ok(request) = Request::decode(message.frame(code)) {
        // What was understood is said again, and understood alike.
        let (shown, has_reply) = (shape(&request), request.has_reply());
        // A read of more configuration space than a message holds is cut.
        let cut = matches!(&request, Request::GetConfig(access) if access.size > 4000);
        if !cut && !matches!(request, Request::Unknown { .. }) {
            let again = Request::decode(request.encode()).expect("our own message is understood");
            assert_eq!((shape(&again), again.has_reply()), (shown, has_reply));
        }
    }
    let _ = Reply::decode(code, message.frame(code));
    if let Ok(request) = BackendRequest::decode(message.frame(code)) {
        let again = BackendRequest::decode(request.encode());
        assert_eq!(again.expect("our own message is understood"), request);
    }
}

/// A request in words, without the numbers of its descriptors.
fn shape(request: &Request) -> String {
    let shown = format!("{request:?}");
    let mut parts = shown.split("OwnedFd { fd: ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |whole, part| {
        whole + "fd" + part.trim_start_matches(|c: char| c.is_ascii_digit())
    })
}

impl Message {
    fn frame(&self, code: u32) -> Frame {
        let mut payload: Vec<u8> = self.words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let odd = usize::from(self.odd % 16);
        payload.extend(if odd < 4 { vec![0; odd] } else { Vec::new() });
        let fds = (0..self.fds % 4).map(|_| eventfd(0, EventfdFlags::CLOEXEC).unwrap());
        Frame { code, reply: self.reply, need_reply: self.need_reply, payload, fds: fds.collect() }
    }
}

/// A peer that sends these bytes, and is gone then.
fn from_socket(bytes: &[u8]) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let sent = std::io::Write::write(&mut &theirs, bytes).unwrap_or(0);
    drop(theirs);
    let mut channel = Channel::new(OwnedFd::from(ours));
    let mut received = 0;
    // It ends with an error at the latest when the peer has gone.
    loop {
        match channel.receive() {
            Ok(Some(frame)) => {
                received += 12 + frame.payload.len();
                let _ = Request::decode(frame);
            }
            Ok(None) => panic!("a peer that has gone may still send"),
            Err(error) => {
                assert!(error.is_fatal());
                assert!(channel.receive().is_err());
                break;
            }
        }
    }
    assert!(received <= sent);
}
