//! Streams of data between a guest and its host, measured with iperf3, and who serves the guest's
//! network card meanwhile: on this machine, or (`at_site.rs`) where the VMM runs.

mod at_site;

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::apt::Root;
use crate::console::Results;
use crate::daemon::{Daemon, Plan, Programs};
use crate::error::{Error, Result};
use crate::guest::{Card, Guest, Setup};
use crate::job::Job;
use crate::kit::{Kind, Kit, PEERS};
use crate::namespace::Namespace;
use crate::place::{Place, RunDir};
use crate::process::Process;
pub(crate) use at_site::TAP;

/// How long a back-end may take until it has made its socket.
const START: Duration = Duration::from_secs(5);

/// One stream: a protocol and a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Stream {
    /// UDP, as fast as it goes in datagrams that fill a frame of 1500 bytes; else TCP.
    pub udp: bool,
    /// From the host to the guest; else the other way.
    pub to_guest: bool,
}

impl Stream {
    /// TCP both ways, and UDP both ways.
    pub const ALL: [Self; 4] = [
        Self { udp: false, to_guest: false },
        Self { udp: false, to_guest: true },
        Self { udp: true, to_guest: false },
        Self { udp: true, to_guest: true },
    ];

    /// The guest says `stream_KEY`.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match (self.udp, self.to_guest) {
            (false, false) => "tcp_to_host",
            (false, true) => "tcp_to_guest",
            (true, false) => "udp_to_host",
            (true, true) => "udp_to_guest",
        }
    }

    /// For people.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match (self.udp, self.to_guest) {
            (false, false) => "TCP to the host",
            (false, true) => "TCP to the guest",
            (true, false) => "UDP to the host",
            (true, true) => "UDP to the guest",
        }
    }

    /// Of iperf3.
    pub(crate) const fn arguments(self) -> &'static str {
        match (self.udp, self.to_guest) {
            (false, false) => "",
            (false, true) => "-R",
            (true, false) => "-u -b 0 -l 1472",
            (true, true) => "-u -b 0 -l 1472 -R",
        }
    }

    /// What a guest has said of it, bits a second.
    ///
    /// # Errors
    /// When it has said nothing, or no number.
    pub fn rate(self, results: &Results) -> Result<f64> {
        let key = format!("stream_{}", self.key());
        let text = results.get(&key).map_or("", String::as_str);
        text.parse().map_err(|_| Error::Missing {
            what: format!("the guest's {key} ({text:?} is no number)"),
            how: "the guest's log shows what iperf3 said".into(),
        })
    }
}

/// Who serves the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Server {
    /// outrigger-net on a tap interface.
    Outrigger,
    /// passt over vhost-user.
    Passt,
    /// The guest's own program on a tap interface: the vector driver of User Mode Linux, QEMU's
    /// `-netdev tap`.
    Own,
}

/// A guest whose streams are to be measured.
#[derive(Debug, Clone)]
pub struct StreamScene<'kit> {
    /// Names its folder and namespace.
    pub name: String,
    /// What is booted.
    pub kit: &'kit Kit,
    /// Where our program is.
    pub programs: Programs,
    /// Who serves its card.
    pub server: Server,
    /// The streams, one after the other.
    pub streams: Vec<Stream>,
    /// Length of each.
    pub seconds: u32,
    /// From power on to the last line.
    pub limit: Duration,
}

/// Guest, server and the host's side.
#[derive(Debug)]
pub struct StreamStage {
    /// The guest; it is ended before the others are.
    pub guest: Guest,
    server: Serving,
    _iperf: Process,
    _namespace: Namespace,
    _run: RunDir,
}

#[derive(Debug)]
enum Serving {
    Outrigger(Daemon),
    Other(Process),
    Nobody,
}

