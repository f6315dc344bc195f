//! Packets of a driver that polls: one measurement of one cell.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use e2e::{DPDK, Place, Root, Session, Testpmd, last_figures};
use rustix::process::{Pid, Signal, kill_process};

use super::Options;
use super::interface::Interface;
use super::plan::{Cell, Side, Way};
use super::report::Sample;
use crate::accounting;
use crate::process::Daemon;

/// The interfaces of a run, and the bridge between both.
const INTERFACES: [&str; 2] = ["outrigger-a", "outrigger-b"];
const BRIDGE: &str = "outrigger-br";
/// The addresses of two guests that send to each other.
const ADDRESSES: [&str; 2] = ["52:54:00:00:00:01", "52:54:00:00:00:02"];
/// How long a back-end may take to start, or to end.
const PATIENCE: Duration = Duration::from_secs(10);
/// Until a client is at full speed.
const WARM_UP: Duration = Duration::from_millis(500);
/// How long an idle back-end is watched, and how long it may take to come to rest.
const IDLE: Duration = Duration::from_secs(1);

/// What all measurements share.
pub(super) struct Bench {
    pub(super) root: Root,
    pub(super) program: PathBuf,
    own: PathBuf,
    folder: tempfile::TempDir,
    pub(super) client_cpu: usize,
    pub(super) back_end_cpu: usize,
    runtime: Duration,
    realtime: bool,
}

