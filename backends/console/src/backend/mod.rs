//! The host's end of a port: where readers come from, and who is there now.
//!
//! A [`Backend`] is what was asked for on the command line; a [`Peer`] is somebody attached to it. A
//! socket has a *door* at which peers knock, a pseudo-terminal one that tells of its being opened;
//! standard input and output, files and nothing at all have their one peer from the start.

mod file;
mod pty;
mod socket;
mod stdio;
mod terminal;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;

pub use pty::Pty;
pub use socket::Socket;
pub use stdio::Stdio;
pub use terminal::{IOCTLS, RawMode, size_of};

use crate::error::Result;
use crate::port_spec::Where;

/// Where a port's peers come from.
#[derive(Debug)]
pub enum Backend {
    /// From nowhere: there is a peer from the start, or there will be one that is brought.
    Fixed,
    /// They connect.
    Socket(Socket),
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
    /// Whether writes go to a file, which takes everything and is never waited for.
    pub is_file: bool,
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
            is_file: false,
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

    /// A descriptor that was passed to us.
    ///
    /// # Errors
    /// When it cannot be made non-blocking.
    pub fn passed(fd: OwnedFd, read_only: bool) -> Result<Self> {
        use crate::error::Error;
        let failed = || Error::open("use", "the descriptor that was passed");
        let kind = rustix::fs::fstat(&fd).map_err(failed())?.st_mode;
        if rustix::fs::FileType::from_raw_mode(kind) == rustix::fs::FileType::RegularFile {
            return Ok(file::peer(fd));
        }
        rustix::io::ioctl_fionbio(&fd, true).map_err(failed())?;
        let is_terminal = size_of(&fd).is_some();
        let flags = rustix::fs::fcntl_getfl(&fd).map_err(failed())?;
        let mut peer = Peer { is_terminal, ..Peer::stream(fd) };
        match flags & rustix::fs::OFlags::RWMODE {
            rustix::fs::OFlags::WRONLY => {
                (peer.input, peer.ends_with_input) = (None, false);
            }
            rustix::fs::OFlags::RDONLY => peer.output = None,
            _ => {}
        }
        if read_only {
            peer.input = None;
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

impl Backend {
    /// Opens what was asked for; who is there from the start comes with it.
    ///
    /// # Errors
    /// When it is not to be had; the message says what to do.
    pub fn open(place: &Where) -> Result<(Self, Option<Peer>), framework::Error> {
        Ok(match place {
            Where::Null => (Backend::Fixed, Some(Peer::nothing())),
            Where::File(path) => (Backend::Fixed, Some(file::open(path)?)),
            Where::Unix(path) => (Backend::Socket(Socket::unix(path)?), None),
            Where::Tcp(address) => (Backend::Socket(Socket::tcp(address)?), None),
            Where::Pty(link) => (Backend::Pty(Pty::open(link.as_deref())?), None),
            Where::Stdio => {
                let (stdio, peer) = Stdio::open()?;
                (Backend::Stdio(stdio), Some(peer))
            }
        })
    }

    /// Opens a file below a directory that was named at the start.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open_file(path: &Path) -> Result<Peer> {
        file::open(path)
    }

    /// What becomes readable when somebody comes, and its number.
    pub fn door(&self) -> Option<(u64, &Arc<OwnedFd>)> {
        match self {
            Backend::Socket(socket) => Some((socket.id, &socket.fd)),
            Backend::Pty(pty) => Some((pty.id, &pty.opened)),
            Backend::Fixed | Backend::Stdio(_) => None,
        }
    }

    /// Lets in who is at the door. None: nobody any more.
    pub fn answer_door(&self) -> Option<Peer> {
        match self {
            Backend::Socket(socket) => socket.accept(),
            Backend::Pty(pty) => pty.attached(),
            Backend::Fixed | Backend::Stdio(_) => None,
        }
    }

    /// There is a guest to type to, or there is none any more.
    pub fn set_in_use(&mut self, in_use: bool) {
        if let Backend::Stdio(stdio) = self {
            stdio.set_in_use(in_use);
        }
    }

    /// Directories in which it has files to remove at the end.
    pub fn directories(&self) -> Vec<PathBuf> {
        match self {
            Backend::Socket(socket) => socket.directory().into_iter().collect(),
            Backend::Pty(pty) => pty.directory().into_iter().collect(),
            Backend::Fixed | Backend::Stdio(_) => Vec::new(),
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
