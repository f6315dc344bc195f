//! The program under test.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::card::LONG;

const PROGRAM: &str = env!("CARGO_BIN_EXE_outrigger-net");

/// A running daemon; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    directory: TempDir,
}

impl Daemon {
    /// Starts a daemon; `DIR` in its arguments stands for a directory of its own.
    pub(crate) fn start<S: AsRef<OsStr>>(arguments: &[S]) -> Self {
        Daemon::start_in(tempfile::tempdir().unwrap(), arguments)
    }

    /// The same in a directory that is there already.
    pub(crate) fn start_in<S: AsRef<OsStr>>(directory: TempDir, arguments: &[S]) -> Self {
        let path = directory.path().display().to_string();
        let arguments =
            arguments.iter().map(|a| a.as_ref().to_str().unwrap().replace("DIR", &path));
        let child = Command::new(PROGRAM)
            .args([format!("--socket-path={path}/s"), format!("--control-path={path}/control")])
            .args(arguments)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Daemon { child, directory }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Waits until the program listens.
    pub(crate) fn wait_until_there(&self) {
        let until = Instant::now() + LONG;
        while !self.path("s").exists() {
            assert!(Instant::now() < until, "the program does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a line to the control socket and returns the answer.
    pub(crate) fn control(&self, line: &str) -> Value {
        let mut socket = UnixStream::connect(self.path("control")).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        writeln!(socket, "{line}").unwrap();
        let mut answer = String::new();
        BufReader::new(socket).read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    }

    /// A counter of the card.
    pub(crate) fn count(&self, name: &str) -> u64 {
        self.control(r#"{"cmd":"stats"}"#)["device_stats"][name].as_u64().unwrap()
    }

    /// Waits until a counter is at least this high.
    pub(crate) fn wait_for(&self, name: &str, count: u64) {
        let until = Instant::now() + LONG;
        while self.count(name) < count {
            assert!(Instant::now() < until, "{name} stays at {}", self.count(name));
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What the program has used of the CPUs' time.
    pub(crate) fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks = |n: usize| fields[n].parse::<u64>().unwrap();
        Duration::from_millis(10 * (ticks(11) + ticks(12)))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
