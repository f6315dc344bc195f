//! The control socket's clients.
//!
//! Theory of operation. The server never waits: it has an epoll of its own, whose descriptor is all
//! that its owner watches. When that is readable, [`Server::serve`] accepts, reads and writes what can be
//! done at once. What takes longer is answered by [`Server::answer_late`]; until then its client is not
//! read from, nor is one whose answers pile up unread. One that sends an endless line, or goes away, is
//! dropped. At most [`CLIENTS_MAX`] are served at a time.

use std::collections::{BTreeMap, VecDeque};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags, SocketFlags,
    accept_with, recvmsg, send,
};

use super::Error;
use super::protocol::{Answer, Request, encode};
use super::rest::Rest;
use super::socket_file::SocketFile;

/// The most clients at a time; more are told so and closed.
pub const CLIENTS_MAX: usize = 16;
/// The longest line, without its end.
const LINE_MAX: usize = 4096;
/// The most descriptors that may come with a line.
pub const FDS_MAX: usize = 4;
/// A client with this many bytes of unread answers is not read from.
const UNREAD_MAX: usize = 256 * 1024;
/// The listening socket's mark in the epoll; clients count from 1.
const LISTENER: u64 = 0;
/// That of the end of its rest.
const REST: u64 = u64::MAX;

/// Does what is asked for.
pub trait Handler {
    /// Does it, without waiting for anybody else than the machine. `None`: it was begun, and there is an
    /// answer when it is done.
    fn handle(&mut self, request: &mut Request) -> Option<Answer>;
    /// The answer to a request that was begun, once there is one.
    fn finish(&mut self, request: &mut Request) -> Option<Answer>;
}

/// The listening socket and its clients.
#[derive(Debug)]
pub struct Server {
    listener: OwnedFd,
    rest: Rest,
    file: SocketFile,
    epoll: OwnedFd,
    clients: BTreeMap<u64, Client>,
    last_id: u64,
}

impl Server {
    /// Listens at a path, for the process's own user only.
    ///
    /// # Errors
    /// [`Error`], if the path cannot be used.
    pub fn listen(path: &Path) -> Result<Self, Error> {
        let (listener, file) = SocketFile::listen(path)?;
        let failed = |errno: Errno| Error::Socket {
            action: "watch",
            path: path.to_owned(),
            source: errno.into(),
        };
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed)?;
        let mark = epoll::EventData::new_u64(LISTENER);
        epoll::add(&epoll, &listener, mark, epoll::EventFlags::IN).map_err(failed)?;
        let rest = Rest::new().map_err(failed)?;
        let mark = epoll::EventData::new_u64(REST);
        epoll::add(&epoll, &rest, mark, epoll::EventFlags::IN).map_err(failed)?;
        Ok(Self { listener, rest, file, epoll, clients: BTreeMap::new(), last_id: LISTENER })
    }

    /// The socket's file.
    #[must_use]
    pub fn file(&self) -> &SocketFile {
        &self.file
    }

    /// Does what can be done without waiting. To be called when the descriptor is readable.
    pub fn serve(&mut self, handler: &mut dyn Handler) {
        let none =
            epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };
        let mut events = [none; CLIENTS_MAX + 2];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Interrupted is the only error; then the descriptor stays readable.
        let count = epoll::wait(&self.epoll, &mut events, Some(&at_once)).unwrap_or(0);
        for event in events.iter().take(count) {
            match event.data.u64() {
                LISTENER => self.accept(),
                REST => self.look_at_rest(),
                id => self.attend(id, event.flags, handler),
            }
        }
    }

    /// Answers what was begun and is done by now. To be called whenever that may be so.
    pub fn answer_late(&mut self, handler: &mut dyn Handler) {
        let begun = self.clients.iter().filter(|(_, client)| client.begun.is_some());
        let begun: Vec<u64> = begun.map(|(id, _)| *id).collect();
        for id in begun {
            self.attend(id, epoll::EventFlags::empty(), handler);
        }
    }

    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        match accept_with(&self.listener, flags) {
            Ok(socket) => self.welcome(socket),
            Err(failure) => self.rest_after(failure),
        }
    }

    fn rest_after(&mut self, failure: Errno) {
        self.rest.after(failure);
        if self.rest.is_on() {
            self.wait_for_listener(epoll::EventFlags::empty());
        }
    }

    fn look_at_rest(&mut self) {
        self.rest.look();
        if !self.rest.is_on() {
            self.wait_for_listener(epoll::EventFlags::IN);
        }
    }

    fn wait_for_listener(&self, events: epoll::EventFlags) {
        // It does not fail for a descriptor that is in the epoll.
        let _ =
            epoll::modify(&self.epoll, &self.listener, epoll::EventData::new_u64(LISTENER), events);
    }

    fn welcome(&mut self, socket: OwnedFd) {
        if self.clients.len() >= CLIENTS_MAX {
            let full = format!("{CLIENTS_MAX} clients are connected: try again later");
            // If it does not fit, it is not that important.
            let _ = send(&socket, &encode(Err(full)), SEND_FLAGS);
            return;
        }
        self.last_id += 1;
        let client = Client::new(socket);
        let mark = epoll::EventData::new_u64(self.last_id);
        if epoll::add(&self.epoll, &client.socket, mark, client.interest).is_ok() {
            self.clients.insert(self.last_id, client);
        }
    }

    fn attend(&mut self, id: u64, ready: epoll::EventFlags, handler: &mut dyn Handler) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        client.serve(ready, handler);
        let wanted = client.wanted();
        let mark = epoll::EventData::new_u64(id);
        let watched = wanted == client.interest
            || epoll::modify(&self.epoll, &client.socket, mark, wanted).is_ok();
        client.interest = wanted;
        if !watched || client.is_done() {
            // Closing the socket takes it out of the epoll.
            self.clients.remove(&id);
        }
    }
}

