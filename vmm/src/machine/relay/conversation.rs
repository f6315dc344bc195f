//! What is said to one run of a daemon, and what it answers: a line each, in the same order.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv, sendmsg};
use serde_json::Value;

use crate::control::Answer;
use crate::control::protocol::Promise;
use crate::control::server::FDS_MAX;

/// The most commands that wait for their answers, also those that nobody waits for any more.
const ASKED_MAX: usize = 64;
/// The longest answer.
const ANSWER_MAX: usize = 1 << 20;
/// Bytes taken at a time.
const READ_SIZE: usize = 16 << 10;

/// A conversation.
#[derive(Debug)]
pub(super) struct Conversation {
    socket: OwnedFd,
    input: Vec<u8>,
    output: VecDeque<Parcel>,
    asked: VecDeque<Asked>,
    /// What the epoll watches; none: it does not know the socket yet.
    interest: Option<epoll::EventFlags>,
}

/// A line that is to be sent, and what goes with it.
#[derive(Debug)]
struct Parcel {
    line: Vec<u8>,
    sent: usize,
    fds: Vec<OwnedFd>,
}

/// A command that was not answered.
#[derive(Debug)]
struct Asked {
    promise: Promise,
    /// When whoever asked is told that there is no answer. None: that was done.
    until: Option<Instant>,
}

impl Conversation {
    pub(super) fn new(socket: OwnedFd) -> Self {
        let (output, asked) = (VecDeque::new(), VecDeque::new());
        Self { socket, input: Vec::new(), output, asked, interest: None }
    }

    /// Puts a command in line.
    pub(super) fn ask(
        &mut self,
        ask: &Value,
        fds: Vec<OwnedFd>,
        promise: Promise,
        until: Instant,
    ) -> Result<(), String> {
        if self.asked.len() >= ASKED_MAX {
            return Err(format!("its daemon has {ASKED_MAX} commands to answer: try again later"));
        }
        let line = format!("{ask}\n").into_bytes();
        self.output.push_back(Parcel { line, sent: 0, fds });
        self.asked.push_back(Asked { promise, until: Some(until) });
        Ok(())
    }

    /// Sends and receives what can be done at once. The error says why it cannot go on.
    pub(super) fn work(&mut self) -> Result<(), String> {
        let failed = |errno: Errno| match errno {
            Errno::CONNRESET | Errno::PIPE => ENDED.to_owned(),
            errno => format!("its daemon cannot be talked to ({errno})"),
        };
        self.send().map_err(failed)?;
        // Once a turn: a daemon that never stops talking would have the machine to itself.
        let mut bytes = vec![0; READ_SIZE];
        match recv(&self.socket, &mut bytes[..], RecvFlags::DONTWAIT) {
            Ok((_, 0)) => Err(ENDED.to_owned()),
            Ok((length, _)) => {
                self.input.extend(bytes.iter().take(length));
                self.deliver()
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(errno) => Err(failed(errno)),
        }
    }

    fn send(&mut self) -> Result<(), Errno> {
        while let Some(parcel) = self.output.front_mut() {
            match parcel.send(&self.socket) {
                Ok(()) if parcel.sent >= parcel.line.len() => drop(self.output.pop_front()),
                Ok(()) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                // The kernel has no room for it, or too many descriptors are under way: that is over in a
                // moment, and no fault of the daemon's.
                Err(errno @ (Errno::NOBUFS | Errno::NOMEM | Errno::TOOMANYREFS))
                    if parcel.sent == 0 =>
                {
                    self.refuse_first(errno);
                }
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Gives up the first command that was not sent. It has not begun to be sent.
    pub(super) fn refuse_first(&mut self, errno: Errno) {
        let unsent = self.output.len();
        self.output.pop_front();
        // Those that were sent wait before it for their answers.
        if let Some(at) = self.asked.len().checked_sub(unsent)
            && let Some(asked) = self.asked.remove(at)
        {
            let why = format!("the command could not be sent ({errno}): try again");
            asked.promise.keep(Err(why));
        }
    }

    /// Gives answers that are complete to who asked.
    fn deliver(&mut self) -> Result<(), String> {
        while let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.input.drain(..=end).collect();
            let asked = self.asked.pop_front().ok_or("its daemon answers what nobody asked")?;
            let answer = read(&line);
            let understood = answer.is_some();
            asked.promise.keep(answer.unwrap_or_else(|| Err(NONSENSE.to_owned())));
            if !understood {
                return Err(NONSENSE.to_owned());
            }
        }
        if self.input.len() > ANSWER_MAX {
            return Err(format!("its daemon's answer has more than {ANSWER_MAX} bytes"));
        }
        Ok(())
    }

    /// Tells who has waited too long.
    pub(super) fn expire(&mut self, now: Instant, limit: Duration) {
        for asked in &mut self.asked {
            if asked.until.is_some_and(|until| until <= now) {
                asked.until = None;
                let late = format!("its daemon has not answered for {} s", limit.as_secs());
                asked.promise.keep(Err(late));
            }
        }
    }

    /// When the next one has.
    pub(super) fn until(&self) -> Option<Instant> {
        self.asked.iter().filter_map(|asked| asked.until).min()
    }

    /// Has an epoll watch for what it waits for.
    pub(super) fn watch(&mut self, epoll: &OwnedFd, mark: u64) -> Result<(), Errno> {
        let mut wanted = epoll::EventFlags::IN;
        wanted.set(epoll::EventFlags::OUT, !self.output.is_empty());
        let data = epoll::EventData::new_u64(mark);
        match self.interest {
            None => epoll::add(epoll, &self.socket, data, wanted)?,
            Some(interest) if interest == wanted => {}
            Some(_) => epoll::modify(epoll, &self.socket, data, wanted)?,
        }
        self.interest = Some(wanted);
        Ok(())
    }

    /// Tells all who wait that nothing comes any more. Closing the socket takes it out of the epoll.
    pub(super) fn fail(self, why: &str) {
        for asked in self.asked {
            asked.promise.keep(Err(why.to_owned()));
        }
    }
}

const ENDED: &str = "its daemon ended before it answered: ask again";
const NONSENSE: &str = "its daemon gave an answer that is none";

impl Parcel {
    /// Sends some of it; descriptors go with the first byte.
    fn send(&mut self, socket: &OwnedFd) -> Result<(), Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds: Vec<_> = self.fds.iter().map(AsFd::as_fd).collect();
        if !fds.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(&fds));
        }
        let rest = IoSlice::new(self.line.get(self.sent..).unwrap_or_default());
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        self.sent += sendmsg(socket, &[rest], &mut control, flags)?;
        drop(fds);
        self.fds.clear();
        Ok(())
    }
}

/// A daemon's answer; none if it is none.
fn read(line: &[u8]) -> Option<Answer> {
    let Value::Object(mut members) = serde_json::from_slice(line).ok()? else { return None };
    match members.remove("ok")? {
        Value::Bool(true) => Some(Ok(members)),
        _ => Some(Err(members.get("error").and_then(Value::as_str)?.to_owned())),
    }
}
