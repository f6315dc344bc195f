//! The VMM as its supervisor sees it: whether it lives, and what it leaves behind if it was killed.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::net::{RecvFlags, recv};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::leftover;

/// What the VMM says when it ends by itself.
pub(crate) const FAREWELL: &[u8] = b"bye";

/// The VMM's process.
#[derive(Debug)]
pub(crate) struct Vmm {
    /// Readable once the process has ended.
    pub(crate) pidfd: OwnedFd,
    /// Closed when the process ends, even if somebody else holds other sockets of it.
    pub(crate) life: OwnedFd,
    /// What it makes and removes at its end.
    files: Vec<PathBuf>,
    /// The terminal at standard input, as it was before the VMM changed it.
    terminal: Option<Termios>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Lives,
    /// It has said farewell and tidies up itself.
    Ends,
    Killed,
}

impl Vmm {
    pub(crate) fn new(pidfd: OwnedFd, life: OwnedFd, files: Vec<PathBuf>) -> Self {
        let terminal = tcgetattr(std::io::stdin()).ok();
        Self { pidfd, life, files, terminal, state: State::Lives }
    }

    /// Whether there is nobody to supervise for any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.state != State::Lives
    }

    /// Looks at its socket, or knows from elsewhere that it is `dead`.
    pub(crate) fn look(&mut self, dead: bool) {
        if self.is_gone() {
            return;
        }
        let mut bytes = [0; FAREWELL.len()];
        self.state = match recv(&self.life, &mut bytes, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => State::Killed,
            Ok(_) => State::Ends,
            Err(_) if dead => State::Killed,
            Err(_) => State::Lives,
        };
    }

    /// Does what a killed VMM could not do.
    pub(crate) fn tidy(&self) {
        if self.state != State::Killed {
            return;
        }
        if let Some(terminal) = &self.terminal {
            // It may be gone as well.
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, terminal);
        }
        leftover::remove_all(&self.files);
    }
}
