//! A running guest.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use virtio_spec::DeviceType;

use crate::console::{Console, FAILED, Results, Silence};
use crate::error::{Error, Result};
use crate::job::Job;
use crate::kit::{Kind, Kit};
use crate::place::{Place, RunDir};
use crate::process::Process;
use crate::{initrd, namespace, qemu, uml};

/// Said by a guest that has done its job.
const DONE: &str = "done";
/// How long a guest with nothing to do may take.
const TRY_OUT: Duration = Duration::from_secs(30);
/// How long a guest that has said its last line may take to power off.
const POWER_OFF: Duration = Duration::from_secs(10);

/// A vhost-user block device of a guest, as its front-end sees it. The first is `vda`.
#[derive(Debug, Clone)]
pub struct Disk {
    /// Where the back-end listens.
    pub socket: PathBuf,
    /// Packed rings, where the front-end can (QEMU).
    pub packed: bool,
    /// Whether the front-end connects again when the back-end goes away (QEMU).
    pub reconnect: bool,
}

/// A vhost-user network card of a guest. It is `eth0`.
#[derive(Debug, Clone)]
pub struct Card {
    /// Where the back-end listens.
    pub socket: PathBuf,
    /// Packed rings, where the front-end can (QEMU).
    pub packed: bool,
    /// Whether the front-end connects again when the back-end goes away (QEMU).
    pub reconnect: bool,
}

/// A device of a type that front-ends know nothing of: in User Mode Linux, and in QEMU's generic device
/// ([`Kind::LatestQemu`]).
#[derive(Debug, Clone)]
pub struct Generic {
    /// Where the back-end listens.
    pub socket: PathBuf,
    /// What it is.
    pub device_type: DeviceType,
    /// Its queues (QEMU; User Mode Linux takes as many as the driver asks for).
    pub queues: u16,
    /// Bytes of its config space (QEMU).
    pub config: u16,
    /// Packed rings, where the front-end can (QEMU).
    pub packed: bool,
    /// Whether the front-end connects again when the back-end goes away (QEMU).
    pub reconnect: bool,
}

impl Generic {
    /// A console of up to three ports (virtio 1.4, 5.3).
    #[must_use]
    pub const fn console(socket: PathBuf) -> Self {
        let device_type = DeviceType::CONSOLE;
        Self { socket, device_type, queues: 8, config: 12, packed: false, reconnect: false }
    }

    /// A memory balloon with all its queues (virtio 1.4, 5.5).
    #[must_use]
    pub const fn balloon(socket: PathBuf) -> Self {
        let device_type = DeviceType::BALLOON;
        Self { socket, device_type, queues: 5, config: 16, packed: false, reconnect: false }
    }
}

/// A guest to be booted.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Its block devices.
    pub disks: Vec<Disk>,
    /// Its console, its balloon.
    pub devices: Vec<Generic>,
    /// Its network card.
    pub card: Option<Card>,
    /// What it does.
    pub job: Job,
    /// Virtual CPUs (QEMU; the kernel of User Mode Linux has one).
    pub cpus: u32,
    /// Further arguments of the program that it runs in.
    pub arguments: Vec<String>,
    /// The network namespace that the program runs in, if it has no back-end for its network.
    pub namespace: Option<String>,
    /// From power on to the last line.
    pub limit: Duration,
}

impl Setup {
    /// A guest without devices, of one CPU.
    #[must_use]
    pub const fn new(job: Job, limit: Duration) -> Self {
        Self {
            disks: Vec::new(),
            devices: Vec::new(),
            card: None,
            job,
            cpus: 1,
            arguments: Vec::new(),
            namespace: None,
            limit,
        }
    }
}

/// A guest that has been started. It is ended when dropped.
#[derive(Debug)]
pub struct Guest {
    name: String,
    process: Process,
    console: Console,
    until: Instant,
}

impl Kit {
    /// Boots a guest without devices or work, to see whether this machine can run it.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn try_out(&self, place: &Place) -> Result<()> {
        let run = RunDir::create(place, &format!("{}-try-out", self.kind().name()))?;
        Guest::boot(&run, self, &Setup::new(Job::new(), TRY_OUT))?.finish().map(drop)
    }
}

