//! The process that starts the daemons of a VM, starts them again, and ends them.
//!
//! Theory of operation. A sandboxed VMM can start nothing, and its children would inherit its filters.
//! So [`start`] forks before there is a sandbox or a thread. The child, `outrigger-sup`, knows the
//! command of every daemon from before the fork; nobody can make it start anything else. It starts each
//! daemon with `--fd N`, one end of a fresh socket pair, and hands the other end to the VMM; so it does with
//! `--control-fd N`, for commands.
//!
//! ```text
//!  VMM ── Link ──┐ seqpacket, one pair a daemon      ┌── outrigger-blk --fd=N
//!      ── Link ──┴──────▶ outrigger-sup ── fork ─────┴── outrigger-net --fd=N
//!                            "connect", "kill"  ▶
//!                            ◀ connected (with the sockets), failed, exited
//! ```
//!
//! | state of a daemon | `connect` | `kill` | it exits | its link closes |
//! |---|---|---|---|---|
//! | idle | start it → running | | | |
//! | running | SIGTERM → ending, to start again | SIGKILL | say so → idle | SIGTERM → ending |
//! | ending (SIGKILL when its time is over) | start again afterwards | SIGKILL | say so → idle, or start it again | do not start it again |
//!
//! A link closes when the VMM drops it, and when the VMM is gone, however it went; the supervisor also
//! watches the VMM's process itself. When the VMM has said farewell or is gone, and all daemons are, the
//! supervisor exits; after a VMM that was killed it removes the sockets left behind and restores the
//! terminal. Should it be killed itself, the kernel kills the daemons (`PR_SET_PDEATHSIG`). It has a
//! session of its own and blocks all signals, so that Ctrl-C at the VMM's terminal is for the VMM to act
//! upon.

mod daemon;
mod error;
mod fork;
mod leftover;
mod link;
mod message;
mod program;
mod serve;
mod vmm;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{SendFlags, send};
use rustix::process::{Pid, PidfdFlags, WaitOptions, getpid, pidfd_open, waitpid};

pub use self::daemon::Daemon;
pub use self::error::{Error, Result};
pub use self::leftover::{Found, PathLock, remove_leftover};
pub use self::link::{Bell, Commands, Link};
pub use self::program::find;
use self::vmm::Vmm;

/// The supervisor's process. Dropping this without [`Supervisor::wait`] is like dying.
#[derive(Debug)]
pub struct Supervisor {
    pid: Pid,
    /// Readable when the process has ended.
    pidfd: OwnedFd,
    /// Closed when we end in any way.
    life: OwnedFd,
}

/// Forks the supervisor, which starts all daemons at once, and returns a link to each of them in their
/// order. To be called before there is a thread or a sandbox. `files` are sockets, and links to
/// pseudoterminals, that the VMM is going to make and remove: should it be killed, the supervisor removes
/// them.
///
/// # Errors
/// [`Error::Threads`] if there are threads already; [`Error::System`] if the system is out of something.
/// That a daemon does not start is said by its link.
pub fn start(daemons: Vec<Daemon>, files: Vec<PathBuf>) -> Result<(Supervisor, Vec<Link>)> {
    fork::check_single_thread()?;
    let mut links = Vec::new();
    let mut supervised = Vec::new();
    for daemon in daemons {
        let (ours, theirs) = message::pair()?;
        links.push(Link::new(daemon.name.clone(), ours));
        supervised.push(serve::Supervised::new(daemon, theirs)?);
    }
    let (life, theirs) = message::pair()?;
    let vmm = Vmm::new(watch(getpid())?, theirs, files);
    let pid = fork::fork(|| serve::run(supervised, vmm))?;
    Ok((Supervisor { pid, pidfd: watch(pid)?, life }, links))
}

/// A descriptor that is readable when a process has ended.
fn watch(pid: Pid) -> Result<OwnedFd> {
    pidfd_open(pid, PidfdFlags::empty())
        .map_err(|errno| Error::System { action: "watch a process", source: errno.into() })
}

impl Supervisor {
    /// The process's number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Ends all daemons that have not ended yet, then the supervisor. Returns whether that was done before
    /// the deadline; what was not is done later.
    #[must_use]
    pub fn wait(&self, deadline: Instant) -> bool {
        // If it is gone, so much the better.
        let _ = send(&self.life, vmm::FAREWELL, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        loop {
            let time = message::timeout(deadline);
            let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
            match poll(&mut fds, Some(&time)) {
                Ok(0) => return false,
                Err(rustix::io::Errno::INTR) => {}
                _ => break,
            }
        }
        // Takes it from the process table; somebody else may have done so.
        let _ = waitpid(Some(self.pid), WaitOptions::NOHANG);
        true
    }
}
