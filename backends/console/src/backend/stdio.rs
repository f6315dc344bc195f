//! Standard input and output as the end of a port.
//!
//! A terminal is in raw mode only while there is a guest to type to: without one nobody would look for
//! the escape key, and Ctrl-C is to end the daemon. It is put back by the daemon at its end, and by an attendant
//! if the daemon is killed.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::{fcntl_dupfd_cloexec, ioctl_fionbio};
use rustix::termios::isatty;

use super::terminal::{RawMode, size_of};
use super::{Peer, new_id};
use crate::attendant::{Attendant, Role};
use crate::error::{Error, Result};

/// What has to be undone at the end.
#[derive(Debug)]
pub struct Stdio {
    terminal: Option<Arc<OwnedFd>>,
    raw: Option<RawMode>,
    guard: Option<Attendant>,
    _modes: Vec<NonBlocking>,
}

impl Stdio {
    pub(super) fn open() -> Result<(Self, Peer)> {
        let mut modes = Vec::new();
        let input = own(std::io::stdin(), OFlags::RDONLY, &mut modes)?;
        let output = own(std::io::stdout(), OFlags::WRONLY, &mut modes)?;
        let terminal = isatty(&input).then(|| Arc::clone(&input));
        let guard = terminal.as_deref().and_then(|terminal| {
            let guard = Attendant::start(Role::Guard, terminal);
            guard.inspect_err(|error| tracing::warn!(%error, "a kill would leave it raw")).ok()
        });
        let peer = Peer {
            id: new_id(),
            is_terminal: size_of(&output).is_some(),
            ends_with_input: false,
            has_escape: terminal.is_some(),
            input: Some(input),
            output: Some(output),
        };
        Ok((Stdio { terminal, raw: None, guard, _modes: modes }, peer))
    }
}

impl Stdio {
    /// A guest is there, or is gone.
    pub(super) fn set_in_use(&mut self, in_use: bool) {
        if self.raw.is_some() != in_use {
            let terminal = self.terminal.as_ref().filter(|_| in_use);
            self.raw = terminal.and_then(|terminal| RawMode::enter(Arc::clone(terminal)).ok());
        }
    }
}

impl Drop for Stdio {
    fn drop(&mut self) {
        self.raw = None;
        if let Some(guard) = &self.guard {
            guard.heed();
        }
    }
}

/// The stream, opened once more: what is set on the file that was inherited would hold for everybody
/// who has it, such as the shell. A socket cannot be opened again; it is set back at the end.
fn own(stream: impl AsFd, way: OFlags, modes: &mut Vec<NonBlocking>) -> Result<Arc<OwnedFd>> {
    let failed = || Error::open("use", "standard input and output");
    let copy = fcntl_dupfd_cloexec(stream, 3).map_err(failed())?;
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&copy));
    let flags = way | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    if let Ok(own) = open(path, flags, Mode::empty()) {
        return Ok(Arc::new(own));
    }
    let copy = Arc::new(copy);
    modes.extend(NonBlocking::set(&copy));
    Ok(copy)
}

/// A file that does not wait, until this is dropped.
#[derive(Debug)]
struct NonBlocking(Arc<OwnedFd>);

impl NonBlocking {
    fn set(file: &Arc<OwnedFd>) -> Option<Self> {
        let flags = rustix::fs::fcntl_getfl(file).ok()?;
        let waits = !flags.contains(OFlags::NONBLOCK);
        (waits && ioctl_fionbio(file, true).is_ok()).then(|| NonBlocking(Arc::clone(file)))
    }
}

impl Drop for NonBlocking {
    fn drop(&mut self) {
        let _ = ioctl_fionbio(&self.0, false);
    }
}
