//! A stream socket as an uplink: passt, gvproxy, or another back-end of QEMU's `-netdev stream`.
//!
//! So an ordinary user's guest has a network without any right over interfaces. The protocol has
//! nothing but frames: neither checksums nor segmentation can be left to the peer, nor by it.
//!
//! - `framing.rs` is the protocol, `connection.rs` the connection, `link.rs` what a card does with it.

pub(crate) mod connection;
pub mod framing;
pub(crate) mod link;

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use framework::program::listener::{Connector, Listener};
use framework::program::socket_file::SocketAccess;
use framework::sandbox::{FileAccess, Sandbox};

/// The way to a peer.
#[derive(Debug)]
pub struct Stream {
    path: PathBuf,
    way: Mutex<Way>,
    /// The socket that peers connect to, if they do.
    listening: Option<Arc<OwnedFd>>,
}

#[derive(Debug)]
enum Way {
    Connect(Connector),
    Listen(Listener),
}

impl Stream {
    /// A peer that listens at `path`, now or later.
    ///
    /// # Errors
    /// When the path is too long for a socket.
    pub fn connect(path: &Path) -> Result<Self, framework::Error> {
        let way = Mutex::new(Way::Connect(Connector::new(path)?));
        Ok(Stream { path: path.to_owned(), way, listening: None })
    }

    /// Peers that connect to `path`, one at a time.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn listen(path: &Path) -> Result<Self, framework::Error> {
        let listener = Listener::bind(path, SocketAccess::default())?;
        let cloned = listener.as_fd().try_clone_to_owned();
        let cloned = cloned.map_err(|source| framework::Error::Socket {
            action: "use",
            path: path.to_owned(),
            source,
        })?;
        let (listening, way) = (Some(Arc::new(cloned)), Mutex::new(Way::Listen(listener)));
        Ok(Stream { path: path.to_owned(), way, listening })
    }

    /// Keeps what is needed for the next connection.
    pub fn keep(&self, sandbox: Sandbox) -> Sandbox {
        match &*self.way.lock().unwrap_or_else(PoisonError::into_inner) {
            Way::Listen(listener) => sandbox.listener(listener),
            Way::Connect(connector) => {
                let directory = connector.path().parent().filter(|path| *path != Path::new(""));
                sandbox.directory(directory.unwrap_or(Path::new(".")), FileAccess::Connect)
            }
        }
    }

    /// The socket that becomes readable when somebody connects, if peers connect.
    pub fn listening(&self) -> Option<&Arc<OwnedFd>> {
        self.listening.as_ref()
    }

    /// A connection, if there is one to be had now; it never waits.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn next(&self) -> Result<Option<OwnedFd>, framework::Error> {
        match &mut *self.way.lock().unwrap_or_else(PoisonError::into_inner) {
            Way::Connect(connector) => Ok(connector.attempt()?.map(Into::into)),
            Way::Listen(listener) => {
                let accepted = listener.accept().map_err(|source| framework::Error::Socket {
                    action: "accept a connection on",
                    path: self.path.clone(),
                    source,
                })?;
                Ok(accepted.map(Into::into))
            }
        }
    }

    /// How long to wait before the next attempt to connect.
    pub(crate) fn delay(&self) -> Duration {
        match &*self.way.lock().unwrap_or_else(PoisonError::into_inner) {
            Way::Connect(connector) => connector.delay(),
            Way::Listen(_) => Duration::from_millis(200),
        }
    }

    /// For messages and `stats`.
    pub fn describe(&self) -> String {
        let verb = if self.listening.is_some() { "listening" } else { "connecting" };
        format!("unix {} ({verb})", self.path.display())
    }
}
