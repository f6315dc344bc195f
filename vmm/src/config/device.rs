//! virtio devices: what they are, who serves them, and what happens when that one is lost.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::daemon::{Daemon, Kind};
use super::fields::{Fields, Reader};
use super::own::Own;
use super::text::{Switch, words};

/// How long a back-end has for a reply, unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Device types by name (virtio 1.4, 5).
const TYPES: [(&str, u32); 13] = [
    ("net", 1),
    ("blk", 2),
    ("console", 3),
    ("rng", 4),
    ("balloon", 5),
    ("scsi", 8),
    ("gpu", 16),
    ("input", 18),
    ("vsock", 19),
    ("sound", 25),
    ("fs", 26),
    ("i2c", 34),
    ("gpio", 41),
];

/// A virtio device of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// What it is called here: `id=`, or its kind and a number, such as `disk0`. No two are the same.
    pub name: String,
    /// Its type (virtio 1.4, 5).
    pub virtio_type: u32,
    /// Who serves it.
    pub backend: Backend,
    /// What happens when its back-end is lost.
    pub on_loss: OnLoss,
    /// How long the back-end has for each reply.
    pub timeout: Duration,
    /// At most this many queues.
    pub queues: Option<u16>,
    /// The largest queue that the driver may set up.
    pub queue_size: Option<u16>,
    /// Bytes of its configuration space; what its type has if not given.
    pub config_size: Option<u16>,
    /// What the guest is told if the back-end has no configuration space.
    pub own: Own,
}

/// Who serves a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend {
    /// A daemon that is started for it, and ends with us.
    Daemon(Daemon),
    /// A process of its own, reached through a socket.
    Socket {
        /// Where the socket is.
        path: PathBuf,
        /// Whether we listen there and the back-end connects.
        server: bool,
        /// Whether it pins guest memory, such as by VFIO or by buffers registered with io_uring: what
        /// is pinned and given back is another page for the back-end than for the guest.
        pins: bool,
    },
}

impl Backend {
    /// The path of its socket, if that is one at which we listen, or if it is one at which we do not.
    #[must_use]
    pub fn socket(&self, we_listen: bool) -> Option<&Path> {
        match self {
            Self::Socket { path, server, .. } if *server == we_listen => Some(path),
            _ => None,
        }
    }
}

words! {
    /// What happens to a device whose back-end is lost.
    OnLoss {
        /// It waits until the back-end is back.
        #[default]
        Stall = "stall",
        /// The driver is told that the device needs a reset.
        Fail = "fail",
        /// The VM is stopped.
        Stop = "stop",
    }
}

impl Device {
    /// Reads a `--disk`, `--net`, `--console` or `--balloon`; `number` counts those of its kind.
    pub(super) fn served(
        kind: &'static Kind,
        number: usize,
        given: Fields,
    ) -> Result<Self, String> {
        let mut reader = given.reader();
        let daemon = Daemon::read(kind, &mut reader)?;
        let device = Self {
            name: name(&mut reader, kind.name, number)?,
            virtio_type: kind.virtio_type,
            on_loss: reader.take("on-loss")?.unwrap_or_default(),
            timeout: timeout(&mut reader)?,
            queues: None,
            queue_size: daemon.queue_size,
            config_size: None,
            own: Own::default(),
            backend: Backend::Daemon(daemon),
        };
        reader.finish()?;
        Ok(device)
    }

    /// Reads a `--vhost-user`; `number` counts them.
    pub(super) fn attached(number: usize, given: Fields) -> Result<Self, String> {
        let mut reader = given.reader();
        let word = reader.text("type").ok_or("type= is missing: say a name or a number")?;
        let virtio_type = virtio_type(&word)?;
        let path = reader.text("socket").ok_or("socket=PATH is missing")?;
        if path.is_empty() {
            return Err("socket= is empty".to_owned());
        }
        let server = reader.take::<Switch>("server")?.is_some_and(Switch::is_on);
        let pins = reader.take::<Switch>("pins-memory")?.is_some_and(Switch::is_on);
        let queue_size = small(reader.number("queue-size", 1..=32768)?);
        if queue_size.is_some_and(|size| !size.is_power_of_two()) {
            return Err("queue-size: say a power of two up to 32768".to_owned());
        }
        let device = Self {
            name: name(&mut reader, "vhost-user", number)?,
            virtio_type,
            backend: Backend::Socket { path: path.into(), server, pins },
            on_loss: reader.take("on-loss")?.unwrap_or_default(),
            timeout: timeout(&mut reader)?,
            queues: small(reader.number("queues", 1..=1024)?),
            queue_size,
            config_size: small(reader.number("config-size", 0..=256)?),
            own: Own::read(virtio_type, &mut reader)?,
        };
        reader.finish()?;
        Ok(device)
    }

    /// Which flag it is given by, and its value there.
    pub(super) fn flag(&self) -> (&'static str, Fields) {
        let mut fields = Fields::default();
        let flag = match &self.backend {
            Backend::Daemon(daemon) => {
                daemon.put_into(&mut fields);
                daemon.kind.name
            }
            Backend::Socket { path, server, pins } => {
                fields.put("type", type_name(self.virtio_type));
                fields.put("socket", path.display());
                fields.put("server", Switch::from(*server));
                fields.put("pins-memory", Switch::from(*pins));
                fields.put_some("queues", self.queues);
                fields.put_some("queue-size", self.queue_size);
                fields.put_some("config-size", self.config_size);
                self.own.put_into(&mut fields);
                "vhost-user"
            }
        };
        fields.put("id", &self.name);
        fields.put("on-loss", self.on_loss);
        fields.put("timeout", self.timeout.as_secs());
        (flag, fields)
    }

    /// Whether it talks to our standard input and output.
    #[must_use]
    pub fn uses_stdio(&self) -> bool {
        matches!(&self.backend, Backend::Daemon(daemon) if daemon.uses_stdio())
    }
}

/// `id=`, or the kind and the number.
fn name(reader: &mut Reader, kind: &str, number: usize) -> Result<String, String> {
    let Some(name) = reader.text("id") else { return Ok(format!("{kind}{number}")) };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if (1..=32).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(name);
    }
    Err(format!("id: {name:?} is not 1 to 32 letters, digits, dots, dashes and underscores"))
}

fn timeout(reader: &mut Reader) -> Result<Duration, String> {
    let seconds = reader.number("timeout", 1..=3600)?;
    Ok(seconds.map_or(TIMEOUT, Duration::from_secs))
}

/// A number whose range was checked.
fn small(number: Option<u64>) -> Option<u16> {
    number.and_then(|number| u16::try_from(number).ok())
}

fn virtio_type(word: &str) -> Result<u32, String> {
    let named = TYPES.iter().find(|(name, _)| *name == word).map(|(_, id)| *id);
    named.or_else(|| word.parse().ok().filter(|id| (1..=63).contains(id))).ok_or_else(|| {
        let names: Vec<_> = TYPES.iter().map(|(name, _)| *name).collect();
        format!("type: {word:?} is not known: say a number from 1 to 63, or {}", names.join(", "))
    })
}

/// The name of a device type, or its number.
#[must_use]
pub fn type_name(virtio_type: u32) -> String {
    let named = TYPES.iter().find(|(_, id)| *id == virtio_type);
    named.map_or_else(|| virtio_type.to_string(), |(name, _)| (*name).to_owned())
}

#[cfg(test)]
#[path = "device_test.rs"]
mod tests;
