//! The control socket (`--control PATH`): one JSON object a line, each answered by one line.
//!
//! ```text
//! {"cmd":"status"}
//! {"ok":true,"state":"running","vcpus":2}
//! {"cmd":"restart"}
//! {"ok":false,"error":"there is no command \"restart\": known are status, pause, resume, …"}
//! ```
//!
//! [`server`] moves lines, [`protocol`] reads and writes them, [`socket_file`] is where clients find it, and
//! [`rest`] is what it takes when descriptors run out.
//! What the commands do is up to the machine. A command for the daemon of one device is passed on to it, with
//! the descriptors that came with it, and so is its answer:
//! ```text
//! {"cmd":"device","device":"balloon0","ask":{"cmd":"target","bytes":1073741824}}
//! ```

pub mod protocol;
pub mod rest;
pub mod server;
pub mod socket_file;

use std::io;
use std::path::PathBuf;

pub use self::protocol::{Answer, Command, DeviceRequest, Request};
pub use self::server::{Handler, Server};

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The path is too long for a socket.
    #[error(
        "{path} has {length} bytes, and a socket's path at most {max}: choose a shorter one",
        max = socket_file::PATH_MAX
    )]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length.
        length: usize,
    },
    /// Somebody listens there.
    #[error("{path} is in use by another process: choose another path, or end that process")]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// There is something else at that path.
    #[error("{path} is there already and is no socket: choose another path, or remove it")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// A system call failed.
    #[error("cannot {action} {path}: {source}")]
    Socket {
        /// What was tried.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}
