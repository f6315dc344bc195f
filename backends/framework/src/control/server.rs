//! The control socket's clients.
//!
//! Theory of operation. The server never waits: it has an epoll of its own, whose descriptor is all
//! that its owner watches. When that is readable, [`Server::poll`] accepts, reads and writes what can
//! be done at once and returns the requests that are complete; the owner answers each of them with
//! [`Server::answer`], for one client in the order in which they came. A client is not read from while
//! it has too many unanswered requests or unread answers, and is dropped when its answers pile up.
//! One that closed its sending side is kept until it has its answers. Clients come by a listening socket,
//! and one may have been there from the start (`--control-fd`): the VMM that has started this program.

use std::{
    collections::{BTreeMap, VecDeque},
    io::IoSliceMut,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use rustix::{
    event::{Timespec, epoll},
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags, recvmsg, send,
    },
};

use super::{
    lines::{FDS_MAX, LineBuffer, LineError},
    protocol::{Answer, Command, encode},
};
use crate::{
    error::{Error, Result},
    program::{
        inherited::{self, ListenFds},
        listener::{Endpoint, Listener},
        options::CommonOptions,
        rate_limit::{self, RateLimit},
        socket_file::SocketAccess,
    },
};

/// The most clients at a time; more are told so and closed.
pub const CLIENTS_MAX: usize = 16;
/// The name of a control socket that systemd passes (`FileDescriptorName=`).
const ACTIVATED_NAME: &str = "control";
/// A client with this many unanswered requests is not read from.
const REQUESTS_MAX: usize = 32;
/// A client with this many bytes of unread answers is not read from.
const OUTPUT_BUSY: usize = 64 * 1024;
/// A client with this many bytes of unread answers is dropped.
const OUTPUT_MAX: usize = 1024 * 1024;
/// Bytes taken from one client at a time.
const READ_SIZE: usize = 16 * 1024;
/// The listening socket's mark in the epoll; clients count from 1.
const LISTENER: u64 = 0;

/// Which client a request came from; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientId(u64);

/// A request that has to be answered.
#[derive(Debug)]
pub struct Request {
    /// Whom to answer.
    pub client: ClientId,
    /// What is wanted, or the answer if that cannot be understood.
    pub command: Result<Command, String>,
}

/// The listening socket and its clients.
#[derive(Debug)]
pub struct Server {
    listener: Option<Listener>,
    epoll: OwnedFd,
    clients: BTreeMap<ClientId, Client>,
    last_id: u64,
    log_limit: RateLimit,
}

impl Server {
    /// Opens the socket of `--control-path`, for the daemon's user alone, or the one that systemd passed
    /// under the name `control`; and takes the client of `--control-fd`. `None` without any of them.
    ///
    /// # Errors
    /// Those of [`Listener::bind`] and [`Server::new`]; [`Error::InheritedFd`] if the descriptor is no
    /// connected Unix stream socket.
    pub fn open(options: &CommonOptions, passed: &mut ListenFds) -> Result<Option<Self>> {
        let listener = match &options.control_path {
            Some(path) => Some(Listener::bind(path, SocketAccess::OWNER)?),
            None => activated(passed)?,
        };
        let client = options.control_fd.map(inherited_client).transpose()?;
        if listener.is_none() && client.is_none() {
            return Ok(None);
        }
        let mut server = Self::new(listener)?;
        if let Some(client) = client {
            server.welcome(client);
        }
        Ok(Some(server))
    }

