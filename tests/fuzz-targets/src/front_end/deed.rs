//! What happens to a front-end, as input.

use std::os::fd::OwnedFd;

use arbitrary::Arbitrary;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::pipe::pipe;
use wire::Frame;

/// One thing that the back-end or the driver does.
#[derive(Arbitrary, Debug)]
pub(super) enum Deed {
    /// The back-end answers so many requests, up to 31, as the protocol wants it.
    Proper(u8),
    /// It answers one almost so.
    Twisted(Twist),
    /// It sends a message.
    Message(Message),
    /// It sends bytes.
    Bytes(Vec<u8>),
    /// It sends a request of its own: that its configuration has changed, or anything.
    Request(Option<Message>),
    /// It ends the connection.
    Cut,
    /// The driver, or the machine.
    Driver(Driver),
}

/// How an answer is changed.
#[derive(Arbitrary, Debug)]
pub(super) enum Twist {
    /// These are the first bytes of its payload.
    Front([u8; 8]),
    /// These are the last.
    Back([u8; 8]),
    /// The payload has so many bytes.
    Length(u8),
    /// Without its descriptors.
    WithoutFds,
    /// With others.
    OtherFds(u8, bool),
}

/// A message of any content.
#[derive(Arbitrary, Debug)]
pub(super) struct Message {
    code: u8,
    reply: bool,
    need_reply: bool,
    payload: Vec<u8>,
    fds: u8,
    pipe: bool,
}

/// What the transport calls.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Driver {
    Start { packed: bool, queues: u8, at: u16 },
    StartQueue { queue: u8, at: u16 },
    ResetQueue(u8),
    Reset,
    Write(u32, [u8; 4]),
    Pause(bool),
    Announce,
}

impl Message {
    pub(super) fn frame(self) -> Frame {
        let Message { code, reply, need_reply, payload, fds, pipe } = self;
        let fds = files(fds, pipe);
        Frame { code: (code % 50).into(), reply, need_reply, payload, fds }
    }
}

impl Twist {
    pub(super) fn change(&self, frame: &mut Frame) {
        match self {
            Twist::Front(bytes) => {
                frame.payload.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            }
            Twist::Back(bytes) => {
                frame.payload.iter_mut().rev().zip(bytes).for_each(|(to, from)| *to = *from);
            }
            Twist::Length(len) => frame.payload.resize((*len).into(), 0xff),
            Twist::WithoutFds => frame.fds.clear(),
            Twist::OtherFds(count, pipe) => frame.fds = files(*count, *pipe),
        }
    }
}

fn files(count: u8, pipe_end: bool) -> Vec<OwnedFd> {
    let file = |_| match pipe_end {
        true => pipe().unwrap().0,
        false => {
            let file = memfd_create("fuzz", MemfdFlags::CLOEXEC).unwrap();
            ftruncate(&file, 4096).unwrap();
            file
        }
    };
    (0..count % 10).map(file).collect()
}
