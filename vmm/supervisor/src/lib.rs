//! The process that starts the daemons of a VM, starts them again, and ends them.
//!
//! Theory of operation. A sandboxed VMM can start nothing, and its children would inherit its filters.
//! So [`start`] forks before there is a sandbox or a thread. The child, `outrigger-sup`, knows the
//! command of every daemon from before the fork; nobody can make it start anything else. It starts each
//! daemon with `--fd N`, one end of a fresh socket pair, and hands the other end to the VMM.
//!
//! ```text
//!  VMM ── Link ──┐ seqpacket, one pair a daemon      ┌── outrigger-blk --fd=N
//!      ── Link ──┴──────▶ outrigger-sup ── fork ─────┴── outrigger-net --fd=N
//!                            "connect", "kill"  ▶
//!                            ◀ connected (with the socket), failed, exited
//! ```
//!
//! | state of a daemon | `connect` | `kill` | it exits | its link closes |
//! |---|---|---|---|---|
//! | idle | start it → running | | | |
//! | running | SIGTERM → ending, to start again | SIGKILL | say so → idle | SIGTERM → ending |
//! | ending (SIGKILL when its time is over) | start again afterwards | SIGKILL | say so → idle, or start it again | do not start it again |
//!
//! A link closes when the VMM drops it, and when the VMM is gone, however it went; the supervisor also
//! watches the VMM's process itself. When all links are closed and all daemons are gone, it exits.
//! Should it be killed itself, the kernel kills the daemons (`PR_SET_PDEATHSIG`). It has a session of its
//! own and blocks all signals, so that Ctrl-C at the VMM's terminal is for the VMM to act upon.

mod daemon;
mod error;
mod fork;
mod link;
mod message;
mod program;
mod serve;

use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, WaitOptions, getpid, pidfd_open, waitpid};

pub use self::daemon::Daemon;
pub use self::error::{Error, Result};
pub use self::link::Link;
pub use self::program::find;

/// The supervisor's process.
#[derive(Debug)]
pub struct Supervisor {
    pid: Pid,
    /// Readable when the process has ended.
    pidfd: OwnedFd,
}

/// Forks the supervisor, which starts all daemons at once, and returns a link to each of them in their
/// order. To be called before there is a thread or a sandbox.
///
/// # Errors
/// [`Error::Threads`] if there are threads already; [`Error::System`] if the system is out of something.
/// That a daemon does not start is said by its link.
pub fn start(daemons: Vec<Daemon>) -> Result<(Supervisor, Vec<Link>)> {
    fork::check_single_thread()?;
    let mut links = Vec::new();
    let mut supervised = Vec::new();
    for daemon in daemons {
        let (ours, theirs) = message::pair()?;
        links.push(Link::new(daemon.name.clone(), ours));
        supervised.push(serve::Supervised::new(daemon, theirs)?);
    }
    let failed =
        |action| move |errno: rustix::io::Errno| Error::System { action, source: errno.into() };
    let vmm = pidfd_open(getpid(), PidfdFlags::empty()).map_err(failed("watch the VMM"))?;
    let pid = fork::fork(|| serve::run(supervised, vmm))?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(failed("watch the supervisor"))?;
    Ok((Supervisor { pid, pidfd }, links))
}

impl Supervisor {
    /// The process's number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Waits for the supervisor's end, and so for that of all daemons. It ends when all links are
    /// dropped. Returns whether it did before the deadline.
    #[must_use]
    pub fn wait(&self, deadline: Instant) -> bool {
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