    /// Serves a listening socket, if there is one.
    ///
    /// # Errors
    /// [`Error::Control`] if the system is out of descriptors.
    pub fn new(listener: Option<Listener>) -> Result<Self> {
        let failed = |errno: Errno| Error::Control { source: errno.into() };
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed)?;
        if let Some(listener) = &listener {
            let mark = epoll::EventData::new_u64(LISTENER);
            epoll::add(&epoll, listener, mark, epoll::EventFlags::IN).map_err(failed)?;
        }
        let log_limit = RateLimit::new(5, Duration::from_secs(10));
        Ok(Self { listener, epoll, clients: BTreeMap::new(), last_id: LISTENER, log_limit })
    }

    /// The listening socket, whose file's directory a sandbox has to know.
    #[must_use]
    pub fn listener(&self) -> Option<&Listener> {
        self.listener.as_ref()
    }

    /// Does what can be done without waiting. To be called when the descriptor is readable.
    pub fn poll(&mut self) -> Vec<Request> {
        let none =
            epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };
        let mut events = [none; CLIENTS_MAX + 1];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Interrupted is the only error; then the descriptor stays readable.
        let count = epoll::wait(&self.epoll, &mut events, Some(&at_once)).unwrap_or(0);
        let mut requests = Vec::new();
        for event in events.iter().take(count) {
            match event.data.u64() {
                LISTENER => self.accept(),
                id => self.serve(ClientId(id), event.flags, &mut requests),
            }
        }
        requests
    }

    /// Answers the oldest unanswered request of a client. A client that is gone is none of the owner's
    /// concern.
    pub fn answer(&mut self, client: ClientId, answer: Answer) {
        if let Some(found) = self.clients.get_mut(&client) {
            found.answer(&encode(answer));
            self.settle(client);
        }
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else { return };
        let accepted = match listener.accept() {
            Ok(Some(socket)) => socket,
            Ok(None) => return,
            Err(error) => return self.complain("cannot accept a control client", &error),
        };
        if self.clients.len() >= CLIENTS_MAX {
            let full = format!("{CLIENTS_MAX} clients are connected: try again later");
            // If it does not fit, it is not that important.
            let _ = send(&accepted, &encode(Err(full)), SEND_FLAGS);
            return;
        }
        self.welcome(accepted);
    }

    fn welcome(&mut self, socket: UnixStream) {
        self.last_id += 1;
        let id = ClientId(self.last_id);
        let client = Client::new(socket);
        let mark = epoll::EventData::new_u64(id.0);
        match epoll::add(&self.epoll, &client.socket, mark, client.interest) {
            Ok(()) => drop(self.clients.insert(id, client)),
            Err(errno) => self.complain("cannot watch a control client", &errno),
        }
    }

    fn serve(&mut self, id: ClientId, ready: epoll::EventFlags, requests: &mut Vec<Request>) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let commands = client.serve(ready);
        requests.extend(commands.into_iter().map(|command| Request { client: id, command }));
        self.settle(id);
    }

    /// Drops a client that is done, else watches for what it waits for now.
    fn settle(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let wanted = client.wanted();
        let keep = match wanted {
            _ if client.is_done() => false,
            wanted if wanted == client.interest => true,
            wanted => {
                client.interest = wanted;
                let mark = epoll::EventData::new_u64(id.0);
                epoll::modify(&self.epoll, &client.socket, mark, wanted).is_ok()
            }
        };
        if !keep {
            // Closing the socket takes it out of the epoll.
            self.clients.remove(&id);
        }
    }

    fn complain(&self, message: &str, error: &dyn std::fmt::Display) {
        if let Some(suppressed) = self.log_limit.admit(rate_limit::now()) {
            tracing::warn!(%error, suppressed, "{message}");
        }
    }
}

/// The socket that systemd passed.
fn activated(passed: &mut ListenFds) -> Result<Option<Listener>> {
    match passed.take(ACTIVATED_NAME).map(Endpoint::from_fd) {
        None => Ok(None),
        Some(Ok(Endpoint::Listening(listener))) => Ok(Some(listener)),
        Some(_) => Err(Error::Activation {
            variable: "LISTEN_FDNAMES",
            value: format!("{ACTIVATED_NAME} (not a listening socket)"),
        }),
    }
}