/// Who serves, running.
enum BackEnd {
    /// Processes that end when told to: ours, or loops.
    Daemons(Vec<Daemon>),
    Dpdk(Session),
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
            client_cpu: options.client_cpu,
            back_end_cpu: options.back_end_cpu,
            runtime: options.runtime(),
            realtime: options.realtime,
        })
    }

    /// A file of this run.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Measures; ours also when it is idle, if that is asked for.
    pub(super) fn measure(&self, cell: Cell, side: Side, idle: bool) -> Result<Sample> {
        let sockets = ["a", "b"].map(|name| self.file(name));
        for socket in &sockets {
            // It may be left from one that was killed.
            let _ = fs::remove_file(socket);
        }
        let mut back_end = self.back_end(cell, side, &sockets)?;
        let sample = self.load(cell, side, &sockets, (&mut back_end, idle));
        let sample = sample.with_context(|| format!("the back-end said: {}", back_end.said()));
        if side == Side::Bridge {
            Interface::remove_bridge(BRIDGE);
        }
        back_end.stop();
        sample
    }

    fn back_end(&self, cell: Cell, side: Side, [a, b]: &[PathBuf; 2]) -> Result<BackEnd> {
        let interface = INTERFACES[0];
        Ok(BackEnd::Daemons(match side {
            Side::Dpdk => return self.dpdk(cell, a).map(BackEnd::Dpdk),
            Side::Writev | Side::Readv => {
                let mut command = Command::new(&self.own);
                let size = if side == Side::Writev { cell.size } else { 0 };
                command.args(["net-loop", interface, &size.to_string()]).arg(a);
                vec![self.daemon(&mut command, a)?]
            }
            Side::Bridge => {
                let ports = INTERFACES.into_iter().zip([a, b]);
                let start = |(port, socket): (&str, &PathBuf)| {
                    self.daemon(self.ours([socket]).arg(format!("--tap={port}")), socket)
                };
                ports.map(start).collect::<Result<_>>()?
            }
            _ => {
                let mut command = match cell.way {
                    Way::Switch => self.ours([a, b]),
                    _ => self.ours([a]),
                };
                match cell.way {
                    Way::Null => command.arg("--null"),
                    Way::Echo => command.arg("--echo"),
                    Way::ToTap | Way::FromTap => command.arg(format!("--tap={interface}")),
                    Way::Switch => command.arg("--switch"),
                };
                vec![self.daemon(&mut command, a)?]
            }
        }))
    }

    /// outrigger-net, with every ring path on offer.
    fn ours<'path>(&self, sockets: impl IntoIterator<Item = &'path PathBuf>) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["--packed", "--in-order"]);
        let sockets = sockets.into_iter();
        command.args(sockets.map(|socket| format!("--socket-path={}", socket.display())));
        command
    }

    fn daemon(&self, command: &mut Command, socket: &Path) -> Result<Daemon> {
        let log = socket.with_extension("log");
        Daemon::start(self.back_end_cpu, command, socket, &log, PATIENCE)
    }

    fn dpdk(&self, cell: Cell, socket: &Path) -> Result<Session> {
        let mode = if cell.way == Way::Echo { "io" } else { "rxonly" };
        let peer = Testpmd::new(&self.root, "vhost", self.back_end_cpu, self.client_cpu)?
            .back_end(socket)
            .with(&format!("--forward-mode={mode}"));
        let mut peer = peer.start(&self.file("vhost.log"))?;
        peer.tell("start")?;
        Ok(peer)
    }

    fn client(&self, cell: Cell, [a, b]: &[PathBuf; 2]) -> Result<Session> {
        let mode = match cell.way {
            Way::Null | Way::ToTap => "txonly",
            Way::FromTap => "rxonly",
            Way::Echo | Way::Switch => "flowgen",
        };
        let client = Testpmd::new(&self.root, "client", self.client_cpu, self.back_end_cpu)?;
        let [first, second] = ADDRESSES;
        let client = match cell.way {
            Way::Switch => client
                .driver(a, cell.ring, &format!(",mac={first}"))
                .driver(b, cell.ring, &format!(",mac={second}"))
                .with(&format!("--eth-peer=0,{second}"))
                .with(&format!("--eth-peer=1,{first}")),
            _ => client.driver(a, cell.ring, ""),
        };
        let client =
            client.with(&format!("--forward-mode={mode}")).with(&format!("--txpkts={}", cell.size));
        Ok(client.start(&self.file("client.log"))?)
    }

    fn load(
        &self,
        cell: Cell,
        side: Side,
        sockets: &[PathBuf; 2],
        (back_end, idle): (&mut BackEnd, bool),
    ) -> Result<Sample> {
        let interface = match (cell.way, side) {
            (Way::ToTap, _) => Some(Interface::up(INTERFACES[0])?),
            (Way::FromTap, _) => Some(Interface::up(INTERFACES[0])?.with_neighbour()?),
            (_, Side::Bridge) => {
                Interface::bridge(BRIDGE, INTERFACES)?;
                None
            }
            _ => None,
        };
        let alone = matches!(side, Side::Writev | Side::Readv);
        let mut client = (!alone).then(|| self.client(cell, sockets)).transpose()?;
        let idle_wakeups = match side {
            Side::Outrigger if idle => Some(back_end.idle()?),
            _ => None,
        };
        if let Some(client) = &mut client {
            client.tell("start")?;
        }
        if self.realtime {
            back_end.pids().into_iter().try_for_each(prefer)?;
            client.as_ref().map_or(Ok(()), |client| prefer(number(client.pid())))?;
        }
        std::thread::sleep(WARM_UP);
        let (rate, cpu) = match (&interface, cell.way) {
            (Some(interface), Way::FromTap) => (self.emptied(cell, interface, back_end)?, None),
            _ => self.steady(interface.as_ref(), &mut client, back_end)?,
        };
        let memory = back_end.memory_kib()?;
        let printed = client.map(Session::finish).transpose()?;
        let rate = match (rate, printed) {
            (None, Some(printed)) => Some(shown(cell, &printed)?),
            (rate, _) => rate,
        };
        Ok(Sample { rate, cpu, memory_kib: Some(memory), idle_wakeups, instructions: None })
    }

    /// Lets them run for a while. The rate is known already where it is that of an interface.
    fn steady(
        &self,
        interface: Option<&Interface>,
        client: &mut Option<Session>,
        back_end: &BackEnd,
    ) -> Result<(Option<f64>, Option<f64>)> {
        let mut show =
            || client.as_mut().map_or(Ok(()), |client| client.tell("show port stats all"));
        let received = || interface.map(Interface::received);
        show()?;
        let (begun, cpu, frames) = (Instant::now(), back_end.cpu_time()?, received());
        std::thread::sleep(self.runtime);
        let seconds = begun.elapsed().as_secs_f64();
        let cpu = back_end.cpu_time()?.saturating_sub(cpu).as_secs_f64() / seconds;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let rate = received().zip(frames).map(|(after, before)| (after - before) as f64 / seconds);
        show()?;
        // It answers a moment later than it is asked.
        std::thread::sleep(Duration::from_millis(50));
        Ok((rate, Some(cpu)))
    }

    /// Fills and has emptied an interface for as long as a measurement takes; the median.
    fn emptied(
        &self,
        cell: Cell,
        interface: &Interface,
        back_end: &BackEnd,
    ) -> Result<Option<f64>> {
        let until = Instant::now() + self.runtime;
        let mut rates = Vec::new();
        while Instant::now() < until || rates.len() < 3 {
            rates.push(interface.emptied(cell.size, |paused| back_end.pause(paused))?);
        }
        Ok(crate::statistics::Spread::of(rates).map(|spread| spread.median))
    }
}