impl AsFd for Server {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

const SEND_FLAGS: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

#[derive(Debug)]
struct Client {
    socket: OwnedFd,
    /// What came and was not acted upon.
    input: Vec<u8>,
    /// What came with it: the next line's.
    fds: Vec<OwnedFd>,
    output: VecDeque<u8>,
    /// What it waits for; its next request is not looked at before.
    begun: Option<Request>,
    /// No more requests come: it closed its side, or broke the rules.
    finished: bool,
    /// It is of no use to keep it.
    lost: bool,
    /// What the epoll watches.
    interest: epoll::EventFlags,
}

impl Client {
    fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            input: Vec::new(),
            fds: Vec::new(),
            output: VecDeque::new(),
            begun: None,
            finished: false,
            lost: false,
            interest: epoll::EventFlags::IN,
        }
    }

    fn serve(&mut self, ready: epoll::EventFlags, handler: &mut dyn Handler) {
        if ready.contains(epoll::EventFlags::IN) {
            self.read();
        }
        self.flush();
        self.act(handler);
        // Both directions are closed: nobody is left to read an answer.
        self.lost |= ready.intersects(epoll::EventFlags::HUP | epoll::EventFlags::ERR);
    }

    fn read(&mut self) {
        let mut bytes = [0; LINE_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let parts = &mut [IoSliceMut::new(&mut bytes)];
        match recvmsg(&self.socket, parts, &mut control, flags) {
            Ok(received) if received.bytes == 0 => self.finished = true,
            Ok(received) => {
                self.fds.extend(control.drain().filter_map(rights).flatten());
                self.input.extend(bytes.iter().take(received.bytes));
                // Some were lost, or a line has more than it may.
                self.lost |= received.flags.contains(ReturnFlags::CTRUNC);
                self.lost |= self.fds.len() > FDS_MAX;
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.lost = true,
        }
    }

    /// Answers the lines that are complete, as long as the answers are read.
    fn act(&mut self, handler: &mut dyn Handler) {
        if let Some(mut request) = self.begun.take() {
            let answer = handler.finish(&mut request);
            self.reply(request, answer);
        }
        while !self.is_busy() && !self.lost {
            let Some(end) = self.input.iter().position(|byte| *byte == b'\n') else { break };
            let line: Vec<u8> = self.input.drain(..=end).collect();
            if line.trim_ascii().is_empty() {
                continue;
            }
            match Request::parse(&line, std::mem::take(&mut self.fds)) {
                Ok(mut request) => {
                    let answer = handler.handle(&mut request);
                    self.reply(request, answer);
                }
                Err(complaint) => self.say(Err(complaint)),
            }
        }
        if !self.is_busy() && self.input.len() > LINE_MAX {
            self.input.clear();
            self.finished = true;
            self.say(Err(format!("a line has more than {LINE_MAX} bytes: connect again")));
        }
    }

    /// Answers a request, or remembers that it must be.
    fn reply(&mut self, request: Request, answer: Option<Answer>) {
        self.begun = answer.is_none().then_some(request);
        if let Some(answer) = answer {
            self.say(answer);
        }
    }

    fn say(&mut self, answer: Answer) {
        self.output.extend(encode(answer));
        self.flush();
    }

    fn flush(&mut self) {
        while !self.output.is_empty() {
            match send(&self.socket, self.output.as_slices().0, SEND_FLAGS) {
                Ok(sent) => drop(self.output.drain(..sent.min(self.output.len()))),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    self.lost = true;
                    return;
                }
            }
        }
    }

    fn is_busy(&self) -> bool {
        self.output.len() >= UNREAD_MAX || self.begun.is_some()
    }

    fn wanted(&self) -> epoll::EventFlags {
        let mut wanted = epoll::EventFlags::empty();
        wanted.set(epoll::EventFlags::IN, !self.finished && !self.is_busy());
        wanted.set(epoll::EventFlags::OUT, !self.output.is_empty());
        wanted
    }

    fn is_done(&self) -> bool {
        self.lost || (self.finished && self.output.is_empty() && self.begun.is_none())
    }
}

fn rights(message: RecvAncillaryMessage<'_>) -> Option<impl Iterator<Item = OwnedFd>> {
    match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    }
}

#[cfg(test)]
#[path = "server_test.rs"]
mod tests;
