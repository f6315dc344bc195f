//! Confining the VMM's threads.
//!
//! Each thread confines itself, by [`Sandbox::enter`], once it has what it needs: no new privileges, no
//! capabilities, no file that is not open already (`landlock.rs`), and no system call beyond those of its
//! kind (`seccomp.rs`). A thread that enters late, such as the main one, may do until then what the others
//! cannot do any more; a thread that it starts afterwards would have its confinement too.
//!
//! What is left of the host to a guest that has taken over a vCPU's thread: guest memory, the
//! descriptors of this process, KVM, and waiting.

mod landlock;
mod privileges;
mod seccomp;

use std::path::{Path, PathBuf};

use seccompiler::BpfProgram;

use self::landlock::Right;
use crate::config::Config;

/// What a thread is for, and so what it may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThreadKind {
    /// It attends to signals, clients and the serial port, and starts and stops the machine.
    Main,
    /// It runs the guest.
    Vcpu,
    /// It talks to the back-end of a device.
    FrontEnd,
}

/// Why a thread is not confined.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}: {source}; --sandbox=off does without")]
pub struct Error {
    /// What was tried.
    action: &'static str,
    /// Why it failed.
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl Error {
    fn new(
        action: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { action, source: source.into() }
    }
}

/// What confines this process's threads; nothing if it is off.
#[derive(Debug, Default)]
pub struct Sandbox(Option<Confines>);

#[derive(Debug)]
struct Confines {
    main: BpfProgram,
    vcpu: BpfProgram,
    front_end: BpfProgram,
    /// Directories, and what may be done there: by the main thread, and by front-ends.
    removes: Vec<PathBuf>,
    connects: Vec<PathBuf>,
}

impl Sandbox {
    /// Prepares what the threads of this machine are confined by.
    ///
    /// # Errors
    /// When the filters cannot be made, which is a bug.
    pub fn new(config: &Config) -> Result<Self, Error> {
        if !config.sandbox.is_on() {
            return Ok(Self(None));
        }
        let others = config.devices.iter().filter_map(|device| device.backend.socket(false));
        let failed = |source| Error::new("prepare a filter of system calls (seccomp)", source);
        Ok(Self(Some(Confines {
            main: seccomp::program(ThreadKind::Main).map_err(failed)?,
            vcpu: seccomp::program(ThreadKind::Vcpu).map_err(failed)?,
            front_end: seccomp::program(ThreadKind::FrontEnd).map_err(failed)?,
            removes: config.files_made().map(directory_of).collect(),
            connects: others.map(directory_of).collect(),
        })))
    }

    /// Confines the calling thread, for good.
    ///
    /// # Errors
    /// With the step that failed. A kernel without Landlock is no error.
    pub fn enter(&self, kind: ThreadKind) -> Result<(), Error> {
        let Some(confines) = &self.0 else { return Ok(()) };
        privileges::drop_all()?;
        let (program, rights) = match kind {
            ThreadKind::Main => (&confines.main, grant(&confines.removes, Right::Remove)),
            ThreadKind::Vcpu => (&confines.vcpu, Vec::new()),
            ThreadKind::FrontEnd => {
                (&confines.front_end, grant(&confines.connects, Right::Connect))
            }
        };
        let landlock = landlock::restrict(&rights)?;
        seccompiler::apply_filter(program)
            .map_err(|source| Error::new("filter system calls (seccomp)", source))?;
        tracing::debug!(?kind, landlock, "confined");
        Ok(())
    }
}

fn grant(directories: &[PathBuf], right: Right) -> Vec<(&Path, Right)> {
    directories.iter().map(|directory| (directory.as_path(), right)).collect()
}

fn directory_of(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new(".")).to_owned()
}

#[cfg(test)]
#[path = "sandbox_test.rs"]
mod tests;