/// The rate that a client has shown last: of what it sent, or of what came back on all its ports.
fn shown(cell: Cell, printed: &str) -> Result<f64> {
    let (word, ports) = match cell.way {
        Way::Switch => ("Rx-pps:", 2),
        Way::Echo => ("Rx-pps:", 1),
        Way::Null | Way::ToTap | Way::FromTap => ("Tx-pps:", 1),
    };
    let sum: u64 = last_figures(printed, word, ports).iter().sum();
    ensure!(sum > 0, "testpmd reports no packets");
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    Ok(sum as f64)
}

impl BackEnd {
    fn pids(&self) -> Vec<u32> {
        match self {
            Self::Daemons(daemons) => daemons.iter().map(Daemon::pid).collect(),
            Self::Dpdk(session) => vec![number(session.pid())],
        }
    }

    fn cpu_time(&self) -> Result<Duration> {
        self.pids().into_iter().map(accounting::cpu_time).sum()
    }

    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    fn memory_kib(&self) -> Result<f64> {
        let each = |pid| accounting::resident(pid).map(|resident| resident.anon_kib);
        let sum: Result<u64> = self.pids().into_iter().map(each).sum();
        Ok(sum? as f64)
    }

    /// How often it wakes in a second.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    fn idle(&self) -> Result<f64> {
        std::thread::sleep(WARM_UP);
        let look = || -> Result<Vec<accounting::Switches>> {
            self.pids().into_iter().map(accounting::voluntary_switches).collect()
        };
        let before = look()?;
        std::thread::sleep(IDLE);
        let after = look()?;
        let each = before.iter().zip(&after);
        let sum: u64 = each.map(|(old, new)| accounting::wakeups_between(old, new)).sum();
        Ok(sum as f64)
    }

    fn pause(&self, paused: bool) -> Result<()> {
        let signal = if paused { Signal::STOP } else { Signal::CONT };
        for pid in self.pids() {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no process id")?;
            kill_process(pid, signal)?;
        }
        Ok(())
    }

    fn said(&self) -> String {
        match self {
            Self::Daemons(daemons) => {
                daemons.iter().map(Daemon::said).collect::<Vec<_>>().join("\n")
            }
            Self::Dpdk(_) => String::new(),
        }
    }

    fn stop(self) {
        // What was to be measured was.
        match self {
            Self::Daemons(daemons) => daemons.into_iter().for_each(|daemon| {
                let _ = daemon.stop(PATIENCE);
            }),
            Self::Dpdk(session) => drop(session),
        }
    }
}

fn number(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().unsigned_abs()
}

/// Gives the threads of a process real-time priority; those that forward packets all the time the
/// lower one, so that the others get a word in.
fn prefer(pid: u32) -> Result<()> {
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?;
        let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let busy = name.contains("worker") || name.contains("-q") || name.starts_with("bench");
        let priority = if busy { "10" } else { "12" };
        let status =
            Command::new("chrt").args(["-f", "-p", priority]).arg(task.file_name()).status()?;
        if !status.success() {
            bail!("chrt: {status}; leave --realtime out, or be root");
        }
    }
    Ok(())
}
