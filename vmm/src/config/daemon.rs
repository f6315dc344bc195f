//! Devices served by a daemon of ours: which keys there are, and how the daemon is told.
//!
//! A key of `--disk`, `--net`, … is an option of the daemon under the same or a plainer name. The
//! tables below are all there is to know about a daemon here; what a value means in full is the
//! daemon's own affair, and it says so if it cannot use one.

use std::os::fd::RawFd;

use super::fields::{Fields, Reader, number};
use super::size::Size;
use super::text::Switch;

/// A kind of device for which there is a daemon.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// The flag without its dashes, and the stem of devices' names.
    pub name: &'static str,
    /// The device's type (virtio 1.4, 5).
    pub virtio_type: u32,
    /// The program.
    pub program: &'static str,
    /// What may be said.
    keys: &'static [&'static [Key]],
    /// One of these has to be said.
    needs: &'static [&'static str],
}

/// A key and its place on the daemon's command line.
#[derive(Debug, PartialEq, Eq)]
pub struct Key {
    name: &'static str,
    option: &'static str,
    value: Value,
}

/// What a key's value is like.
#[derive(Debug, PartialEq, Eq)]
enum Value {
    /// Anything; the daemon judges it.
    Text,
    /// On: the option is there, without a value.
    Switch,
    /// The same, and on where nothing is said of it: what this VMM can do and not every other.
    SwitchOn,
    /// The option says `on` or `off`.
    OnOff,
    /// A number from the first to the second.
    Number(u64, u64),
    /// An amount of bytes.
    Size,
    /// Descriptors that this program was started with, for the daemon to have, such as `5` or `5:6`.
    Fds,
    /// A part of the option's value, as in `--port name=…,backend=…`.
    Part,
}

const fn key(name: &'static str, option: &'static str, value: Value) -> Key {
    Key { name, option, value }
}

const EVERY: &[Key] = &[
    key("control", "control-path", Value::Text),
    key("cpus", "cpus", Value::Text),
    key("engine", "engine", Value::Text),
    key("in-order", "in-order", Value::Switch),
    key("log", "log", Value::Text),
    key("packed", "packed", Value::Switch),
    key("poll-us", "poll-us", Value::Text),
    key("sandbox", "sandbox", Value::OnOff),
    key("workers", "workers", Value::Number(1, 1024)),
];

/// `--disk`.
pub static DISK: Kind = Kind {
    name: "disk",
    virtio_type: 2,
    program: "outrigger-blk",
    keys: &[
        &[
            key("path", "blk-file", Value::Text),
            key("null", "null", Value::Size),
            key("readonly", "read-only", Value::Switch),
            key("cache", "cache", Value::Text),
            key("logical-block-size", "logical-block-size", Value::Number(512, 65536)),
            key("serial", "serial", Value::Text),
            key("discard", "discard", Value::OnOff),
            key("num-queues", "num-queues", Value::Number(1, 1024)),
        ],
        EVERY,
    ],
    needs: &["path", "null"],
};

/// `--net`.
pub static NET: Kind = Kind {
    name: "net",
    virtio_type: 1,
    program: "outrigger-net",
    keys: &[
        &[
            key("tap", "tap", Value::Text),
            key("tap-fd", "tap-fd", Value::Fds),
            key("unix", "unix", Value::Text),
            key("unix-listen", "unix-listen", Value::Text),
            key("null", "null", Value::Switch),
            key("echo", "echo", Value::Switch),
            key("mac", "mac", Value::Text),
            key("mtu", "mtu", Value::Number(68, 65535)),
            key("queue-pairs", "queue-pairs", Value::Number(1, 128)),
            key("no-offloads", "no-offloads", Value::Switch),
            key("ctrl-vq", "ctrl-vq", Value::SwitchOn),
            key("rx-bytes-per-second", "rx-bytes-per-second", Value::Size),
            key("rx-packets-per-second", "rx-packets-per-second", Value::Number(1, u64::MAX)),
            key("tx-bytes-per-second", "tx-bytes-per-second", Value::Size),
            key("tx-packets-per-second", "tx-packets-per-second", Value::Number(1, u64::MAX)),
            key("capture", "capture", Value::Text),
            key("capture-snap", "capture-snap", Value::Number(14, 65535)),
            key("capture-size", "capture-size", Value::Number(1, 1 << 20)),
        ],
        EVERY,
    ],
    needs: &["tap", "tap-fd", "unix", "unix-listen", "null", "echo"],
};

