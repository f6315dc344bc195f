//! Confining a daemon once it has opened all that it needs.
//!
//! Four layers, each of which holds if another fails: no new privileges and no capabilities
//! ([`crate::program::privileges`]), no file that was not opened or named before ([`landlock`]), and no
//! system call beyond those that a back-end makes ([`seccomp`]). What seccomp cannot see, because it is
//! asked for through io_uring's rings, is for the engine's restricted ring and for Landlock.
//!
//! A thread inherits its confinement; so [`Sandbox::apply`] belongs after the set-up and before the
//! first worker. (seccomp reaches threads that run already; capabilities do not, and Landlock only on
//! kernels that can.)

mod landlock;
mod seccomp;

use std::{
    fmt,
    path::{Path, PathBuf},
};

use rustix::thread::CapabilitySet;
use serde::Serialize;

pub use self::landlock::FileAccess;
use crate::{
    error::Result,
    program::{
        listener::{Endpoint, Listener},
        options::SandboxMode,
        privileges,
    },
};

/// What a daemon still needs after its set-up. The rest is given up.
#[derive(Debug)]
#[must_use = "nothing is confined before `apply`"]
pub struct Sandbox {
    mode: SandboxMode,
    paths: Vec<(PathBuf, FileAccess)>,
    ioctls: Vec<u32>,
    syscalls: Vec<i64>,
    capabilities: CapabilitySet,
}

impl Sandbox {
    /// Keeps what each back-end needs: memory, threads, open sockets and files, io_uring, time.
    pub fn new(mode: SandboxMode) -> Self {
        Self {
            mode,
            paths: Vec::new(),
            ioctls: Vec::new(),
            syscalls: Vec::new(),
            capabilities: CapabilitySet::empty(),
        }
    }

    /// Keeps a directory, and all below it, reachable. It has to exist.
    pub fn directory(mut self, path: impl Into<PathBuf>, access: FileAccess) -> Self {
        self.paths.push((path.into(), access));
        self
    }

    /// Keeps what the way to the front-end needs: removing the socket file at the end, or connecting
    /// again.
    pub fn endpoint(self, endpoint: &Endpoint) -> Self {
        match endpoint {
            Endpoint::Listening(listener) => self.listener(listener),
            Endpoint::Connected(_) => self,
            Endpoint::Connecting(connector) => {
                let directory = connector.path().parent().filter(|path| *path != Path::new(""));
                self.directory(directory.unwrap_or(Path::new(".")), FileAccess::Connect)
            }
        }
    }

    /// Keeps what a listening socket needs: removing its file at the end.
    pub fn listener(self, listener: &Listener) -> Self {
        match listener.directory() {
            Some(directory) => self.directory(directory, FileAccess::Remove),
            None => self,
        }
    }

    /// Keeps these `ioctl` commands, on any descriptor.
    pub fn ioctls(mut self, commands: &[u32]) -> Self {
        self.ioctls.extend(commands);
        self
    }

    /// Keeps these system calls (`SYS_*` numbers), with any arguments.
    pub fn syscalls(mut self, numbers: &[i64]) -> Self {
        self.syscalls.extend(numbers);
        self
    }

    /// Keeps these capabilities, as far as the process has them.
    pub fn capabilities(mut self, keep: CapabilitySet) -> Self {
        self.capabilities |= keep;
        self
    }

    /// Gives up all else, for good.
    ///
    /// # Errors
    /// [`crate::Error::Confine`] with the step that failed, [`crate::Error::ConfinedPath`] if a directory
    /// is not there. A kernel without Landlock is no error, but the report says so.
    pub fn apply(self) -> Result<Report> {
        if self.mode == SandboxMode::Off {
            return Ok(Report::Off);
        }
        privileges::forbid_new_privileges()?;
        let landlock = landlock::restrict(&self.paths)?;
        let left = privileges::drop_capabilities(self.capabilities)?;
        let system_calls = seccomp::restrict(&self)?;
        Ok(Report::On { landlock, capabilities: left.bits(), system_calls })
    }

    fn needs(&self, access: FileAccess) -> bool {
        self.paths.iter().any(|(_, needed)| *needed == access)
    }
}

/// What confines the process, for the log and the answer to `stats`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "mode", rename_all = "lowercase")]
pub enum Report {
    /// Nothing, as was asked for.
    Off,
    /// The layers.
    On {
        /// Whether files are out of reach.
        landlock: LandlockState,
        /// The capabilities that are left, as a mask.
        capabilities: u64,
        /// How many different system calls are left.
        system_calls: usize,
    },
}

/// How far Landlock confines the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LandlockState {
    /// The kernel does not have it, or not enabled.
    Unavailable,
    /// In force, as far as this version of its interface goes.
    Abi(i32),
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::On { landlock, capabilities, system_calls } = self else {
            return f.write_str("off");
        };
        write!(f, "{system_calls} system calls, capabilities {capabilities:#x}, ")?;
        match landlock {
            LandlockState::Unavailable => f.write_str("no Landlock in this kernel"),
            LandlockState::Abi(abi) => write!(f, "Landlock ABI {abi}"),
        }
    }
}

#[cfg(test)]
#[path = "sandbox_test.rs"]
mod tests;
