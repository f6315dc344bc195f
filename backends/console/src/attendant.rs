//! Small processes beside the daemon, for what it cannot do itself about terminals.
//!
//! - The *guard* of a terminal puts it back as it was when the daemon is killed while it is raw.
//! - The *lookout* of a pseudo-terminal is told by the kernel when the size changes: SIGWINCH goes to
//!   whoever has the terminal as the controlling one, which a session can have one of, and the daemon may
//!   have several pseudo-terminals.
//!
//! Each is this program again, with a word that says which, a socket to the daemon as standard input and the
//! terminal as standard output. It is in a session of its own, is confined, and ends when the daemon is
//! gone, however that went.

use std::io::{Read, stdin, stdout};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use framework::program::options::SandboxMode;
use framework::program::signals::{Signal, Signals};
use framework::sandbox::Sandbox;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, read, retry_on_intr, write};
use rustix::process::{ioctl_tiocsctty, setsid};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use crate::backend::IOCTLS;
use crate::error::{Error, Result};

/// Begins an attendant's command line.
const WORD: &str = "--attend-terminal";
/// The attendant is ready.
const READY: u8 = b'r';
/// From the daemon: nothing is to be put back any more; or, to a lookout: somebody has opened the terminal.
const HEED: u8 = b'h';
/// From a lookout: the size may be another one.
const RESIZED: u8 = b'w';
/// How long one may take to be ready; it is a matter of milliseconds.
const START_LIMIT: Duration = Duration::from_secs(5);

/// What an attendant is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Restores the terminal.
    Guard,
    /// Watches its size.
    Lookout,
}

impl Role {
    fn word(self) -> &'static str {
        match self {
            Role::Guard => "guard",
            Role::Lookout => "lookout",
        }
    }
}

/// An attendant that runs. It ends when this is dropped.
#[derive(Debug)]
pub struct Attendant {
    socket: Arc<OwnedFd>,
}

impl Attendant {
    /// Starts one for a terminal, and waits until it is ready.
    ///
    /// # Errors
    /// When there can be no process, or it does not get ready.
    pub fn start(role: Role, terminal: &OwnedFd) -> Result<Self> {
        let failed = || Error::open("watch over", "a terminal");
        let terminal = terminal.try_clone().map_err(failed())?;
        let (mut ours, theirs) = UnixStream::pair().map_err(failed())?;
        // Not waited for: it outlives us, if only for a moment.
        let child = Command::new("/proc/self/exe")
            .args([WORD, role.word()])
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(terminal))
            .spawn();
        child.map_err(failed())?;
        ours.set_read_timeout(Some(START_LIMIT)).map_err(failed())?;
        ours.read_exact(&mut [0]).map_err(failed())?;
        ours.set_nonblocking(true).map_err(failed())?;
        Ok(Attendant { socket: Arc::new(ours.into()) })
    }

    /// Has it heed that the terminal is as it should be, or open.
    pub fn heed(&self) {
        // If it is gone, or has not read what it was told before, there is nothing to add.
        let _ = write(&*self.socket, &[HEED]);
    }

    /// What becomes readable when the size may have changed.
    pub fn socket(&self) -> &Arc<OwnedFd> {
        &self.socket
    }
}

/// Reads away what a lookout has said. True: the size may have changed.
pub fn hear(socket: &OwnedFd) -> bool {
    matches!(read(socket, &mut [0; 64]), Ok(1..))
}

/// If this process is an attendant: does its work, and says how it is to end.
pub fn run_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let role = match (arguments.next()?, arguments.next()) {
        (word, Some(role)) if word == WORD => role,
        _ => return None,
    };
    let done = match role.to_str() {
        Some("guard") => guard(),
        Some("lookout") => lookout(),
        _ => return None,
    };
    Some(if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Gets away from the daemon's signals and rights, and says that it is ready.
fn settle() -> anyhow::Result<()> {
    // The terminal's signals are none of its business, and it may change the terminal nevertheless.
    setsid()?;
    Sandbox::new(SandboxMode::On).ioctls(&IOCTLS).apply()?;
    write(stdin(), &[READY])?;
    Ok(())
}

fn guard() -> anyhow::Result<()> {
    let before = tcgetattr(stdout())?;
    settle()?;
    let mut byte = [0];
    let said = retry_on_intr(|| read(stdin(), &mut byte))?;
    if said == 0 {
        // It was killed. The terminal may be gone as well.
        tcsetattr(stdout(), OptionalActions::Now, &before)?;
    }
    Ok(())
}

fn lookout() -> anyhow::Result<()> {
    let signals = Signals::block()?;
    settle()?;
    let (socket, master) = (stdin(), stdout());
    loop {
        let mut fds = [PollFd::new(&socket, PollFlags::IN), PollFd::new(&signals, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let [said, signalled] = fds.map(|fd| !fd.revents().is_empty());
        if said {
            if read(socket.as_fd(), &mut [0; 64])? == 0 {
                return Ok(());
            }
            // Of the master this takes the other side. It is given up when that is closed for the last time.
            let _ = ioctl_tiocsctty(&master);
            // It may have changed before that.
            write(socket.as_fd(), &[RESIZED])?;
        }
        while signalled && let Some(signal) = signals.next()? {
            if signal == Signal::WindowChange {
                // Unread, it says the same.
                let _ = write(socket.as_fd(), &[RESIZED]);
            }
        }
    }
}