impl StreamScene<'_> {
    /// Starts everybody.
    ///
    /// # Errors
    /// When one of them does not come up.
    pub fn start(&self, place: &Place) -> Result<StreamStage> {
        let run = RunDir::create(place, &self.name)?;
        let namespace = Namespace::create(&self.name)?;
        let iperf = serve(self.kit, &namespace)?;
        let (server, setup) = match self.server {
            Server::Outrigger => {
                let tap = format!("--tap={}", namespace.tap());
                let plan = Plan::new(&run, &self.programs, "net", &[&tap])?;
                let plan = plan.inside(namespace.name());
                let (daemon, setup) = (plan.start()?, self.setup(Some(plan.socket())));
                (Serving::Outrigger(daemon), setup)
            }
            Server::Passt => {
                let socket = run.socket("passt");
                let passt = passt(place, &run, &namespace)?;
                (Serving::Other(passt), self.setup(Some(&socket)))
            }
            Server::Own => (Serving::Nobody, self.own(&namespace)),
        };
        let guest = Guest::boot(&run, self.kit, &setup)?;
        Ok(StreamStage { guest, server, _iperf: iperf, _namespace: namespace, _run: run })
    }

    fn setup(&self, socket: Option<&std::path::Path>) -> Setup {
        let job = if socket.is_none() && self.kit.kind() == Kind::Uml {
            Job::new().card("vec0")
        } else {
            Job::new()
        };
        let job = self
            .streams
            .iter()
            .fold(job.network(), |job, stream| job.stream(*stream, self.seconds));
        let card = |socket: &std::path::Path| Card {
            socket: socket.into(),
            packed: false,
            reconnect: false,
        };
        Setup { card: socket.map(card), ..Setup::new(job, self.limit) }
    }

    /// A guest that is on the interface itself.
    fn own(&self, namespace: &Namespace) -> Setup {
        let tap = namespace.tap();
        let arguments = match self.kit.kind() {
            Kind::Uml => vec![format!("vec0:transport=tap,ifname={tap},depth=128,gro=1")],
            _ => vec![
                "-netdev".to_owned(),
                format!("tap,id=net,ifname={tap},script=no,downscript=no,vhost=off"),
                "-device".to_owned(),
                "virtio-net-pci,netdev=net,romfile=".to_owned(),
            ],
        };
        let namespace = Some(namespace.name().to_owned());
        Setup { arguments, namespace, ..self.setup(None) }
    }
}

impl StreamStage {
    /// The process that serves the card, if it is one of its own.
    #[must_use]
    pub fn server(&self) -> Option<rustix::process::Pid> {
        match &self.server {
            Serving::Outrigger(daemon) => Some(daemon.pid()),
            Serving::Other(process) => Some(process.pid()),
            Serving::Nobody => None,
        }
    }
}

/// iperf3, waiting for guests in a namespace.
pub(crate) fn serve(kit: &Kit, namespace: &Namespace) -> Result<Process> {
    let mut command = namespace.inside(&kit.network().command("usr/bin/iperf3")?);
    command.arg("-s").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Process::start("iperf3", command)
}

fn passt(place: &Place, run: &RunDir, namespace: &Namespace) -> Result<Process> {
    let root = Root::cached(place, &PEERS).ok_or_else(|| Error::Missing {
        what: format!("{} ({})", PEERS.packages.join(", "), PEERS.purpose),
        how: "`cargo xtask test` fetches them into target/guests".into(),
    })?;
    let socket = run.socket("passt");
    // It gives up its rights before it makes its socket.
    let folder = socket.parent().unwrap_or(&socket);
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(folder, open).map_err(Error::file("open to all", folder))?;
    let mut command: Command = namespace.inside(&root.command("usr/bin/passt")?);
    command
        .args(["--vhost-user", "--foreground", "--quiet", "--socket"])
        .arg(&socket)
        .args(["--address", "192.0.2.2", "--netmask", "24", "--gateway", "192.0.2.1"])
        .args(["--map-host-loopback", "192.0.2.1"])
        .stdin(Stdio::null());
    let passt = Process::start("passt", command)?;
    let until = Instant::now() + START;
    while !socket.exists() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(passt)
}
