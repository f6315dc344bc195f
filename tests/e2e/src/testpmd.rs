//! DPDK's testpmd: a network driver that polls, or a back-end, without a machine around it.
//!
//! It is told what to do on its standard input, as a person would. What it prints by the C library is
//! in its log only once it has ended.

use std::fmt;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Pid;
use serde::Serialize;

use crate::apt::Root;
use crate::error::{Error, Result, last_lines};
use crate::process::{self, Process};

/// What begins each line that it is told.
const PROMPT: &str = "testpmd>";
/// How long it may take to come up, or to end.
const PATIENCE: Duration = Duration::from_secs(20);
/// Its drivers, one file each.
const DRIVERS: [&str; 4] =
    ["librte_net_virtio", "librte_net_vhost", "librte_net_pcap", "librte_mempool_ring"];

/// One path through a driver's and a device's ring code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct RingPath {
    /// The packed ring instead of the split one.
    pub packed: bool,
    /// A packet may lie in several buffers.
    pub mergeable: bool,
    /// Buffers are used in the order in which they were made available.
    pub in_order: bool,
}

impl RingPath {
    /// All eight.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..8).map(|bits| Self {
            packed: bits & 4 != 0,
            mergeable: bits & 2 != 0,
            in_order: bits & 1 != 0,
        })
    }
}

impl fmt::Display for RingPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.packed { "packed" } else { "split" })?;
        f.write_str(if self.mergeable { ", mergeable" } else { "" })?;
        f.write_str(if self.in_order { ", in order" } else { "" })
    }
}

/// A testpmd to be started. Ports are counted from 0, in the order in which they were added.
#[derive(Debug)]
pub struct Testpmd {
    command: Command,
    ports: usize,
    forwarding: Vec<String>,
}

impl Testpmd {
    /// One that forwards packets on one CPU and does everything else on another; `name` tells it from
    /// others of this process.
    ///
    /// # Errors
    /// When its packages are incomplete.
    pub fn new(root: &Root, name: &str, forwarding_cpu: usize, other_cpu: usize) -> Result<Self> {
        let program = root.command("usr/bin/dpdk-testpmd")?;
        let mut command = process::command(program.get_program());
        command.args(program.get_args());
        for driver in DRIVERS {
            let file = format!("usr/lib/x86_64-linux-gnu/{driver}.so.23");
            command.arg("-d").arg(root.path(file));
        }
        command
            .arg(format!("--lcores=0@{other_cpu},1@{forwarding_cpu}"))
            .args(["--main-lcore=0", "--no-huge", "-m", "256", "--no-pci", "--log-level=1"])
            .arg(format!("--file-prefix=outrigger-{}-{name}", std::process::id()));
        Ok(Self { command, ports: 0, forwarding: Vec::new() })
    }

    /// With a virtio driver whose back-end listens there; `more` are further parameters, each with a
    /// comma before it.
    #[must_use]
    pub fn driver(self, socket: &Path, ring: RingPath, more: &str) -> Self {
        let RingPath { packed, mergeable, in_order } = ring;
        let [packed, mergeable, in_order] = [packed, mergeable, in_order].map(u8::from);
        let port = format!(
            "net_virtio_user{},path={},queues=1,packed_vq={packed},mrg_rxbuf={mergeable},\
             in_order={in_order}{more}",
            self.ports,
            socket.display(),
        );
        self.port(&port)
    }

    /// With a back-end that listens there.
    #[must_use]
    pub fn back_end(self, socket: &Path) -> Self {
        let port = format!("net_vhost{},iface={},queues=1", self.ports, socket.display());
        self.port(&port)
    }

    /// With a port that receives what is in one capture file, once, and sends to another.
    #[must_use]
    pub fn files(self, from: &Path, to: &Path) -> Self {
        let (from, to) = (from.display(), to.display());
        let port = format!("net_pcap{},rx_pcap={from},tx_pcap={to}", self.ports);
        self.port(&port)
    }

    fn port(mut self, port: &str) -> Self {
        self.command.arg(format!("--vdev={port}"));
        self.ports += 1;
        self
    }

    /// With a further argument of what forwards, as `--forward-mode=txonly`.
    #[must_use]
    pub fn with(mut self, argument: &str) -> Self {
        self.forwarding.push(argument.to_owned());
        self
    }

    /// Starts it, and waits until it can be told something. It does not forward yet.
    ///
    /// # Errors
    /// When it cannot be started, or ends; with what it printed.
    pub fn start(mut self, log: &Path) -> Result<Session> {
        let out = File::create(log).map_err(Error::file("make", log))?;
        let err = out.try_clone().map_err(Error::file("share", log))?;
        self.command
            .args(["--", "-i", "--no-mlockall", "--total-num-mbufs=4096"])
            .args(&self.forwarding)
            .stdin(Stdio::piped())
            .stdout(out)
            .stderr(err);
        let mut process = Process::start("testpmd", self.command)?;
        let input = process.take_stdin().ok_or_else(|| Error::Missing {
            what: "testpmd's standard input".into(),
            how: "this is a bug: it was not piped".into(),
        })?;
        let mut session = Session { process, input, log: log.to_owned() };
        let until = Instant::now() + PATIENCE;
        while !session.printed().contains(PROMPT) {
            if session.process.ended().is_some() || Instant::now() > until {
                return Err(session.error("it did not come up"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(session)
    }
}

/// A running testpmd. It is ended when dropped.
#[derive(Debug)]
pub struct Session {
    process: Process,
    input: ChildStdin,
    log: PathBuf,
}

impl Session {
    /// Tells it something: `start`, `stop`, `show port stats all`.
    ///
    /// # Errors
    /// When it has ended.
    pub fn tell(&mut self, line: &str) -> Result<()> {
        let told = writeln!(self.input, "{line}").and_then(|()| self.input.flush());
        told.map_err(|error| self.error(&format!("it takes no commands: {error}")))
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Ends it, and returns all that it has printed.
    ///
    /// # Errors
    /// When it does not end.
    pub fn finish(mut self) -> Result<String> {
        self.tell("stop")?;
        self.tell("quit")?;
        match self.process.wait(PATIENCE) {
            Some(status) if status.success() => Ok(self.printed()),
            Some(status) => Err(self.error(&format!("it ended with {status}"))),
            None => Err(self.error("it did not end when asked to")),
        }
    }

    fn printed(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn error(&self, detail: &str) -> Error {
        let detail = format!("{detail}\n{}", last_lines(&self.printed(), 10));
        Error::Daemon { daemon: "testpmd".into(), detail }
    }
}

/// The last figure behind a word in what testpmd has printed, as `Tx-pps:`, for each port in their
/// order.
#[must_use]
pub fn last_figures(printed: &str, word: &str, ports: usize) -> Vec<u64> {
    let figures = printed.lines().filter_map(|line| {
        let value = line.split_once(word)?.1.split_whitespace().next()?;
        value.parse().ok()
    });
    let figures: Vec<u64> = figures.collect();
    figures.get(figures.len().saturating_sub(ports)..).unwrap_or_default().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_figures_count() {
        let text = "Tx-pps: 0  Tx-bps: 0\nTx-pps:     5  Tx-bps: 1\nTx-pps: 70  x\n";
        assert_eq!(last_figures(text, "Tx-pps:", 2), [5, 70]);
        assert!(last_figures(text, "Rx-pps:", 2).is_empty());
    }

    #[test]
    fn paths_differ() {
        let mut paths: Vec<String> = RingPath::all().map(|path| path.to_string()).collect();
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), 8);
    }
}
