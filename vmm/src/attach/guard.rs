//! A process that puts the terminal back as it was, should the one that made it raw be killed.
//!
//! It is this program again, in a session of its own, with a socket to the other as standard input. When
//! that is closed without a word, it acts.

use std::io::{self, Read, Write, stdin, stdout};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitCode, Stdio};

use rustix::process::setsid;
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

/// Its command line.
const WORD: &str = "--guard-terminal";

/// A guard on duty.
#[derive(Debug)]
pub(super) struct Guard(UnixStream);

impl Guard {
    /// Posts one at the terminal that standard input is, and waits until it has seen how that is now.
    pub(super) fn post() -> io::Result<Self> {
        let (mut ours, theirs) = UnixStream::pair()?;
        let terminal = stdin().as_fd().try_clone_to_owned()?;
        Command::new("/proc/self/exe")
            .arg(WORD)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::from(terminal))
            .spawn()?;
        ours.read_exact(&mut [0])?;
        Ok(Self(ours))
    }

    /// There is nothing to put back any more.
    pub(super) fn dismiss(mut self) {
        // If it is gone already, so much the better.
        let _ = self.0.write_all(b".");
    }
}

/// If this process was started as a guard: does its work, and says how it is to end.
#[must_use]
pub fn run_if_asked() -> Option<ExitCode> {
    if std::env::args_os().nth(1).is_none_or(|word| word != WORD) {
        return None;
    }
    Some(if stand().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn stand() -> io::Result<()> {
    let before = tcgetattr(stdout())?;
    // The terminal's signals do not reach it there, and nobody asks whether it may change the terminal.
    setsid()?;
    let mut socket = UnixStream::from(stdin().as_fd().try_clone_to_owned()?);
    socket.write_all(b".")?;
    if socket.read(&mut [0])? == 0 {
        tcsetattr(stdout(), OptionalActions::Now, &before)?;
    }
    Ok(())
}
