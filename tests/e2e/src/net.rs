//! A guest with one network card of ours, and the host's side of its network.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;
use virtio_spec::{DeviceType, names};

use crate::block::feature_bits;
use crate::console::Results;
use crate::daemon::{Daemon, Plan, Programs};
use crate::error::{Error, Result, output_of};
use crate::guest::{Card, Guest, Setup};
use crate::job::Job;
use crate::kit::Kit;
use crate::namespace::Namespace;
use crate::place::{Place, RunDir};
use crate::process::Process;
use crate::stream;

/// Where the host takes what the guest sends, and gives what the guest fetches.
const PORTS: [u16; 2] = [5001, 5002];
/// How long the host's side may take to write down what it was sent.
const SETTLE: Duration = Duration::from_secs(5);

/// What to play.
#[derive(Debug, Clone)]
pub struct NetScene<'kit> {
    /// Names its folder and namespace.
    pub name: String,
    /// What is booted.
    pub kit: &'kit Kit,
    /// Where the daemon's program is.
    pub programs: Programs,
    /// Whether the daemon offers packed rings and the front-end asks for them.
    pub packed: bool,
    /// Whether the front-end connects again when the daemon goes away.
    pub reconnect: bool,
    /// Further arguments for the daemon.
    pub arguments: Vec<String>,
    /// Bytes that the guest may fetch, in MiB.
    pub mebibytes: u32,
    /// From power on to the last line.
    pub limit: Duration,
}

/// A scene with everybody on stage.
#[derive(Debug)]
pub struct NetStage {
    /// The guest; it is ended before the daemon and the host's side are.
    pub guest: Guest,
    /// The back-end.
    pub daemon: Daemon,
    /// How to start it again.
    pub plan: Plan,
    host: Host,
    _run: RunDir,
}

/// The host's side: two TCP servers, and iperf3.
#[derive(Debug)]
struct Host {
    sink: Process,
    _source: Process,
    taken: PathBuf,
    given: PathBuf,
    busybox: PathBuf,
    _iperf: Process,
    namespace: Namespace,
}

/// What a finished scene has shown.
#[derive(Debug)]
pub struct NetReport {
    /// What the guest said.
    pub results: Results,
    /// What the daemon said of itself: the answer to `stats`.
    pub stats: serde_json::Value,
    /// The sum of what the host was sent, and of what it gave.
    sums: (String, String),
}

impl<'kit> NetScene<'kit> {
    /// Split rings, and a minute and a half for everything.
    #[must_use]
    pub fn new(name: &str, kit: &'kit Kit) -> Self {
        Self {
            name: name.to_owned(),
            kit,
            programs: Programs::on_demand(),
            packed: false,
            reconnect: false,
            arguments: Vec::new(),
            mebibytes: 16,
            limit: Duration::from_secs(90),
        }
    }

    /// Makes the network, starts the daemon and boots the guest.
    ///
    /// # Errors
    /// When one of them does not come up.
    pub fn start(&self, place: &Place, job: Job) -> Result<NetStage> {
        let run = RunDir::create(place, &self.name)?;
        let namespace = Namespace::create(&self.name)?;
        let tap = format!("--tap={}", namespace.tap());
        let mut arguments = vec![tap.as_str()];
        arguments.extend(self.packed.then_some("--packed"));
        arguments.extend(self.arguments.iter().map(String::as_str));
        let plan = Plan::new(&run, &self.programs, "net", &arguments)?.inside(namespace.name());
        let daemon = plan.start()?;
        let host = Host::start(&run, self.kit, namespace, self.mebibytes)?;
        let card = Card {
            socket: plan.socket().to_path_buf(),
            packed: self.packed,
            reconnect: self.reconnect,
        };
        let setup = Setup { card: Some(card), ..Setup::new(job, self.limit) };
        let guest = Guest::boot(&run, self.kit, &setup)?;
        Ok(NetStage { guest, daemon, plan, host, _run: run })
    }

    /// Plays the whole scene.
    ///
    /// # Errors
    /// At the first thing that goes wrong.
    pub fn play(&self, place: &Place, job: Job) -> Result<NetReport> {
        self.start(place, job)?.finish()
    }
}

impl NetStage {
    /// The host's side of the network.
    #[must_use]
    pub const fn namespace(&self) -> &Namespace {
        &self.host.namespace
    }

    /// A server in another namespace that takes what is sent to a port, and keeps nothing.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn sink(&self, namespace: &Namespace, port: u16) -> Result<Process> {
        let mut command = namespace.command(self.host.busybox.as_path());
        command.args(["nc", "-l", "-p", &port.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        Process::start("nc", command)
    }

    /// Lets the guest finish its job, asks the daemon what it did, and ends it.
    ///
    /// # Errors
    /// At the first thing that goes wrong.
    pub fn finish(mut self) -> Result<NetReport> {
        let results = self.guest.finish()?;
        let stats = self.daemon.control(&json!({"cmd": "stats"}))?;
        let sent = results.contains_key("sent_sum");
        let sums = if sent { self.host.sums()? } else { Default::default() };
        self.daemon.stop()?;
        Ok(NetReport { results, stats, sums })
    }
}

impl Host {
    fn start(run: &RunDir, kit: &Kit, namespace: Namespace, mebibytes: u32) -> Result<Self> {
        let (taken, given) = (run.file("taken"), run.file("given"));
        let fill = format!("head -c {} /dev/urandom > '{}'", mebibytes << 20, given.display());
        output_of(Command::new("sh").args(["-c", &fill]))?;
        let serve = |port: u16, input: Stdio, output: Stdio| {
            let mut command = namespace.command(kit.busybox());
            command.args(["nc", "-l", "-p", &port.to_string()]).stdin(input).stdout(output);
            Process::start("nc", command)
        };
        let output = File::create(&taken).map_err(Error::file("make", &taken))?;
        // With nothing to say it would close, and the guest would then stop sending.
        let sink = serve(PORTS[0], Stdio::piped(), output.into())?;
        let input = File::open(&given).map_err(Error::file("open", &given))?;
        let source = serve(PORTS[1], input.into(), Stdio::null())?;
        let iperf = stream::serve(kit, &namespace)?;
        let busybox = kit.busybox().to_path_buf();
        Ok(Self { sink, _source: source, taken, given, busybox, _iperf: iperf, namespace })
    }

    fn sums(&mut self) -> Result<(String, String)> {
        // It ends when the guest has closed its connection and all is written.
        self.sink.wait(SETTLE);
        Ok((sum(&self.taken)?, sum(&self.given)?))
    }
}

fn sum(file: &Path) -> Result<String> {
    let text = output_of(Command::new("sha256sum").arg(file))?;
    Ok(text.split_whitespace().next().unwrap_or_default().to_owned())
}

impl NetReport {
    /// What the guest said under this key; empty if nothing.
    #[must_use]
    pub fn get(&self, key: &str) -> &str {
        self.results.get(key).map_or("", String::as_str)
    }

    /// Whether what either side sent over TCP is what the other got.
    #[must_use]
    pub fn sums_agree(&self) -> bool {
        let (taken, given) = &self.sums;
        self.get("sent_sum") == taken && self.get("fetched_sum") == given && !taken.is_empty()
    }

    /// The names of the features that driver and device agreed on, in the specification's words.
    #[must_use]
    pub fn features(&self) -> Vec<String> {
        names(DeviceType::NET, feature_bits(self.get("net_features")))
    }
}