impl Guest {
    /// Boots a guest; its files are in `run`.
    ///
    /// # Errors
    /// When the initrd cannot be made or the guest's program not started.
    pub fn boot(run: &RunDir, kit: &Kit, setup: &Setup) -> Result<Self> {
        let initrd = run.file("initrd");
        let (modules, mut command): (&[&str], _) = match kit.kind() {
            Kind::Uml => (
                &["virtio_blk", "virtio_balloon", "virtio_console", "virtio_net", "8021q"],
                uml::command(kit, run, setup, &initrd),
            ),
            Kind::Qemu | Kind::NewQemu | Kind::LatestQemu => (
                &[
                    "virtio_pci",
                    "virtio_blk",
                    "virtio_balloon",
                    "virtio_console",
                    "virtio_net",
                    "8021q",
                ],
                qemu::command(kit, setup, &initrd),
            ),
        };
        initrd::write(&initrd, kit, modules, setup.job.shell())?;
        if setup.job.measures_network() {
            initrd::append_network(&initrd, kit)?;
        }
        command.args(&setup.arguments).stdin(Stdio::null());
        if let Some(namespace) = &setup.namespace {
            command = namespace::inside(namespace, &command);
        }
        Self::start(run.name(), command, &run.log("guest")?, Instant::now() + setup.limit)
    }

    /// Starts the program that a guest runs in. Its console is appended to the file `log`.
    pub(crate) fn start(
        name: &str,
        mut command: Command,
        log: &Path,
        until: Instant,
    ) -> Result<Self> {
        // What its program complains of stands among what the guest says.
        let errors = File::options().append(true).open(log).map_err(Error::file("open", log))?;
        command.stdout(Stdio::piped()).stderr(errors);
        let mut process = Process::start(name, command)?;
        let stdout = process.take_stdout().ok_or_else(|| Error::Missing {
            what: "the guest's console".into(),
            how: "this is a bug: its standard output was not piped".into(),
        })?;
        let console = Console::read(stdout, log)?;
        Ok(Self { name: name.to_owned(), process, console, until })
    }

    /// Waits until the guest has printed `key`, and returns its value.
    ///
    /// # Errors
    /// When the guest reports a failure, ends or falls silent first.
    pub fn wait_for(&mut self, key: &str) -> Result<String> {
        let failure = match self.console.wait_for(&[key, FAILED], self.until) {
            Ok(found) if found == key => {
                return Ok(self.console.results().get(key).cloned().unwrap_or_default());
            }
            Ok(_) => format!(
                "its step `{}` failed",
                self.console.results().get(FAILED).map_or("", String::as_str)
            ),
            Err(Silence::TimedOut) => format!("it did not print `{key}` in time"),
            Err(Silence::Closed) => format!("it ended without printing `{key}`"),
        };
        Err(self.error(failure))
    }

    /// Whether the guest has printed `key` already.
    #[must_use]
    pub fn has_said(&self, key: &str) -> bool {
        self.console.results().contains_key(key)
    }

    /// The process that it runs in.
    #[must_use]
    pub fn pid(&self) -> rustix::process::Pid {
        self.process.pid()
    }

    fn error(&self, detail: String) -> Error {
        Error::Guest {
            guest: self.name.clone(),
            detail,
            console: self.console.log().to_path_buf(),
            tail: self.console.tail(),
        }
    }

    /// Writes a line to the guest's console, where its standard input was piped.
    pub(crate) fn tell(&mut self, line: &str) -> Result<()> {
        let written = self.process.take_stdin().map(|mut stdin| writeln!(stdin, "{line}"));
        match written {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(self.error(format!("its console takes no input: {error}"))),
            None => Err(self.error("its console takes no input".into())),
        }
    }

    /// Waits until its program has ended, for so long at most.
    pub(crate) fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        self.process.wait(limit)
    }

    /// Waits for the end of the job and returns all that the guest has said.
    ///
    /// # Errors
    /// As [`Self::wait_for`].
    pub fn finish(mut self) -> Result<Results> {
        self.wait_for(DONE)?;
        // A guest that cannot power off is ended by force; its work is done and checked.
        let _ = self.process.wait(POWER_OFF);
        Ok(self.console.results().clone())
    }
}
