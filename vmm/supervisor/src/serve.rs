//! The supervisor's loop. The crate's head has its theory of operation.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use crate::daemon::{Daemon, Process};
use crate::error::Result;
use crate::fork;
use crate::message::{self, Received, Report, Request, short};
use crate::vmm::Vmm;

/// How long a daemon has to end after SIGTERM when it is started again: its front-end is waiting.
const RESTART_GRACE: Duration = Duration::from_secs(2);
/// How long it has at the end.
const END_GRACE: Duration = Duration::from_secs(5);

/// One daemon, and the VMM's interest in it.
#[derive(Debug)]
pub(crate) struct Supervised {
    daemon: Daemon,
    state_fd: Option<OwnedFd>,
    /// None once it is closed.
    link: Option<OwnedFd>,
    state: State,
}

#[derive(Debug)]
enum State {
    Idle,
    Running(Process),
    Ending {
        process: Process,
        /// When SIGKILL is due, unless it was sent.
        kill_at: Option<Instant>,
        /// Whether to start a new one afterwards.
        restart: bool,
    },
}

/// Supervises until the VMM, or its interest, and all daemons are gone.
pub(crate) fn run(mut all: Vec<Supervised>, mut vmm: Vmm) {
    let mut keep: Vec<_> = all.iter().flat_map(Supervised::fds).collect();
    keep.extend([vmm.pidfd.as_raw_fd(), vmm.life.as_raw_fd()]);
    if let Err(error) = fork::become_supervisor(&keep) {
        tracing::error!(%error, "the supervisor cannot become a process of its own");
        return;
    }
    serve(&mut all, &mut vmm);
    vmm.tidy();
}

/// Without what only a process of its own can do.
fn serve(all: &mut [Supervised], vmm: &mut Vmm) {
    all.iter_mut().for_each(Supervised::start);
    while !vmm.is_gone() || all.iter().any(|supervised| !supervised.is_finished()) {
        let dead = wait(all, vmm);
        vmm.look(dead);
        if vmm.is_gone() {
            all.iter_mut().for_each(Supervised::close);
        }
        all.iter_mut().for_each(Supervised::step);
    }
}

/// Waits until there is something to do. Returns whether the VMM's process was seen to have ended.
fn wait(all: &[Supervised], vmm: &Vmm) -> bool {
    let watched = all.iter().flat_map(|supervised| {
        supervised.link.iter().chain(supervised.process().map(|process| &process.pidfd))
    });
    let vmms = [&vmm.pidfd, &vmm.life].into_iter().filter(|_| !vmm.is_gone());
    let mut fds: Vec<_> = vmms.chain(watched).map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    let deadline = all.iter().filter_map(Supervised::deadline).min();
    let time: Option<Timespec> = deadline.map(message::timeout);
    // If it was interrupted, looking around does no harm.
    let _ = poll(&mut fds, time.as_ref());
    !vmm.is_gone() && fds.first().is_some_and(|fd| !fd.revents().is_empty())
}

impl Supervised {
    pub(crate) fn new(daemon: Daemon, link: OwnedFd) -> Result<Self> {
        let state_fd = daemon.state()?;
        Ok(Self { daemon, state_fd, link: Some(link), state: State::Idle })
    }

    /// All descriptors that it needs.
    fn fds(&self) -> Vec<i32> {
        let own = self.link.iter().chain(&self.state_fd).map(AsRawFd::as_raw_fd);
        own.chain(self.daemon.inherited_fds.iter().copied()).collect()
    }

    fn is_finished(&self) -> bool {
        self.link.is_none() && matches!(self.state, State::Idle)
    }

    fn process(&self) -> Option<&Process> {
        match &self.state {
            State::Idle => None,
            State::Running(process) | State::Ending { process, .. } => Some(process),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Ending { kill_at, .. } => kill_at,
            _ => None,
        }
    }

    /// Does what can be done now.
    fn step(&mut self) {
        if self.process().is_some_and(has_ended) {
            self.reap();
        }
        self.listen();
        if let State::Ending { process, kill_at, .. } = &mut self.state
            && kill_at.is_some_and(|time| time <= Instant::now())
        {
            tracing::warn!(daemon = self.daemon.name, pid = process.pid(), "does not end: killed");
            process.signal(Signal::KILL);
            *kill_at = None;
        }
    }

    fn listen(&mut self) {
        let Some(link) = &self.link else { return };
        match message::receive(link) {
            Received::Message(Request::Connect, _) => self.restart(),
            Received::Message(Request::Kill, _) => {
                if let Some(process) = self.process() {
                    process.signal(Signal::KILL);
                }
            }
            Received::Message(Request::WindowChange, _) => {
                if let Some(process) = self.process() {
                    process.signal(Signal::WINCH);
                }
            }
            Received::Nothing => {}
            Received::Closed => self.close(),
        }
    }

    fn start(&mut self) {
        match Process::start(&self.daemon, self.state_fd.as_ref()) {
            Ok((process, sockets)) => {
                tracing::debug!(daemon = self.daemon.name, pid = process.pid(), "started");
                let fds = std::iter::once(&sockets.device).chain(&sockets.commands);
                let fds: Vec<_> = fds.map(AsFd::as_fd).collect();
                self.report(&Report::Connected { pid: process.pid() }, &fds);
                self.state = State::Running(process);
            }
            Err(error) => {
                let program = self.daemon.program.display();
                let reason = short(&format!("{program}: {error}"));
                self.report(&Report::Failed { reason }, &[]);
            }
        }
    }

    fn restart(&mut self) {
        match &mut self.state {
            State::Idle => self.start(),
            State::Running(_) => self.end(RESTART_GRACE, true),
            State::Ending { restart, .. } => *restart = true,
        }
    }

    /// Nobody wants this daemon any more.
    fn close(&mut self) {
        if self.link.take().is_none() {
            return;
        }
        match &mut self.state {
            State::Idle => {}
            State::Running(_) => self.end(END_GRACE, false),
            State::Ending { restart, .. } => *restart = false,
        }
    }

    fn end(&mut self, grace: Duration, restart: bool) {
        if let State::Running(process) = std::mem::replace(&mut self.state, State::Idle) {
            process.signal(Signal::TERM);
            let kill_at = Some(Instant::now() + grace);
            self.state = State::Ending { process, kill_at, restart };
        }
    }

    fn reap(&mut self) {
        let (process, restart) = match std::mem::replace(&mut self.state, State::Idle) {
            State::Idle => return,
            State::Running(process) => (process, false),
            State::Ending { process, restart, .. } => (process, restart),
        };
        let pid = process.pid();
        let status = process.reap();
        tracing::debug!(daemon = self.daemon.name, pid, status, "ended");
        self.report(&Report::Exited { pid, status: short(&status) }, &[]);
        if restart {
            self.start();
        }
    }

    fn report(&self, report: &Report, fds: &[BorrowedFd<'_>]) {
        if let Some(link) = &self.link {
            // A VMM that does not read what it asked for has itself to blame.
            let _ = message::send(link, report, fds);
        }
    }
}

/// Whether a process can be reaped.
fn has_ended(process: &Process) -> bool {
    let mut fds = [PollFd::new(&process.pidfd, PollFlags::IN)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&at_once)).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
#[path = "serve_test.rs"]
mod tests;
