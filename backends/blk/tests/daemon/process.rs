//! A daemon under test, and a driver connected to it.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use driver::{BlockQueue, Disk, FrontEnd, Memory, Negotiation, Queue, RingEvents};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use virtio_spec::block::{CONFIG_WCE, DISCARD, FLUSH, RO, SEG_MAX, WRITE_ZEROES};
use virtio_spec::features::{EVENT_IDX, INDIRECT_DESC, mask};

const PROGRAM: &str = env!("CARGO_BIN_EXE_outrigger-blk");

/// Runs the program to its end, which must not take long.
pub(crate) fn run(arguments: &[&str]) -> Output {
    Command::new("timeout").args(["10", PROGRAM]).args(arguments).output().unwrap()
}

/// What it said on its way out.
pub(crate) fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A running daemon; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    directory: TempDir,
}

impl Daemon {
    /// Starts a daemon with sockets of its own.
    pub(crate) fn start<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let child = Command::new(PROGRAM)
            .arg("--socket-path")
            .arg(path("blk.sock"))
            .arg("--control-path")
            .arg(path("control.sock"))
            .args(arguments)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Daemon { child, directory }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("blk.sock")
    }

    /// Sends a line to the control socket and returns the answer.
    pub(crate) fn control(&self, line: &str) -> Value {
        let path = self.directory.path().join("control.sock");
        let mut socket = UnixStream::connect(path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        writeln!(socket, "{line}").unwrap();
        let mut answer = String::new();
        BufReader::new(socket).read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    }

    /// Ends it as a service manager does, and gives its exit status.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        let pid = Pid::from_raw(self.child.id() as i32).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(10) {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the daemon does not end");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A driver with one queue of a device.
pub(crate) struct Driver {
    pub(crate) front_end: FrontEnd,
    pub(crate) disk: Disk<RingEvents>,
}

impl Driver {
    /// Connects, and starts a ring.
    pub(crate) fn connect(socket: &Path) -> Self {
        Driver::connect_with(socket, 0)
    }

    /// Connects, takes these features too, and starts a ring.
    pub(crate) fn connect_with(socket: &Path, more: u64) -> Self {
        let memory = Memory::new(32 << 20).unwrap();
        let mut front_end = FrontEnd::connect(socket, &memory).unwrap();
        let bits =
            [FLUSH, CONFIG_WCE, DISCARD, WRITE_ZEROES, RO, SEG_MAX, EVENT_IDX, INDIRECT_DESC];
        let wanted = bits.iter().map(|bit| mask(*bit)).sum::<u64>() | more;
        let negotiated = front_end.negotiate(&Negotiation::new(wanted)).unwrap();
        front_end.share_memory().unwrap();
        let queue = Queue::new(&memory, 256, negotiated).unwrap();
        let events = front_end.start_ring(0, &queue, queue.reaped_base()).unwrap();
        let disk = Disk::new(BlockQueue::new(queue, &memory), events);
        Driver { front_end, disk }
    }
}
