//! A daemon: its command, and one run of it.
#![expect(unsafe_code, reason = "what a daemon must set between fork and exec")]

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{
    Pid, PidfdFlags, Signal, getppid, kill_process_group, pidfd_open,
    set_parent_process_death_signal, setpriority_process,
};

use crate::error::{Error, Result};

/// What a service manager told the VMM is not for its daemons.
const NOT_INHERITED: [&str; 6] = [
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// The command of a daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Daemon {
    /// What it is called in messages.
    pub name: String,
    /// Its program ([`crate::find`]).
    pub program: PathBuf,
    /// Its arguments; `--fd`, `--state-fd` and `--control-fd` are added.
    pub arguments: Vec<OsString>,
    /// Whether it has a `--state-fd`: memory in which it finds again, after its death, what the driver
    /// had set.
    pub keeps_state: bool,
    /// Whether it has a `--control-fd`: the VMM commands it by a socket of its own ([`crate::Commands`]).
    pub takes_commands: bool,
    /// Whether it has the VMM's standard input and output.
    pub uses_stdio: bool,
    /// Descriptors, without `FD_CLOEXEC`, that it inherits beside its own.
    pub inherited_fds: Vec<RawFd>,
    /// How nice it is to other processes, from -20 to 19.
    pub nice: Option<i8>,
}

impl Daemon {
    /// The memory for `--state-fd`, which outlives each run.
    pub(crate) fn state(&self) -> Result<Option<OwnedFd>> {
        let create = || memfd_create(format!("state of {}", self.name), MemfdFlags::CLOEXEC);
        let state = self.keeps_state.then(create).transpose();
        state.map_err(|errno| Error::System { action: "make a memfd", source: errno.into() })
    }
}

/// A daemon that was started.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pid: Pid,
    /// Readable when it has ended.
    pub(crate) pidfd: OwnedFd,
}

/// Our ends of a daemon's sockets.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// Its device.
    pub(crate) device: OwnedFd,
    /// Commands, if it takes any.
    pub(crate) commands: Option<OwnedFd>,
}

impl Process {
    /// Starts a daemon; returns our ends of its sockets too.
    pub(crate) fn start(daemon: &Daemon, state: Option<&OwnedFd>) -> io::Result<(Self, Sockets)> {
        let (ours, theirs) = UnixStream::pair()?;
        let control = daemon.takes_commands.then(UnixStream::pair).transpose()?;
        let (commands, control) = control.unzip();
        let mut command = Command::new(&daemon.program);
        command.args(&daemon.arguments).process_group(0);
        command.arg(format!("--fd={}", theirs.as_raw_fd()));
        command.args(state.map(|fd| format!("--state-fd={}", fd.as_raw_fd())));
        command.args(control.as_ref().map(|fd| format!("--control-fd={}", fd.as_raw_fd())));
        for name in NOT_INHERITED {
            command.env_remove(name);
        }
        if !daemon.uses_stdio {
            command.stdin(Stdio::null()).stdout(Stdio::null());
        }
        tie(&mut command, daemon.nice);
        let mut passed: Vec<RawFd> = vec![theirs.as_raw_fd()];
        passed.extend(state.map(AsRawFd::as_raw_fd));
        passed.extend(control.as_ref().map(AsRawFd::as_raw_fd));
        passed.extend(&daemon.inherited_fds);
        let child = with_inherited(&passed, || command.spawn())?;
        let sockets = Sockets { device: ours.into(), commands: commands.map(OwnedFd::from) };
        Self::watch(child).map(|process| (process, sockets))
    }

    fn watch(mut child: Child) -> io::Result<Self> {
        let watched = i32::try_from(child.id())
            .ok()
            .and_then(Pid::from_raw)
            .ok_or(io::ErrorKind::InvalidData.into())
            .and_then(|pid| Ok((pid, pidfd_open(pid, PidfdFlags::empty())?)));
        match watched {
            Ok((pid, pidfd)) => Ok(Self { child, pid, pidfd }),
            Err(error) => {
                child.kill()?;
                child.wait()?;
                Err(error)
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to it and to what it started.
    pub(crate) fn signal(&self, signal: Signal) {
        // It is not reaped yet, so the number is still its own; if it is dead, so much the better.
        let _ = kill_process_group(self.pid, signal);
    }

    /// Reaps it, and what it started with it; only once its descriptor is readable. Returns how it ended.
    pub(crate) fn reap(mut self) -> String {
        self.signal(Signal::KILL);
        match self.child.wait() {
            Ok(status) => words(status),
            Err(error) => format!("ended in an unknown way ({error})"),
        }
    }
}

/// Ties the life of a daemon to that of this process, and makes it nice.
fn tie(command: &mut Command, nice: Option<i8>) {
    let supervisor = rustix::process::getpid();
    let prepare = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        if getppid() != Some(supervisor) {
            // The supervisor died before that.
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if let Some(nice) = nice {
            setpriority_process(None, nice.into())?;
        }
        Ok(())
    };
    // SAFETY: the closure makes three system calls, takes no lock and allocates nothing.
    unsafe { command.pre_exec(prepare) };
}

/// Lets these descriptors, and no others, pass into a process that `spawn` starts. There is no other
/// thread that could start one meanwhile.
fn with_inherited<T>(fds: &[RawFd], spawn: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let set = |flags| {
        fds.iter().try_for_each(|fd| {
            // SAFETY: the caller holds these open during the call, or, if they came from whoever
            // started the VMM, nobody in this process closes them.
            let fd = unsafe { BorrowedFd::borrow_raw(*fd) };
            fcntl_setfd(fd, flags)
        })
    };
    let spawned = set(FdFlags::empty()).map_err(io::Error::from).and_then(|()| spawn());
    set(FdFlags::CLOEXEC)?;
    spawned
}

/// How a process ended.
fn words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => {
            let known = SIGNALS.iter().find(|(number, _)| *number == signal);
            let name = known.map(|(_, name)| format!(" ({name})")).unwrap_or_default();
            format!("was killed by signal {signal}{name}")
        }
        (None, None) => format!("ended: {status}"),
    }
}

/// Signals that end daemons.
const SIGNALS: [(i32, &str); 10] = [
    (libc::SIGABRT, "SIGABRT"),
    (libc::SIGBUS, "SIGBUS"),
    (libc::SIGFPE, "SIGFPE"),
    (libc::SIGHUP, "SIGHUP"),
    (libc::SIGILL, "SIGILL"),
    (libc::SIGINT, "SIGINT"),
    (libc::SIGKILL, "SIGKILL"),
    (libc::SIGSEGV, "SIGSEGV"),
    (libc::SIGSYS, "SIGSYS"),
    (libc::SIGTERM, "SIGTERM"),
];
