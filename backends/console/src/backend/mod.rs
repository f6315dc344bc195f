//! The host's end of a port: where readers come from, and who is there now.
//!
//! A [`Backend`] is what was asked for on the command line; a [`Peer`] is somebody attached to it. A
//! socket has a *door* at which peers knock, a pseudo-terminal one that tells of its being opened;
//! standard input and output have their one peer from the start. A file ([`LogFile`]) is nobody: it gets
//! all output, whoever is attached.

mod dial;
mod directory;
mod file;
mod pty;
mod socket;
mod stdio;
mod terminal;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::io::Errno;

pub use dial::Dial;
pub use directory::Directories;
pub use file::LogFile;
pub use pty::Pty;
pub use socket::Socket;
pub use stdio::Stdio;
pub use terminal::{IOCTLS, RawMode, size_of};

use crate::error::{Error, Result};
use crate::port_spec::{PortSpec, Where};

/// Where a port's peers come from.
#[derive(Debug)]
pub enum Backend {
    /// From nowhere, and output is not kept for them: it goes nowhere either, or into a file.
    Sink,
    /// They are brought, or there is one from the start.
    Brought,
    /// They connect.
    Socket(Socket),
    /// They are connected to.
    Dial(Dial),
    /// They open a terminal.
    Pty(Pty),
    /// The daemon's own terminal.
    Stdio(Stdio),
}

/// Somebody who reads what the guest writes, and perhaps answers.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Known by this, among all peers there ever were.
    pub id: u64,
    /// What is read from.
    pub input: Option<Arc<OwnedFd>>,
    /// What is written to. None: output is thrown away.
    pub output: Option<Arc<OwnedFd>>,
    /// Whether it is a terminal with a size.
    pub is_terminal: bool,
    /// Whether the end of input is the end of the peer.
    pub ends_with_input: bool,
    /// Whether what is typed is looked through for the escape key.
    pub has_escape: bool,
}

/// Numbers peers and doors.
static IDS: AtomicU64 = AtomicU64::new(1);

/// A number that nothing else has.
pub(crate) fn new_id() -> u64 {
    IDS.fetch_add(1, Ordering::Relaxed)
}

impl Peer {
    /// Nobody, who takes everything.
    pub fn nothing() -> Self {
        Peer {
            id: new_id(),
            input: None,
            output: None,
            is_terminal: false,
            ends_with_input: false,
            has_escape: false,
        }
    }

    /// A connection, or one end of a pipe, that is non-blocking.
    pub fn stream(fd: OwnedFd) -> Self {
        let fd = Arc::new(fd);
        Peer {
            input: Some(Arc::clone(&fd)),
            output: Some(fd),
            ends_with_input: true,
            ..Self::nothing()
        }
    }

    /// A descriptor that was passed to us, which is no file.
    ///
    /// # Errors
    /// When it cannot be made non-blocking.
    pub fn passed(fd: OwnedFd) -> Result<Self> {
        let failed = || Error::open("use", "the descriptor that was passed");
        rustix::io::ioctl_fionbio(&fd, true).map_err(failed())?;
        let is_terminal = size_of(&fd).is_some();
        let flags = rustix::fs::fcntl_getfl(&fd).map_err(failed())?;
        let mut peer = Peer { is_terminal, ..Peer::stream(fd) };
        match flags & OFlags::RWMODE {
            OFlags::WRONLY => (peer.input, peer.ends_with_input) = (None, false),
            OFlags::RDONLY => peer.output = None,
            _ => {}
        }
        Ok(peer)
    }

    /// Writes what it takes without waiting.
    ///
    /// # Errors
    /// The system's; [`Errno::AGAIN`] when it takes nothing now.
    pub fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        match &self.output {
            None => Ok(bytes.len()),
            Some(output) => rustix::io::retry_on_intr(|| rustix::io::write(output, bytes)),
        }
    }
}

/// A port's host side, as it was opened.
#[derive(Debug)]
pub struct Opened {
    /// Where its peers come from.
    pub backend: Backend,
    /// Who is there from the start.
    pub peer: Option<Peer>,
    /// What gets all output.
    pub record: Option<LogFile>,
}

impl From<Backend> for Opened {
    fn from(backend: Backend) -> Self {
        Opened { backend, peer: None, record: None }
    }
}

impl Opened {
    /// Opens what was asked for.
    ///
    /// # Errors
    /// When it is not to be had; the message says what to do.
    pub fn open(spec: &PortSpec) -> Result<Self, framework::Error> {
        Ok(match &spec.backend {
            Where::Null => Backend::Sink.into(),
            Where::File(path) => Self::file(LogFile::open(path, spec.rotation)?),
            Where::Unix(path) if spec.connect => Backend::Dial(Dial::new(path)?).into(),
            Where::Unix(path) => Backend::Socket(Socket::unix(path)?).into(),
            Where::Tcp(address) => Backend::Socket(Socket::tcp(address, spec.remote)?).into(),
            Where::Pty(link) => Backend::Pty(Pty::open(link.as_deref())?).into(),
            Where::Stdio => {
                let (stdio, peer) = Stdio::open()?;
                Opened { backend: Backend::Stdio(stdio), peer: Some(peer), record: None }
            }
        })
    }

    /// A file, and nobody.
    pub fn file(file: LogFile) -> Self {
        Opened { backend: Backend::Sink, peer: None, record: Some(file) }
    }
}

impl Backend {
    /// What becomes readable when somebody comes, and its number.
    pub fn door(&self) -> Option<(u64, &Arc<OwnedFd>)> {
        match self {
            Backend::Socket(socket) => Some((socket.id, &socket.fd)),
            Backend::Pty(pty) => Some((pty.id, &pty.opened)),
            _ => None,
        }
    }

    /// Lets in who is at the door. None: nobody any more.
    pub fn answer_door(&self) -> Option<Peer> {
        match self {
            Backend::Socket(socket) => socket.accept(),
            Backend::Pty(pty) => pty.attached(),
            _ => None,
        }
    }

    /// What becomes readable when the size of a terminal may have changed, and its number.
    pub fn resizes(&self) -> Option<(u64, &Arc<OwnedFd>)> {
        match self {
            Backend::Pty(pty) => pty.resizes(),
            _ => None,
        }
    }

    /// Who can be connected to, if it is time for that.
    pub fn dial(&mut self, now: Duration) -> Option<Peer> {
        match self {
            Backend::Dial(dial) => dial.attempt(now),
            _ => None,
        }
    }

    /// When [`Backend::dial`] has something to do.
    pub fn dial_due(&self) -> Option<Duration> {
        match self {
            Backend::Dial(dial) => Some(dial.due()),
            _ => None,
        }
    }

    /// There is a guest to type to, or there is none any more.
    pub fn set_in_use(&mut self, in_use: bool) {
        if let Backend::Stdio(stdio) = self {
            stdio.set_in_use(in_use);
        }
    }

    /// Directories in which it has files to remove at the end.
    pub fn removes_in(&self) -> Option<PathBuf> {
        match self {
            Backend::Socket(socket) => socket.directory(),
            Backend::Pty(pty) => pty.directory(),
            _ => None,
        }
    }

    /// The directory of a socket that it connects to.
    pub fn connects_in(&self) -> Option<PathBuf> {
        match self {
            Backend::Dial(dial) => Some(dial.directory()),
            _ => None,
        }
    }

    /// The terminal's path, for a new pseudo-terminal.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Backend::Pty(pty) => Some(&pty.path),
            _ => None,
        }
    }
}

/// The directory that a file is in.
fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
