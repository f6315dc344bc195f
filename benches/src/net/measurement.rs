//! One measurement: a back-end, a client, and what both did.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use e2e::{DPDK, Place, Root};
use serde::Serialize;

use super::Options;
use super::plan::{Cell, Side, Uplink};
use super::testpmd::{self, Client, Cpus};
use crate::accounting::{self, Resident};
use crate::process::Daemon;

/// The interface of a run.
const INTERFACE: &str = "outrigger-bench";
/// How long a back-end may take to start, or to end.
const PATIENCE: Duration = Duration::from_secs(10);
/// Until a client has connected and is at full speed.
const WARM_UP: Duration = Duration::from_millis(1500);
/// How long an idle back-end is watched.
const IDLE: Duration = Duration::from_secs(1);

/// What came of a measurement.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Sample {
    pub(super) packets_per_second: f64,
    /// CPU time of the back-end for a second.
    pub(super) cpu: f64,
    pub(super) resident: Resident,
    /// How often the back-end woke in a second in which nothing happened; ours only.
    pub(super) idle_wakeups: Option<u64>,
}

/// What all measurements share.
pub(super) struct Bench {
    root: Root,
    program: PathBuf,
    own: PathBuf,
    folder: tempfile::TempDir,
    cpus: Cpus,
    runtime: Duration,
    realtime: bool,
}

impl Bench {
    pub(super) fn new(options: &Options) -> Result<Self> {
        let place = Place::of_workspace()?;
        let lock = place.lock()?;
        let root = Root::fetch(&place, &DPDK)?;
        drop(lock);
        let own = std::env::current_exe()?;
        let program = own.with_file_name("outrigger-net");
        if !program.is_file() {
            bail!("outrigger-net is not built; do: cargo build --release --package outrigger-net");
        }
        Ok(Self {
            root,
            program,
            own,
            folder: tempfile::tempdir()?,
            cpus: Cpus { client: options.client_cpu, back_end: options.back_end_cpu },
            runtime: Duration::from_secs(options.runtime),
            realtime: options.realtime,
        })
    }

    pub(super) fn dpdk_version(&self) -> String {
        self.root.version("dpdk-dev")
    }

    pub(super) fn measure(&self, cell: Cell, side: Side) -> Result<Sample> {
        let socket = self.folder.path().join("socket");
        // It may be left from one that was killed.
        let _ = fs::remove_file(&socket);
        let mut command = self.back_end(cell, side, &socket)?;
        let log = self.folder.path().join("back-end.log");
        let daemon = Daemon::start(self.cpus.back_end, &mut command, &socket, &log, PATIENCE)?;
        if cell.uplink == Uplink::Tap {
            self.set_up()?;
        }
        let idle_wakeups = match side {
            Side::Outrigger => Some(self.idle(cell, &socket, &daemon)?),
            Side::Dpdk | Side::Writev => None,
        };
        let sample = self.load(cell, side, &socket, &daemon);
        let sample = sample.with_context(|| format!("the back-end said: {}", daemon.said()))?;
        // testpmd is in no hurry to end; what was to be measured was.
        let _ = daemon.stop(PATIENCE);
        Ok(Sample { idle_wakeups, ..sample })
    }

    fn back_end(&self, cell: Cell, side: Side, socket: &Path) -> Result<Command> {
        Ok(match side {
            Side::Dpdk => testpmd::peer(&self.root, self.cpus, cell, socket)?,
            Side::Writev => {
                let mut command = Command::new(&self.own);
                command.args(["net-loop", INTERFACE, &cell.size.to_string()]).arg(socket);
                command
            }
            Side::Outrigger => {
                let mut command = Command::new(&self.program);
                match cell.uplink {
                    Uplink::Null => command.arg("--null"),
                    Uplink::Echo => command.arg("--echo"),
                    Uplink::Tap => command.arg(format!("--tap={INTERFACE}")),
                };
                command.args(["--packed", "--in-order"]);
                command.arg(format!("--socket-path={}", socket.display()));
                command
            }
        })
    }

    /// The interface takes frames only when it is up; it needs no address.
    fn set_up(&self) -> Result<()> {
        let up = ["link", "set", INTERFACE, "addrgenmode", "none", "up"];
        let status = Command::new("ip").args(up).status().context("cannot run ip (iproute2)")?;
        if status.success() { Ok(()) } else { bail!("ip {}: {status}", up.join(" ")) }
    }

    /// A client that is connected and has nothing to do: how often the back-end wakes.
    fn idle(&self, cell: Cell, socket: &Path, daemon: &Daemon) -> Result<u64> {
        let command = testpmd::client(&self.root, self.cpus, cell, socket, true)?;
        let client = Client::start(command, &self.folder.path().join("idle.log"))?;
        std::thread::sleep(WARM_UP);
        let before = accounting::voluntary_switches(daemon.pid())?;
        std::thread::sleep(IDLE);
        let after = accounting::voluntary_switches(daemon.pid())?;
        drop(client);
        std::thread::sleep(Duration::from_millis(200));
        Ok(accounting::wakeups_between(&before, &after))
    }

    fn load(&self, cell: Cell, side: Side, socket: &Path, daemon: &Daemon) -> Result<Sample> {
        let client = match side {
            Side::Writev => None,
            Side::Outrigger | Side::Dpdk => {
                let command = testpmd::client(&self.root, self.cpus, cell, socket, false)?;
                Some(Client::start(command, &self.folder.path().join("client.log"))?)
            }
        };
        std::thread::sleep(WARM_UP / 2);
        if self.realtime {
            prefer(daemon.pid())?;
            client.as_ref().map_or(Ok(()), |client| prefer(client.pid()))?;
        }
        std::thread::sleep(WARM_UP / 2);
        let (begun, cpu) = (Instant::now(), accounting::cpu_time(daemon.pid())?);
        let frames = received(cell);
        std::thread::sleep(self.runtime);
        let seconds = begun.elapsed().as_secs_f64();
        let cpu = accounting::cpu_time(daemon.pid())?.saturating_sub(cpu).as_secs_f64() / seconds;
        let resident = accounting::resident(daemon.pid())?;
        let frames = received(cell).saturating_sub(frames);
        let printed = client.map(|client| client.finish(cell)).transpose()?;
        let packets_per_second = match (cell.uplink, printed) {
            (Uplink::Null | Uplink::Echo, Some(printed)) => printed,
            // What counts is what the interface took.
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            _ => frames as f64 / seconds,
        };
        Ok(Sample { packets_per_second, cpu, resident, idle_wakeups: None })
    }
}

/// Frames that the interface has taken so far, seen from the host.
fn received(cell: Cell) -> u64 {
    if cell.uplink != Uplink::Tap {
        return 0;
    }
    let path = format!("/sys/class/net/{INTERFACE}/statistics/rx_packets");
    fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Gives the threads of a process real-time priority; those that forward packets all the time the
/// lower one, so that the others get a word in.
fn prefer(pid: u32) -> Result<()> {
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?;
        let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let busy = name.contains("worker") || name.contains("-q") || name.starts_with("bench");
        let priority = if busy { "10" } else { "12" };
        let id = task.file_name();
        let status = Command::new("chrt").args(["-f", "-p", priority]).arg(id).status()?;
        if !status.success() {
            bail!("chrt: {status}; leave --realtime out, or be root");
        }
    }
    Ok(())
}
