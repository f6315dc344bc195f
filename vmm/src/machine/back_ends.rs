//! The virtio devices: a front-end each, connected to a daemon of ours or to somebody else's back-end.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use front_end::{FrontEnd, Hooks, Limits, Listen, Policy, Region, Socket, Source};
use supervisor::{Bell, Commands, Link};
use virtio_spec::DeviceType;

use super::error::{Error, Result};
use super::lifecycle::Event;
use super::mailbox::Mailbox;
use super::outcome::Outcome;
use crate::config::device::{Backend, Device, OnLoss};
use crate::control::socket_file::SocketFile;
use crate::sandbox::{Sandbox, ThreadKind};

/// How many times the limit for a reply a back-end may take to be there at the start: services may be started
/// at the same time as we are.
const START_LIMITS: u32 = 2;

/// How often is looked, while a back-end is waited for, whether its daemon has ended or somebody gave up.
const LOOK_AROUND: Duration = Duration::from_millis(50);

/// How long a daemon that was killed may take to die. One that waits for a disk takes its time.
const DEATH_LIMIT: Duration = Duration::from_secs(5);

/// Entries of a queue where nobody asked for another number.
const QUEUE_SIZE: u16 = 256;

/// How long a daemon that was just started may take to its first answer, at least.
const FIRST_ANSWER: Duration = Duration::from_secs(20);

/// The machine's virtio devices, in their order on the bus.
pub struct BackEnds {
    devices: Vec<Attached>,
}

struct Attached {
    name: String,
    front_end: Arc<FrontEnd>,
    /// Shared with the source on the device's thread: what is known of a daemon of ours.
    link: Option<SharedLink>,
    /// What kind of daemon of ours that is, and where its commands go.
    commands: Option<(&'static str, Commands)>,
    /// Tells it of the terminal's size, if it has ours.
    bell: Option<Bell>,
    /// How long the first connection may take; a back-end that comes to us takes its time.
    limit: Option<Duration>,
    /// Where a back-end that comes to us finds us.
    _file: Option<SocketFile>,
}

type SharedLink = Arc<Mutex<Link>>;

impl BackEnds {
    /// Starts to connect all devices; does not wait for any. `links` are those of the daemons, in the order
    /// of the devices that have one.
    ///
    /// # Errors
    /// When a socket to listen on cannot be made, or there is no thread for a device.
    pub fn attach(
        devices: &[Device],
        links: Vec<Link>,
        memory: &[Region],
        mailbox: &Mailbox,
        sandbox: &Arc<Sandbox>,
    ) -> Result<Self> {
        let mut links = links.into_iter();
        let mut attached = Vec::new();
        for device in devices {
            let hooks = Hooks {
                thread_started: confine(&device.name, sandbox, mailbox),
                lost: report_loss(&device.name, mailbox),
            };
            let (kind, link) = match &device.backend {
                Backend::Daemon(daemon) => (daemon.kind.name, links.next()),
                Backend::Socket { .. } => ("", None),
            };
            let commands = link.as_ref().map(|link| (kind, link.commands()));
            let bell = link.as_ref().filter(|_| device.uses_stdio()).map(Link::bell);
            let link = link.map(|link| Arc::new(Mutex::new(link)));
            let mut file = None;
            let source = source(device, link.clone(), &mut file)?;
            let front_end = FrontEnd::spawn(config(device), source, memory.to_vec(), hooks)?;
            let comes_to_us = matches!(device.backend, Backend::Socket { server: true, .. });
            let limit = (!comes_to_us).then_some(device.timeout * START_LIMITS);
            let name = device.name.clone();
            attached.push(Attached { name, front_end, link, commands, bell, limit, _file: file });
        }
        Ok(Self { devices: attached })
    }

    /// Waits until everything is known of every device, or something came up.
    ///
    /// # Errors
    /// When a back-end does not come, or is not what it should be; and that of `interrupted`.
    pub fn wait_until_ready(&self, interrupted: &dyn Fn() -> Result<()>) -> Result<()> {
        let start = Instant::now();
        self.devices.iter().try_for_each(|device| device.wait_until_ready(start, interrupted))
    }

    /// The devices as PCI functions see them.
    #[must_use]
    pub fn devices(&self) -> Vec<Arc<dyn virtio_pci::Device>> {
        let device = |device: &Attached| device.front_end.clone() as Arc<dyn virtio_pci::Device>;
        self.devices.iter().map(device).collect()
    }

    /// The front-ends, to ask them for reports.
    pub fn front_ends(&self) -> impl Iterator<Item = &Arc<FrontEnd>> {
        self.devices.iter().map(|device| &device.front_end)
    }

    /// Where commands for the daemons of ours go: device, kind, and the way.
    pub fn commands(&self) -> impl Iterator<Item = (&str, &'static str, Commands)> {
        self.devices.iter().filter_map(|device| {
            let (kind, commands) = device.commands.clone()?;
            Some((device.name.as_str(), kind, commands))
        })
    }

    /// What is to be told of our terminal's size.
    pub fn bell(&self) -> Option<Bell> {
        self.devices.iter().find_map(|device| device.bell.clone())
    }