/// The client of `--control-fd`.
fn inherited_client(fd: RawFd) -> Result<UnixStream> {
    let refused = |reason| Error::InheritedFd { fd, reason };
    let socket = inherited::claim(fd)?;
    if !inherited::is_unix_stream(&socket) {
        return Err(refused("is not a Unix stream socket"));
    }
    match Endpoint::from_fd(socket) {
        Ok(Endpoint::Connected(client)) => Ok(client),
        _ => Err(refused("is not a connected socket")),
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
    socket: UnixStream,
    input: LineBuffer,
    output: VecDeque<u8>,
    /// Requests that its owner has not answered yet.
    unanswered: usize,
    /// No more requests come: it closed its side, or broke the rules.
    finished: bool,
    /// It is of no use to keep it.
    lost: bool,
    /// What the epoll watches.
    interest: epoll::EventFlags,
}

impl Client {
    fn new(socket: UnixStream) -> Self {
        Self {
            socket,
            input: LineBuffer::default(),
            output: VecDeque::new(),
            unanswered: 0,
            finished: false,
            lost: false,
            interest: epoll::EventFlags::IN,
        }
    }

    fn serve(&mut self, ready: epoll::EventFlags) -> Vec<Result<Command, String>> {
        if ready.contains(epoll::EventFlags::OUT) {
            self.flush();
        }
        let commands = if ready.contains(epoll::EventFlags::IN) { self.read() } else { Vec::new() };
        // Both directions are closed: nobody is left to read an answer.
        self.lost |= ready.intersects(epoll::EventFlags::HUP | epoll::EventFlags::ERR);
        commands
    }

    fn read(&mut self) -> Vec<Result<Command, String>> {
        let mut lines = Vec::new();
        let broken = match receive(&self.socket) {
            Ok((bytes, fds)) if bytes.is_empty() && fds.is_empty() => {
                self.finished = true;
                None
            }
            Ok((bytes, fds)) => self.input.push(&bytes, fds, &mut lines).err(),
            Err(ReceiveError::Fds) => Some(LineError::TooManyFds),
            Err(ReceiveError::System(Errno::AGAIN | Errno::INTR)) => None,
            Err(ReceiveError::System(_)) => {
                self.lost = true;
                None
            }
        };
        let mut commands: Vec<_> = lines.into_iter().map(Command::parse).collect();
        if let Some(error) = broken {
            self.finished = true;
            commands.push(Err(format!("{error}: connect again")));
        }
        self.unanswered += commands.len();
        commands
    }

    fn answer(&mut self, line: &[u8]) {
        self.unanswered = self.unanswered.saturating_sub(1);
        self.output.extend(line);
        self.flush();
        self.lost |= self.output.len() > OUTPUT_MAX;
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

    fn wanted(&self) -> epoll::EventFlags {
        let busy = self.unanswered >= REQUESTS_MAX || self.output.len() >= OUTPUT_BUSY;
        let mut wanted = epoll::EventFlags::empty();
        wanted.set(epoll::EventFlags::IN, !self.finished && !busy);
        wanted.set(epoll::EventFlags::OUT, !self.output.is_empty());
        wanted
    }

    fn is_done(&self) -> bool {
        self.lost || (self.finished && self.unanswered == 0 && self.output.is_empty())
    }
}

enum ReceiveError {
    System(Errno),
    /// There was no room for all descriptors; the kernel has closed the rest.
    Fds,
}

/// One `recvmsg`: bytes and descriptors, both empty at the end.
fn receive(socket: &UnixStream) -> Result<(Vec<u8>, Vec<OwnedFd>), ReceiveError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = vec![0; READ_SIZE];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags)
        .map_err(ReceiveError::System)?;
    bytes.truncate(received.bytes);
    let fds = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(ReceiveError::Fds);
    }
    Ok((bytes, fds))
}

#[cfg(test)]
#[path = "server_test.rs"]
mod tests;