/// `--console`.
pub static CONSOLE: Kind = Kind {
    name: "console",
    virtio_type: 3,
    program: "outrigger-console",
    keys: &[
        &[
            key("backend", "port", Value::Part),
            key("name", "port", Value::Part),
            key("console", "port", Value::Part),
            key("history", "port", Value::Part),
            key("rotate", "port", Value::Part),
            key("keep", "port", Value::Part),
            key("connect", "port", Value::Part),
            key("readers", "port", Value::Part),
            key("remote", "port", Value::Part),
            key("overflow", "port", Value::Part),
            key("max-ports", "max-ports", Value::Number(1, 31)),
            key("no-multiport", "no-multiport", Value::Switch),
            key("port-directory", "port-directory", Value::Text),
            key("resize-order", "resize-order", Value::Text),
        ],
        EVERY,
    ],
    needs: &["backend"],
};

/// `--balloon`.
pub static BALLOON: Kind = Kind {
    name: "balloon",
    virtio_type: 5,
    program: "outrigger-balloon",
    keys: &[
        &[
            key("target", "target", Value::Size),
            key("stats-period", "stats-period", Value::Number(0, u32::MAX as u64)),
            key("no-deflate-on-oom", "no-deflate-on-oom", Value::Switch),
            key("no-reporting", "no-reporting", Value::Switch),
            key("auto", "auto", Value::Switch),
            key("floor", "auto-floor", Value::Size),
            key("ceiling", "auto-ceiling", Value::Size),
            key("rate", "auto-rate", Value::Size),
            key("pressure", "auto-pressure", Value::Text),
        ],
        EVERY,
    ],
    needs: &[],
};

