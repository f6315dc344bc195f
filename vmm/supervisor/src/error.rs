//! What can go wrong.

use std::io;

/// This crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the supervisor, or a daemon, is not there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// [`crate::start`] came too late.
    #[error("the supervisor is started before any thread, but there are {count} already")]
    Threads {
        /// How many.
        count: usize,
    },
    /// A system call failed.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// There is no such program.
    #[error(
        "there is no program {name:?} beside this one or in $PATH: install it, or name it with program=PATH"
    )]
    Program {
        /// What was looked for.
        name: String,
    },
    /// The daemon was not started.
    #[error("{daemon} cannot be started: {reason}")]
    Start {
        /// Which.
        daemon: String,
        /// Why.
        reason: String,
    },
    /// The daemon is not there yet.
    #[error("{daemon} is not there yet: its predecessor has not ended")]
    Late {
        /// Which.
        daemon: String,
    },
    /// The supervisor is gone.
    #[error("the supervisor is gone, so {daemon} cannot be started")]
    Gone {
        /// Which daemon was wanted.
        daemon: String,
    },
}
