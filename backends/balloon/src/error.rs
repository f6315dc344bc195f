//! What can go wrong in `outrigger-balloon` outside the data path. Each message says what to do next.

use std::io;
use std::path::PathBuf;

/// An error of the balloon back-end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// More bytes than page numbers can count.
    #[error("a target of {bytes} bytes is too large: choose one below 16 TiB")]
    Target {
        /// What was asked for.
        bytes: u64,
    },
    /// A command lacks its argument.
    #[error("the command is not complete: say {usage}")]
    Usage {
        /// How it is said.
        usage: &'static str,
    },
    /// The controller sets the target.
    #[error(
        "the target follows the host's memory pressure (--auto): start without --auto to set it"
    )]
    Automatic,
    /// The driver sends no statistics.
    #[error("the driver has not agreed to send statistics (STATS_VQ): none can be asked for")]
    NoStatistics,
    /// The host's memory pressure is not to be had.
    #[error(
        "cannot read the memory pressure in {path:?}: {source}: --auto needs a kernel with PSI \
         (start it with psi=1), or --auto-pressure with the file memory.pressure of a control group"
    )]
    Pressure {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The saved state is not one of a balloon.
    #[error("the saved state is not a balloon's (version {version:?}): remove it")]
    State {
        /// Its first byte.
        version: Option<u8>,
    },
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;