impl Kind {
    fn keys(&'static self) -> impl Iterator<Item = &'static Key> {
        self.keys.iter().copied().flatten()
    }

    /// What may be said of such a daemon.
    #[cfg(test)]
    pub(super) fn key_names(&'static self) -> Vec<&'static str> {
        self.keys().map(|key| key.name).collect()
    }
}

/// A daemon to be started for one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daemon {
    /// What it serves.
    pub kind: &'static Kind,
    /// Another program than the kind's.
    pub program: Option<String>,
    /// How nice it is to other processes, from -20 to 19; like ourselves if not given.
    pub nice: Option<i8>,
    /// The largest queue that it accepts; also what the driver is shown.
    pub queue_size: Option<u16>,
    /// Values that were given, each judged by its key.
    options: Vec<(&'static Key, String)>,
}

impl Daemon {
    /// Takes what is for the daemon out of what the user said.
    pub(super) fn read(kind: &'static Kind, reader: &mut Reader) -> Result<Self, String> {
        let program = reader.text("program");
        let nice = reader.take::<i8>("nice")?;
        if nice.is_some_and(|nice| !(-20..=19).contains(&nice)) {
            return Err("nice: say a number from -20 to 19".to_owned());
        }
        let queue_size = reader.take::<u16>("queue-size")?;
        if queue_size.is_some_and(|size| !size.is_power_of_two() || size > 32768) {
            return Err("queue-size: say a power of two up to 32768".to_owned());
        }
        let mut options = Vec::new();
        for key in kind.keys() {
            if let Some(text) = reader.text(key.name) {
                options.push((key, key.value.read(key.name, &text)?));
            }
        }
        let daemon = Self { kind, program, nice, queue_size, options };
        let needed = kind.needs.is_empty() || kind.needs.iter().any(|name| daemon.says(name));
        if !needed {
            let needs: Vec<_> = kind.needs.iter().map(|name| format!("{name}=")).collect();
            return Err(format!("{} is missing", needs.join(" or ")));
        }
        Ok(daemon)
    }

    /// The program's name or path.
    #[must_use]
    pub fn program(&self) -> &str {
        self.program.as_deref().unwrap_or(self.kind.program)
    }

    /// Whether it talks to our standard input and output.
    #[must_use]
    pub fn uses_stdio(&self) -> bool {
        self.options.iter().any(|(key, value)| key.name == "backend" && value == "stdio")
    }

    /// Descriptors that this program was started with and the daemon is to have.
    #[must_use]
    pub fn inherited_fds(&self) -> Vec<RawFd> {
        let fds = self.options.iter().filter(|(key, _)| key.value == Value::Fds);
        fds.flat_map(|(_, value)| value.split(':')).filter_map(|fd| fd.parse().ok()).collect()
    }

    /// The daemon's command line, without the program.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        let mut parts: Option<(&str, Fields)> = None;
        for (key, value) in &self.options {
            let option = key.option;
            match key.value {
                Value::Switch | Value::SwitchOn if value == "off" => {}
                Value::Switch | Value::SwitchOn => arguments.push(format!("--{option}")),
                Value::Fds => arguments.push(format!("--{option}={}", value.replace(':', ","))),
                Value::Part => {
                    parts.get_or_insert((option, Fields::default())).1.put(key.name, value);
                }
                _ => arguments.push(format!("--{option}={value}")),
            }
        }
        arguments.extend(parts.map(|(option, fields)| format!("--{option}={fields}")));
        let silent =
            self.kind.keys().filter(|key| key.value == Value::SwitchOn && !self.gives(key));
        arguments.extend(silent.map(|key| format!("--{}", key.option)));
        arguments.extend(self.queue_size.map(|size| format!("--queue-size={size}")));
        arguments
    }

    fn gives(&self, key: &Key) -> bool {
        self.options.iter().any(|(given, _)| given.name == key.name)
    }

    fn says(&self, name: &str) -> bool {
        self.options
            .iter()
            .any(|(key, value)| key.name == name && !(key.value == Value::Switch && value == "off"))
    }

    /// As the user would say it.
    pub(super) fn put_into(&self, fields: &mut Fields) {
        for (key, value) in &self.options {
            fields.put(key.name, value);
        }
        fields.put_some("queue-size", self.queue_size);
        fields.put_some("nice", self.nice);
        fields.put_some("program", self.program.as_deref());
    }
}

impl Value {
    /// Judges a value, and gives it its usual form.
    fn read(&self, key: &str, text: &str) -> Result<String, String> {
        match self {
            Self::Text | Self::Part if text.is_empty() => Err(format!("{key}= is empty")),
            Self::Text | Self::Part => Ok(text.to_owned()),
            Self::Switch | Self::SwitchOn | Self::OnOff => form::<Switch>(key, text),
            Self::Size => super::fields::read::<Size>(key, text).map(|Size(b)| b.to_string()),
            Self::Number(least, most) => {
                number(key, text, &(*least..=*most)).map(|number| number.to_string())
            }
            // The standard streams are not to be given away.
            Self::Fds => text
                .split(':')
                .map(|fd| number(key, fd, &(3..=1 << 20)).map(|number| number.to_string()))
                .collect::<Result<Vec<_>, _>>()
                .map(|fds| fds.join(":")),
        }
    }
}

fn form<T: std::str::FromStr<Err = String> + ToString>(
    key: &str,
    text: &str,
) -> Result<String, String> {
    super::fields::read::<T>(key, text).map(|value| value.to_string())
}
