//! The VMM's end: one daemon, as seen by the front-end of its device.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::message::{self, Received, Report, Request};

/// Where the socket for a daemon's commands is found, a new one for each of its runs. Clones share it, so that
/// nobody who commands a daemon waits for who connects to it.
#[derive(Debug, Clone, Default)]
pub struct Commands(Arc<Mutex<Option<OwnedFd>>>);

impl Commands {
    /// The socket of a run that began since this was last asked: it takes a JSON object a line, and answers
    /// each.
    #[must_use]
    pub fn take_new(&self) -> Option<OwnedFd> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// A run has begun, with this socket.
    pub fn put(&self, socket: Option<OwnedFd>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = socket;
    }
}

/// Rings at a daemon whose terminal has another size: it is in no session that the kernel would tell. It does
/// not keep the link.
#[derive(Debug, Clone)]
pub struct Bell(Weak<OwnedFd>);

impl Bell {
    /// Has the daemon look at its terminal's size, if it runs.
    pub fn ring(&self) {
        if let Some(socket) = self.0.upgrade() {
            // One that is just being started will look anyway.
            let _ = message::send(&*socket, &Request::WindowChange, &[]);
        }
    }
}

/// The link to one daemon. Dropping it ends the daemon: SIGTERM, and SIGKILL if that takes too long.
#[derive(Debug)]
pub struct Link {
    daemon: String,
    socket: Arc<OwnedFd>,
    /// A socket was asked for and has not come. So it is at the beginning, when daemons start unasked.
    asked: bool,
    commands: Commands,
    /// The process, while it runs.
    pid: Option<u32>,
    last_words: Option<String>,
}

impl Link {
    pub(crate) fn new(daemon: String, socket: OwnedFd) -> Self {
        let commands = Commands::default();
        let socket = Arc::new(socket);
        Self { daemon, socket, asked: true, commands, pid: None, last_words: None }
    }

    /// Tells it of its terminal's size.
    #[must_use]
    pub fn bell(&self) -> Bell {
        Bell(Arc::downgrade(&self.socket))
    }

    /// Where its commands go, if it takes any.
    #[must_use]
    pub fn commands(&self) -> Commands {
        self.commands.clone()
    }

    /// A socket that is connected to the daemon: the first time to the one that was started with the VMM,
    /// later to a new one, once the old one is surely dead.
    ///
    /// # Errors
    /// [`Error::Start`] if it does not start; [`Error::Late`] if the old one has not ended before the
    /// deadline (the next call goes on waiting); [`Error::Gone`] if there is no supervisor any more.
    pub fn connect(&mut self, deadline: Instant) -> Result<OwnedFd> {
        if !self.asked {
            message::send(&self.socket, &Request::Connect, &[]).map_err(|_| self.gone())?;
            self.asked = true;
        }
        loop {
            match message::receive(&self.socket) {
                Received::Message(report, fds) => {
                    if let Some(result) = self.note(report, fds) {
                        self.asked = false;
                        return result;
                    }
                }
                Received::Nothing => self.wait(deadline)?,
                Received::Closed => return Err(self.gone()),
            }
        }
    }

    /// Kills the daemon, because it hangs or breaks the protocol, and waits for its death. Returns
    /// whether it was dead by the deadline; until then it may still write into guest memory.
    pub fn kill(&mut self, deadline: Instant) -> bool {
        if message::send(&self.socket, &Request::Kill, &[]).is_err() {
            // Without a supervisor there is no daemon either.
            return true;
        }
        // While a socket is awaited, `connect` reads what comes.
        while !self.asked && self.pid.is_some() {
            match message::receive(&self.socket) {
                Received::Message(report, fds) => drop(self.note(report, fds)),
                Received::Nothing if self.wait(deadline).is_err() => return false,
                Received::Nothing => {}
                Received::Closed => return true,
            }
        }
        true
    }

    /// How the daemon ended, if it did since this was last asked, such as `exited with status 1`.
    pub fn last_words(&mut self) -> Option<String> {
        // While a socket is awaited, `connect` reads what comes.
        while !self.asked {
            let Received::Message(report, fds) = message::receive(&self.socket) else { break };
            self.note(report, fds);
        }
        self.last_words.take()
    }

    /// The daemon's process, as far as is known.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// Takes note of a report, and returns it if it is the answer to `connect`.
    fn note(&mut self, report: Report, fds: Vec<OwnedFd>) -> Option<Result<OwnedFd>> {
        let mut fds = fds.into_iter();
        match (report, fds.next()) {
            (Report::Connected { pid }, Some(fd)) => {
                self.pid = Some(pid);
                self.commands.put(fds.next());
                Some(Ok(fd))
            }
            (Report::Connected { .. }, None) => Some(Err(self.failed("its socket was lost"))),
            (Report::Failed { reason }, _) => Some(Err(self.failed(&reason))),
            (Report::Exited { pid, status }, _) => {
                tracing::debug!(daemon = self.daemon, pid, status, "the daemon ended");
                self.pid = None;
                self.last_words = Some(status);
                None
            }
        }
    }

    fn wait(&self, deadline: Instant) -> Result<()> {
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        match poll(&mut fds, Some(&message::timeout(deadline))) {
            Ok(0) => Err(Error::Late { daemon: self.daemon.clone() }),
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(Error::System { action: "wait", source: errno.into() }),
        }
    }

    fn failed(&self, reason: &str) -> Error {
        Error::Start { daemon: self.daemon.clone(), reason: reason.to_owned() }
    }

    fn gone(&self) -> Error {
        Error::Gone { daemon: self.daemon.clone() }
    }
}

impl AsFd for Link {
    /// Readable when there is news of the daemon.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
