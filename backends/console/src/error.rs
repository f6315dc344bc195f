//! What can go wrong in `outrigger-console` outside the data path. Each message says what to do next.

use std::io;
use std::path::PathBuf;

/// An error of the console back-end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name that no port can have.
    #[error(
        "{name:?} is no name for a port: it has 1 to 64 printable characters of ASCII, neither \
         blanks nor `/`"
    )]
    Name {
        /// The name that was asked for.
        name: String,
    },
    /// Two ports of the same name.
    #[error("there is a port {name:?} already: choose another name")]
    NameInUse {
        /// The name that was asked for.
        name: String,
    },
    /// There are as many ports as there can be.
    #[error("all {most} ports are in use: remove one, or start with a higher --max-ports")]
    TableFull {
        /// How many there can be.
        most: usize,
    },
    /// There is no such port.
    #[error("there is no port {name:?}: `ports` lists them")]
    NoSuchPort {
        /// The name that was asked for.
        name: String,
    },
    /// The port cannot be removed.
    #[error("the first port stays: a driver without MULTIPORT has no other")]
    FirstPort,
    /// A change that only a driver with several ports hears of.
    #[error("the driver has not negotiated MULTIPORT: it would never hear of the port")]
    NoMultiport,
    /// Somebody is attached already.
    #[error("somebody is attached to {name:?}: detach them first, or say \"take\":true")]
    Attached {
        /// The port.
        name: String,
    },
    /// A command lacks its descriptor, or has too many.
    #[error("send exactly one descriptor with this command, not {count}")]
    Descriptors {
        /// How many came.
        count: usize,
    },
    /// The arguments of a command do not fit.
    #[error("the arguments of {command:?} are wrong: {reason}")]
    Arguments {
        /// The command.
        command: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A back end that cannot be made once the daemon is confined.
    #[error(
        "a port added at run time cannot have {what}: pass a descriptor of it with the command, or \
         name a file below a directory that --port-directory allows"
    )]
    AtRunTime {
        /// What was asked for.
        what: &'static str,
    },
    /// A file of a port that is added at run time is not where such files may be.
    #[error(
        "{path:?} is not below a directory that was named with --port-directory at the start: name \
         another file, or pass a descriptor of it with the command"
    )]
    Outside {
        /// The path that was asked for.
        path: PathBuf,
    },
    /// Only one port can have the terminal.
    #[error("only one port can have standard input and output")]
    TwoStdio,
    /// More ports than were allowed.
    #[error("{count} ports are more than the {most} that --max-ports allows")]
    TooManyPorts {
        /// Ports on the command line.
        count: usize,
        /// How many there can be.
        most: u16,
    },
    /// A step of opening a back end failed.
    #[error("cannot {action} {what}: {source}")]
    Open {
        /// What was tried.
        action: &'static str,
        /// On what.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// Something else has the path of a pty's link.
    #[error("{path:?} exists and is no symbolic link: move it away or choose another path")]
    NotALink {
        /// The path that was asked for.
        path: PathBuf,
    },
    /// An address that is none.
    #[error("{address:?} is no address to listen on: say a port, or an address and a port")]
    Address {
        /// What was said.
        address: String,
    },
    /// An address that other machines can reach.
    #[error(
        "{address} can be reached from other machines, and nobody is asked for a password: add \
         remote=on if that is wanted, or say tcp:PORT"
    )]
    Remote {
        /// The address that was asked for.
        address: std::net::SocketAddr,
    },
    /// A file whose path is not known is to be opened.
    #[error(
        "the path of the port's file is not known: pass a descriptor of another file with the command"
    )]
    NoPath,
    /// A file is asked for, or given, where there is none.
    #[error("the port {name:?} writes to no file: give it one with add-port, or at the start")]
    NoFile {
        /// The port.
        name: String,
    },
    /// As many look on as can.
    #[error("{most} look on or read already: detach one first")]
    TooManyReaders {
        /// How many there can be.
        most: usize,
    },
    /// Somebody wrote to the config space.
    #[error(
        "a write of {length} bytes at offset {offset} of the config space was refused: only the \
         emergency character can be written"
    )]
    ConfigWrite {
        /// Where the write began, bytes.
        offset: usize,
        /// Its length, bytes.
        length: usize,
    },
    /// The saved state is not one of a console.
    #[error("the saved state is not a console's ({reason}): remove it")]
    State {
        /// What is wrong with it.
        reason: String,
    },
}

impl Error {
    /// For `map_err`: what was tried on what.
    pub(crate) fn open<E: Into<io::Error>>(
        action: &'static str,
        what: impl ToString,
    ) -> impl FnOnce(E) -> Self {
        move |source| Error::Open { action, what: what.to_string(), source: source.into() }
    }
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;
