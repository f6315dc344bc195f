//! A child process that never outlives its owner.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::error::{Error, Result};

/// Part of util-linux, which is on every Debian.
const SETPRIV: &str = "/usr/bin/setpriv";
/// How often a waiting owner looks.
const LOOK: Duration = Duration::from_millis(10);

/// A process, and all the processes it started, ended when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
}

impl Process {
    /// Starts it as the leader of a process group of its own; `name` is for messages.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, mut command: Command) -> Result<Self> {
        let name = name.to_owned();
        let child = command
            .process_group(0)
            .spawn()
            .map_err(|source| Error::Start { program: name.clone(), source })?;
        Ok(Self { child, name })
    }

    /// The child's standard output, if it was piped and not taken yet.
    pub fn take_stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// The child's standard input, if it was piped and not taken yet.
    pub fn take_stdin(&mut self) -> Option<std::process::ChildStdin> {
        self.child.stdin.take()
    }

    /// Its status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for it to end by itself.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + limit;
        while Instant::now() < until {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            std::thread::sleep(LOOK);
        }
        self.ended()
    }

    /// Asks it to end (SIGTERM) and waits; whether it ended in time, and how.
    pub fn terminate(&mut self, limit: Duration) -> Option<ExitStatus> {
        if self.ended().is_none() {
            // It may end at this very moment, which is what is wanted.
            let _ = kill_process(self.pid(), Signal::TERM);
        }
        self.wait(limit)
    }

    /// Ends it at once, as a crash would (SIGKILL), and waits until it is gone.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        let failed = |source: io::Error| Error::Start { program: self.name.clone(), source };
        match kill_process_group(self.pid(), Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(failed(error.into())),
        }
        self.child.wait().map(drop).map_err(failed)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nobody is left to be told that it did not work.
        let _ = self.kill();
    }
}

/// A command for [`Process::start`]: the system is asked to end it when the thread that starts it
/// dies, so that an interrupted test leaves nothing behind.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let program = program.as_ref();
    if !Path::new(SETPRIV).exists() {
        return Command::new(program);
    }
    let mut command = Command::new(SETPRIV);
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}