    /// Stops all rings and closes all connections, at the same time. Returns who was late; who is in a `hurry`
    /// does not wait.
    #[must_use]
    pub fn stop(&self, deadline: Instant, hurry: &dyn Fn() -> bool) -> Vec<&str> {
        self.front_ends().for_each(|front_end| front_end.begin_stop());
        let late = |device: &&Attached| !device.stop(deadline, hurry);
        self.devices.iter().filter(late).map(|device| device.name.as_str()).collect()
    }
}

impl Attached {
    fn wait_until_ready(&self, start: Instant, interrupted: &dyn Fn() -> Result<()>) -> Result<()> {
        let end = self.limit.map(|limit| start + limit);
        loop {
            let look_around = Instant::now() + LOOK_AROUND;
            let until = end.map_or(look_around, |end| end.min(look_around));
            match self.front_end.wait_until_ready(until) {
                Ok(()) => return Ok(()),
                Err(error) if end.is_some_and(|end| Instant::now() >= end) => {
                    return Err(error.into());
                }
                Err(_) => interrupted()?,
            }
            self.check_daemon()?;
        }
    }

    fn stop(&self, deadline: Instant, hurry: &dyn Fn() -> bool) -> bool {
        loop {
            let look_around = deadline.min(Instant::now() + LOOK_AROUND);
            if self.front_end.stop(look_around) {
                return true;
            }
            if Instant::now() >= deadline || hurry() {
                return false;
            }
        }
    }

    /// A daemon that ends before it was ever connected would do so again.
    fn check_daemon(&self) -> Result<()> {
        let last_words = self.link.as_ref().and_then(|link| lock(link).last_words());
        match last_words {
            Some(status) => Err(Error::Daemon { device: self.name.clone(), status }),
            None => Ok(()),
        }
    }
}

fn lock(link: &SharedLink) -> std::sync::MutexGuard<'_, Link> {
    link.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a device's thread does first. One that cannot be confined must not serve.
fn confine(name: &str, sandbox: &Arc<Sandbox>, mailbox: &Mailbox) -> Arc<dyn Fn() + Send + Sync> {
    let (name, sandbox, mailbox) = (name.to_owned(), sandbox.clone(), mailbox.clone());
    Arc::new(move || {
        if let Err(error) = sandbox.enter(ThreadKind::FrontEnd) {
            let why = format!("the thread of device {name}: {error}");
            mailbox.post(Event::Fatal(Outcome::Failed(why)));
        }
    })
}

fn report_loss(name: &str, mailbox: &Mailbox) -> Arc<dyn Fn(&str) + Send + Sync> {
    let (name, mailbox) = (name.to_owned(), mailbox.clone());
    Arc::new(move |reason: &str| {
        let (device, reason) = (name.clone(), reason.to_owned());
        mailbox.post(Event::Fatal(Outcome::DeviceLost { device, reason }));
    })
}

fn config(device: &Device) -> front_end::Config {
    let mut config = front_end::Config::new(device.name.clone(), DeviceType(device.virtio_type));
    config.queues = device.queues;
    config.queue_size = device.queue_size.unwrap_or(QUEUE_SIZE);
    config.config_size = device.config_size.map(u32::from);
    config.mac = device.own.mac.map(|mac| mac.0);
    config.mtu = device.own.mtu;
    config.own_config = device.own.config.as_ref().map(|own| own.0.clone()).unwrap_or_default();
    let first = match device.backend {
        Backend::Daemon(_) => device.timeout.max(FIRST_ANSWER),
        Backend::Socket { .. } => device.timeout,
    };
    config.limits = Limits { first, reply: device.timeout, ..Limits::default() };
    config.policy = match device.on_loss {
        OnLoss::Stall => Policy::Stall,
        OnLoss::Fail => Policy::Fail,
        OnLoss::Stop => Policy::Stop,
    };
    config
}

/// Where connections come from. One that waits for them has a `file` too.
fn source(
    device: &Device,
    link: Option<SharedLink>,
    file: &mut Option<SocketFile>,
) -> Result<Box<dyn Source>> {
    Ok(match (&device.backend, link) {
        (Backend::Daemon(daemon), link) => {
            Box::new(Supervised { link, program: daemon.program().to_owned() })
        }
        (Backend::Socket { path, server: true, .. }, _) => {
            let (listener, made) = SocketFile::listen(path)?;
            *file = Some(made);
            Box::new(Listen::on(listener, path))
        }
        (Backend::Socket { path, server: false, .. }, _) => Box::new(Socket::new(path)),
    })
}

/// A daemon of ours, reached through the supervisor.
struct Supervised {
    link: Option<SharedLink>,
    program: String,
}

impl Source for Supervised {
    fn connect(&mut self, deadline: Instant) -> io::Result<OwnedFd> {
        let link = self.link.as_ref().ok_or(io::ErrorKind::NotFound)?;
        lock(link).connect(deadline).map_err(io::Error::other)
    }

    fn give_up(&mut self) -> bool {
        let Some(link) = &self.link else { return false };
        if !lock(link).kill(Instant::now() + DEATH_LIMIT) {
            tracing::warn!(program = self.program, "it was killed and does not die");
        }
        true
    }

    fn describe(&self) -> String {
        self.program.clone()
    }
}

/// The commands of the devices that have daemons of ours, in their order.
///
/// # Errors
/// When there is no such program.
pub fn daemons(devices: &[Device]) -> Result<Vec<supervisor::Daemon>> {
    let command = |device: &Device| match &device.backend {
        Backend::Socket { .. } => None,
        Backend::Daemon(daemon) => {
            Some(supervisor::find(daemon.program()).map(|program| supervisor::Daemon {
                name: device.name.clone(),
                program,
                arguments: daemon.arguments().into_iter().map(Into::into).collect(),
                keeps_state: true,
                takes_commands: true,
                uses_stdio: daemon.uses_stdio(),
                inherited_fds: daemon.inherited_fds(),
                nice: daemon.nice,
            }))
        }
    };
    Ok(devices.iter().filter_map(command).collect::<Result<_, _>>()?)
}
