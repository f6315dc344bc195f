//! One of the machines that a guest runs in on its way, and the back-end of its disk.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::qmp::Monitor;
use crate::daemon::Daemon;
use crate::error::{Error, Result};
use crate::guest::{Guest, Setup};
use crate::kit::Kit;
use crate::place::RunDir;
use crate::qemu;

/// How long a machine that has handed its guest over may take to end.
const QUIT: Duration = Duration::from_secs(10);

/// A place that a guest can move to: a back-end that lives on while machines come and go.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) daemon: Daemon,
    pub(super) setup: Setup,
    pub(super) _run: RunDir,
}

/// What all machines of one guest have in common.
#[derive(Debug)]
pub(super) struct Frame<'kit> {
    pub(super) kit: &'kit Kit,
    pub(super) run: RunDir,
    pub(super) initrd: PathBuf,
    pub(super) log: PathBuf,
    pub(super) until: Instant,
    /// Machines that were started.
    pub(super) machines: u32,
}

/// A QEMU with its monitor.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) guest: Guest,
    pub(super) monitor: Monitor,
}

impl Side {
    /// What the back-end says of its connection with the front-end, by this key.
    pub(super) fn connection(&self, key: &str) -> Result<Value> {
        let stats = self.daemon.control(&json!({"cmd": "stats"}))?;
        Ok(stats.get("connection").and_then(|it| it.get(key)).cloned().unwrap_or_default())
    }

    /// Whether writes to guest memory are logged at this moment.
    pub(super) fn is_logging(&self) -> Result<bool> {
        Ok(self.connection("dirty_log")? == json!(true))
    }

    /// The states of the rings.
    pub(super) fn rings(&self) -> Result<Vec<String>> {
        let rings = self.connection("rings")?;
        let states = rings.as_array().into_iter().flatten().filter_map(|ring| ring.get("state"));
        Ok(states.filter_map(|state| Some(state.as_str()?.to_owned())).collect())
    }
}

impl Frame<'_> {
    /// Boots the guest.
    pub(super) fn boot(&mut self, side: &Side) -> Result<Machine> {
        self.start(side, &[])
    }

    /// Starts a machine that waits for a guest to move in, and says where it listens.
    pub(super) fn await_guest(&mut self, side: &Side) -> Result<(Machine, String)> {
        let mut machine = self.start(side, &["-incoming", "defer"])?;
        let address = format!("unix:{}", self.run.socket(&self.name("migration")).display());
        machine.monitor.run("migrate-incoming", &json!({ "uri": address }))?;
        Ok((machine, address))
    }

    fn start(&mut self, side: &Side, arguments: &[&str]) -> Result<Machine> {
        self.machines += 1;
        let socket = self.run.socket(&self.name("monitor"));
        let mut command = qemu::command(self.kit, &side.setup, &self.initrd);
        command.args(["-qmp", &listening(&socket)]).args(arguments).stdin(Stdio::piped());
        let guest = Guest::start(self.run.name(), command, &self.log, self.until)?;
        Ok(Machine { guest, monitor: Monitor::connect(&socket)? })
    }

    fn name(&self, of: &str) -> String {
        format!("{of}-{}", self.machines)
    }
}

impl Machine {
    /// Whether its virtual CPUs run.
    pub(super) fn is_running(&mut self) -> Result<bool> {
        let status = self.monitor.run("query-status", &json!({}))?;
        Ok(status.get("running") == Some(&json!(true)))
    }

    /// Ends a machine whose guest has moved out.
    pub(super) fn quit(mut self) -> Result<()> {
        self.monitor.run("quit", &json!({}))?;
        match self.guest.wait(QUIT) {
            Some(status) if status.success() => Ok(()),
            status => Err(Error::Monitor {
                command: "quit".into(),
                detail: status.map_or("it goes on".into(), |status| format!("it ended: {status}")),
            }),
        }
    }
}

fn listening(socket: &Path) -> String {
    format!("unix:{},server=on,wait=off", socket.display())
}
