//! What can go wrong with the host's end of the serial port.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::control;

/// Why the serial port cannot be connected.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket cannot be made.
    #[error("no socket for the serial port: {0}")]
    Socket(#[source] control::Error),
    /// A file or link cannot be made or opened.
    #[error("cannot {action} {path} for the serial port: {source}", path = path.display())]
    Path {
        /// What was tried.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Something else is where the link is to be.
    #[error(
        "{path} exists and is {what}; remove it, or choose another path for the serial port",
        path = path.display()
    )]
    Taken {
        /// The path.
        path: PathBuf,
        /// What is there.
        what: &'static str,
    },
    /// The system has no descriptors, pseudoterminals or the like.
    #[error("cannot {action} for the serial port: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err` on a system call.
    pub(super) fn system(action: &'static str) -> impl Fn(Errno) -> Self {
        move |source| Self::System { action, source: source.into() }
    }
}
