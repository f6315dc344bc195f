//! A daemon under test.

use std::fs::File;
use std::io::{BufRead, BufReader, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_outrigger-console");
/// For everything that takes a moment.
pub(crate) const MOMENT: Duration = Duration::from_secs(10);

/// Runs the program to its end, which must not take long.
pub(crate) fn run(arguments: &[&str]) -> Output {
    Command::new("timeout").args(["10", PROGRAM]).args(arguments).output().unwrap()
}

/// A running daemon; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    directory: TempDir,
    arguments: Vec<String>,
}

impl Daemon {
    /// Starts a daemon; `@` in an argument is its directory.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().to_str().unwrap();
        let arguments = arguments.iter().map(|one| one.replace('@', place)).collect();
        let child = spawn(&directory, &arguments).spawn().unwrap();
        Daemon { child, directory, arguments }
    }

    /// The same with these as its standard input and output.
    pub(crate) fn start_with(arguments: &[&str], streams: (File, File)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let arguments = arguments.iter().map(|one| (*one).to_owned()).collect();
        let mut command = spawn(&directory, &arguments);
        let child = command.stdin(streams.0).stdout(streams.1).spawn().unwrap();
        Daemon { child, directory, arguments }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Connects to one of its sockets as soon as it listens.
    pub(crate) fn connect(&self, name: &str) -> UnixStream {
        let until = Instant::now() + MOMENT;
        loop {
            if let Ok(socket) = UnixStream::connect(self.path(name)) {
                socket.set_read_timeout(Some(MOMENT)).unwrap();
                socket.set_write_timeout(Some(MOMENT)).unwrap();
                return socket;
            }
            assert!(Instant::now() < until, "nobody listens on {name}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends a line to the control socket and returns the answer.
    pub(crate) fn control(&self, line: &str) -> Value {
        self.control_with(line, None)
    }

    /// The same with a descriptor.
    pub(crate) fn control_with(&self, line: &str, fd: Option<BorrowedFd<'_>>) -> Value {
        let mut socket = self.connect("control.sock");
        let fds: Vec<_> = fd.into_iter().collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(&fds)));
        }
        let text = [IoSlice::new(line.as_bytes())];
        sendmsg(socket.as_fd(), &text, &mut ancillary, SendFlags::empty()).unwrap();
        writeln!(socket).unwrap();
        let mut answer = String::new();
        BufReader::new(socket).read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    }

    /// Attaches to a port over the control socket, and gives our end.
    pub(crate) fn attach(&self, line: &str) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let answer = self.control_with(line, Some(theirs.as_fd()));
        assert_eq!(answer["ok"], true, "{answer}");
        ours.set_read_timeout(Some(MOMENT)).unwrap();
        ours
    }

    /// What `ports` says of a port.
    pub(crate) fn port(&self, name: &str) -> Value {
        let ports = self.control(r#"{"cmd":"ports"}"#);
        let port = ports["ports"].as_array().unwrap().iter().find(|port| port["name"] == name);
        port.cloned().unwrap_or_else(|| panic!("no port {name}: {ports}"))
    }

    /// Waits until that is as it should be.
    pub(crate) fn await_port(&self, name: &str, right: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + MOMENT;
        loop {
            let port = self.port(name);
            if right(&port) {
                return port;
            }
            assert!(Instant::now() < until, "{port}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until that is so.
    pub(crate) fn await_that(&self, so: impl Fn() -> bool) {
        let until = Instant::now() + MOMENT;
        while !so() {
            assert!(Instant::now() < until, "it does not come to that");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.id().cast_signed()).unwrap(), signal).unwrap();
    }

    /// How often its threads have gone to sleep so far.
    pub(crate) fn sleeps(&self) -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let statuses =
            tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("status")));
        let key = "voluntary_ctxt_switches:";
        let of = |status: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            line.trim().parse::<u64>().unwrap()
        };
        statuses.map(|status| of(&status.unwrap())).sum()
    }

    /// User and system time so far, in clock ticks of 10 ms.
    pub(crate) fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// Memory in use, KiB.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Ends it as a crash would, and starts another in its place.
    pub(crate) fn crash(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = spawn(&self.directory, &self.arguments).spawn().unwrap();
    }

    /// Ends it as a service manager does, and gives its exit status.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.status()
    }

    /// Its exit status, once it has ended.
    pub(crate) fn status(&mut self) -> Option<i32> {
        let begin = Instant::now();
        while begin.elapsed() < MOMENT {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the daemon does not end");
    }
}

fn spawn(directory: &TempDir, arguments: &Vec<String>) -> Command {
    let path = |name: &str| directory.path().join(name);
    let mut command = Command::new(PROGRAM);
    command
        .arg("--socket-path")
        .arg(path("console.sock"))
        .arg("--control-path")
        .arg(path("control.sock"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads until the text has come.
pub(crate) fn read_until(reader: &mut impl Read, text: &str) -> String {
    let (mut all, mut piece) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&all).contains(text) {
        let count = reader.read(&mut piece).unwrap_or_else(|error| {
            panic!("{text:?} does not come: {error}: {:?}", String::from_utf8_lossy(&all))
        });
        assert!(count > 0, "it ended: {:?}", String::from_utf8_lossy(&all));
        all.extend(&piece[..count]);
    }
    String::from_utf8_lossy(&all).into_owned()
}
