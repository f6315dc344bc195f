//! What machine is to run: from flags and a file to checked, plain data, and back.
//!
//! ```text
//! flags ──┐
//!         ├─▶ Settings ──▶ Config ──▶ Settings ──▶ a file that says the same (--dry-run)
//! file ───┘   (as said)   (checked)
//! ```
//! [`settings`] lists what may be said; everything else is one kind of value each.

pub mod cli;
pub mod cpus;
pub mod daemon;
pub mod device;
pub mod fields;
pub mod memory;
pub mod own;
pub mod serial;
pub mod settings;
pub mod size;
pub mod text;
mod topology;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use virtio_spec::DeviceType;

use self::cpus::{Affinity, CpuList, Cpus};
use self::daemon::{BALLOON, CONSOLE, DISK, Kind, NET};
use self::device::{Backend, Device};
use self::fields::Fields;
use self::memory::{Memory, Node, check_nodes};
use self::serial::SerialPort;
use self::settings::{OnPanic, OnTripleFault, Settings};
use self::text::Switch;

/// More than any hypervisor can do; KVM says how many it can.
const CPUS_MAX: u16 = 4096;
const CMDLINE: &str = "console=ttyS0";
const GRACE_SECONDS: u16 = 30;

/// A machine, checked as far as it can be without building it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The guest's kernel.
    pub kernel: PathBuf,
    /// The initial RAM disk.
    pub initrd: Option<PathBuf>,
    /// The kernel's command line.
    pub cmdline: String,
    /// The guest's CPUs.
    pub cpus: Cpus,
    /// The guest's memory.
    pub memory: Memory,
    /// Where the serial port leads.
    pub serial: SerialPort,
    /// The control socket.
    pub control: Option<PathBuf>,
    /// The virtio devices, in their order on the bus.
    pub devices: Vec<Device>,
    /// From the power button to the hard stop.
    pub grace: Duration,
    /// After a triple fault.
    pub on_triple_fault: OnTripleFault,
    /// After a panic of the guest.
    pub on_panic: OnPanic,
    /// Whether to give up rights.
    pub sandbox: Switch,
    /// How much to log.
    pub log: Option<String>,
}

/// Why there is no [`Config`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("--config {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML, or has something in it that is not known.
    #[error("--config {path}: {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where, and what would be right.
        source: Box<toml::de::Error>,
    },
    /// A value does not fit.
    #[error("--{setting}: {reason}")]
    Setting {
        /// The flag, and its value if it is a list.
        setting: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
}

