//! A program that runs on one CPU while it is measured.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Starts a program that may run on one CPU only, with all the threads it will have.
///
/// # Errors
/// There is no such CPU, or the program cannot be started.
pub(crate) fn spawn_on(cpu: usize, command: &mut Command) -> Result<Child> {
    let child = on_cpu(cpu, || command.spawn())?;
    child.with_context(|| format!("cannot start {}", command.get_program().display()))
}

/// Does something on one CPU. What is started meanwhile inherits that.
///
/// # Errors
/// There is no such CPU.
pub(crate) fn on_cpu<T>(cpu: usize, what: impl FnOnce() -> T) -> Result<T> {
    let own = sched_getaffinity(None).context("cannot ask for this thread's CPUs")?;
    pin_thread(None, cpu)?;
    let done = what();
    sched_setaffinity(None, &own).context("cannot return to this thread's CPUs")?;
    Ok(done)
}

/// Keeps a thread to one CPU; this one if none is given.
///
/// # Errors
/// There is no such CPU or thread.
pub(crate) fn pin_thread(thread: Option<Pid>, cpu: usize) -> Result<()> {
    let mut one = CpuSet::new();
    one.set(cpu);
    sched_setaffinity(thread, &one).with_context(|| format!("cannot run anything on CPU {cpu}"))
}

/// A running daemon; it is ended when this is dropped.
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts a daemon on one CPU and waits until `socket` exists. What it says goes to `log`.
    ///
    /// # Errors
    /// It cannot be started, ends at once or makes no socket; what it said is in the error.
    pub(crate) fn start(
        cpu: usize,
        command: &mut Command,
        socket: &Path,
        log: &Path,
        patience: Duration,
    ) -> Result<Self> {
        let out = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let err = out.try_clone()?;
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let child = spawn_on(cpu, command)?;
        let mut daemon = Self { child, log: log.to_owned() };
        let end = Instant::now() + patience;
        while !socket.exists() {
            if let Some(status) = daemon.child.try_wait()? {
                bail!("it ended at once, {status}, saying:\n{}", daemon.said());
            }
            if Instant::now() > end {
                bail!("no socket after {patience:?}; it said:\n{}", daemon.said());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(daemon)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The end of what it has printed so far.
    pub(crate) fn said(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let skipped = text.lines().count().saturating_sub(20);
        text.lines().skip(skipped).collect::<Vec<_>>().join("\n")
    }

    /// Asks it to end, and makes it end if it has not after `patience`.
    ///
    /// # Errors
    /// It had to be killed.
    pub(crate) fn stop(mut self, patience: Duration) -> Result<ExitStatus> {
        self.terminate(patience)
    }

    fn terminate(&mut self, patience: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        // It may have ended by itself since; then there is nobody to tell.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let end = Instant::now() + patience;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.child.kill()?;
        self.child.wait()?;
        bail!("it did not end within {patience:?} of SIGTERM and was killed")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.terminate(Duration::from_secs(2));
    }
}