impl Config {
    /// Checks what was said, and fills in what was not.
    ///
    /// # Errors
    /// [`Error::Setting`] for the first value that does not fit.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let kernel = settings.kernel.clone();
        let kernel =
            kernel.ok_or_else(|| wrong("kernel PATH", "say which kernel the guest boots"))?;
        let devices = devices(&settings)?;
        let count = settings.cpus.unwrap_or(1);
        if !(1..=CPUS_MAX).contains(&count) {
            return Err(wrong("cpus", format!("{count} is not a number from 1 to {CPUS_MAX}")));
        }
        let topology =
            topology::read(settings.topology, count).map_err(|reason| wrong("topology", reason))?;
        let affinity = Affinity::resolve(&settings.cpu_affinity, count)
            .map_err(|reason| wrong("cpu-affinity", reason))?;
        let nodes = settings.numa.into_iter().map(|given| {
            let setting = format!("numa {given}");
            Node::read(given).map_err(|reason| wrong(setting, reason))
        });
        let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
        check_nodes(&nodes, count).map_err(|reason| wrong("numa", reason))?;
        let memory = Memory::resolve(settings.memory.unwrap_or_default(), nodes)
            .map_err(|reason| wrong("memory", reason))?;
        let config = Self {
            kernel,
            initrd: settings.initrd,
            cmdline: settings.cmdline.unwrap_or_else(|| CMDLINE.to_owned()),
            cpus: Cpus {
                count,
                topology,
                affinity,
                scheduling: settings.cpu_sched.unwrap_or_default(),
            },
            memory,
            serial: settings.serial.unwrap_or_default(),
            control: settings.control,
            devices,
            grace: Duration::from_secs(settings.grace.unwrap_or(GRACE_SECONDS).into()),
            on_triple_fault: settings.on_triple_fault.unwrap_or_default(),
            on_panic: settings.on_panic.unwrap_or_default(),
            sandbox: settings.sandbox.unwrap_or_default(),
            log: settings.log,
        };
        config.check_terminal()?;
        config.check_balloon()?;
        Ok(config)
    }

    /// Memory that is pinned cannot be given back.
    fn check_balloon(&self) -> Result<(), Error> {
        let is_balloon = |device: &&Device| DeviceType(device.virtio_type) == DeviceType::BALLOON;
        let Some(balloon) = self.devices.iter().find(is_balloon) else { return Ok(()) };
        let refused = |flag, who: &str| {
            let why = format!("{who} keeps what {} is to give back", balloon.name);
            Err(wrong(flag, format!("{why}: leave one of them out")))
        };
        if self.memory.lock {
            return refused("memory", "lock=on");
        }
        let pins = |device: &&Device| matches!(device.backend, Backend::Socket { pins: true, .. });
        match self.devices.iter().find(pins) {
            Some(device) => refused("vhost-user", &format!("pins-memory=on of {}", device.name)),
            None => Ok(()),
        }
    }

    /// The terminal has one user at most.
    fn check_terminal(&self) -> Result<(), Error> {
        let mut users: Vec<_> = self.devices.iter().filter(|device| device.uses_stdio()).collect();
        let serial = self.serial == SerialPort::Stdio;
        match users.pop() {
            Some(console) if serial || !users.is_empty() => Err(wrong(
                format!("console (id={})", console.name),
                "standard input and output are taken: say --serial=null, or another backend=",
            )),
            _ => Ok(()),
        }
    }

    /// Sockets and links that the machine makes when it starts and removes at its end.
    pub fn files_made(&self) -> impl Iterator<Item = &Path> {
        let serial = match &self.serial {
            SerialPort::Pty(link) => link.as_deref(),
            SerialPort::Socket(path) => Some(path.as_path()),
            SerialPort::Stdio | SerialPort::File(_) | SerialPort::Null => None,
        };
        let listening = self.devices.iter().filter_map(|device| device.backend.socket(true));
        self.control.as_deref().into_iter().chain(serial).chain(listening)
    }

    /// What a user would say to get this machine.
    #[must_use]
    pub fn settings(&self) -> Settings {
        let affinity = self.cpus.affinity.iter().map(|(vcpu, cpus)| Affinity::Each {
            vcpus: CpuList::single(*vcpu),
            cpus: cpus.clone(),
        });
        let mut settings = Settings {
            kernel: Some(self.kernel.clone()),
            initrd: self.initrd.clone(),
            cmdline: Some(self.cmdline.clone()),
            cpus: Some(self.cpus.count),
            topology: Some(topology::fields(&self.cpus.topology)),
            cpu_affinity: affinity.collect(),
            cpu_sched: Some(self.cpus.scheduling),
            memory: Some(self.memory.fields()),
            numa: self.memory.nodes.iter().map(Node::fields).collect(),
            serial: Some(self.serial.clone()),
            control: self.control.clone(),
            grace: u16::try_from(self.grace.as_secs()).ok(),
            on_triple_fault: Some(self.on_triple_fault),
            on_panic: Some(self.on_panic),
            sandbox: Some(self.sandbox),
            log: self.log.clone(),
            ..Settings::default()
        };
        for device in &self.devices {
            let (flag, fields) = device.flag();
            match flag {
                "disk" => settings.disk.push(fields),
                "net" => settings.net.push(fields),
                "console" => settings.console.push(fields),
                "balloon" => settings.balloon.push(fields),
                _ => settings.vhost_user.push(fields),
            }
        }
        settings
    }

    /// The machine as a file that `--config` takes.
    ///
    /// # Errors
    /// If a path is not UTF-8, which such a file has to be.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(&self.settings())
    }
}

fn wrong(setting: impl Into<String>, reason: impl Into<String>) -> Error {
    Error::Setting { setting: setting.into(), reason: reason.into() }
}

/// In the order of the bus: disks first, so that the root disk has the first place whatever else there is.
fn devices(settings: &Settings) -> Result<Vec<Device>, Error> {
    let kinds: [(&'static Kind, &[Fields]); 4] = [
        (&DISK, &settings.disk),
        (&NET, &settings.net),
        (&CONSOLE, &settings.console),
        (&BALLOON, &settings.balloon),
    ];
    let mut devices = Vec::new();
    for (kind, given) in kinds {
        for (number, fields) in given.iter().enumerate() {
            let device = Device::served(kind, number, fields.clone());
            devices
                .push(device.map_err(|reason| wrong(format!("{} {fields}", kind.name), reason))?);
        }
    }
    for (number, fields) in settings.vhost_user.iter().enumerate() {
        let device = Device::attached(number, fields.clone());
        devices.push(device.map_err(|reason| wrong(format!("vhost-user {fields}"), reason))?);
    }
    let mut names = BTreeSet::new();
    match devices.iter().find(|device| !names.insert(&device.name)) {
        Some(twice) => {
            let (flag, _) = twice.flag();
            Err(wrong(flag, format!("two devices are called {}: say another id=", twice.name)))
        }
        None => Ok(devices),
    }
}

#[cfg(test)]
#[path = "config_test.rs"]
mod tests;
