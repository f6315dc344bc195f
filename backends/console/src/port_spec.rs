//! What a user says of a port: `name=…,console=on,backend=…`.

use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A port as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSpec {
    /// Its name; chosen from its number if not given.
    pub name: Option<String>,
    /// Whether it is a console; the first port is one if nothing is said.
    pub console: Option<bool>,
    /// Where its other end is.
    pub backend: Where,
    /// How much of the latest output is kept for whoever attaches, KiB.
    pub log: u32,
    /// What happens to output that nobody takes.
    pub overflow: Option<Overflow>,
    /// When a file is rotated.
    pub rotation: Option<Rotation>,
    /// Whether a Unix socket is connected to, instead of listened on.
    pub connect: bool,
    /// How many may be attached at a time.
    pub readers: u8,
    /// Whether a TCP socket may be reached from other machines.
    pub remote: bool,
}

/// When a file is rotated, and what is left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// No file is larger, bytes.
    pub size: u64,
    /// How many older files there are.
    pub keep: u32,
}

/// Where the other end of a port is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Where {
    /// Standard input and output of the daemon.
    Stdio,
    /// A new pseudo-terminal, with a symbolic link to it.
    Pty(Option<PathBuf>),
    /// A Unix socket that is listened on.
    Unix(PathBuf),
    /// A TCP address that is listened on.
    Tcp(String),
    /// A file that output is appended to.
    File(PathBuf),
    /// Nothing: output is thrown away, there is no input.
    Null,
}

/// What happens to output that nobody takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Overflow {
    /// The guest waits until somebody takes it
    Block,
    /// The oldest goes, and a mark tells how much
    DropOldest,
}

/// The largest `log=`, KiB.
pub const LOG_MAX: u32 = 64 << 10;
/// The largest `readers=`.
pub const READERS_MAX: u8 = 8;
/// The largest `keep=`.
const KEEP_MAX: u32 = 1000;
/// The smallest `rotate=`, bytes.
const ROTATE_MIN: u64 = 4096;

const KNOWN: &str =
    "known are name, console, backend, log, overflow, rotate, keep, connect, readers and remote";

impl PortSpec {
    /// A port with this back end, about which nothing else was said.
    pub fn new(backend: Where) -> Self {
        PortSpec {
            name: None,
            console: None,
            backend,
            log: 0,
            overflow: None,
            rotation: None,
            connect: false,
            readers: 1,
            remote: false,
        }
    }

    /// Whether what was said goes together.
    fn check(self, keep: Option<u32>) -> Result<Self, String> {
        let file = matches!(self.backend, Where::File(_));
        let (unix, tcp) =
            (matches!(self.backend, Where::Unix(_)), matches!(self.backend, Where::Tcp(_)));
        let wrong = [
            (self.rotation.is_some() && !file, "rotate= is for backend=file:PATH"),
            (keep.is_some() && self.rotation.is_none(), "keep= goes with rotate=SIZE"),
            (self.connect && !unix, "connect= is for backend=unix:PATH"),
            (self.remote && !tcp, "remote= is for backend=tcp:ADDRESS:PORT"),
            (
                self.readers > 1 && (!(unix || tcp) || self.connect),
                "readers= is for back ends that are connected to: unix:PATH and tcp:PORT",
            ),
            (
                self.readers > 1 && self.overflow == Some(Overflow::Block),
                "several readers cannot have the guest wait for them: leave overflow=block out",
            ),
        ];
        match wrong.iter().find(|(wrong, _)| *wrong) {
            Some((_, why)) => Err((*why).to_owned()),
            None => Ok(self),
        }
    }

    /// What happens to output that nobody takes, if it is `default` elsewhere.
    pub fn overflow(&self, default: Overflow) -> Overflow {
        if self.readers > 1 {
            return Overflow::DropOldest;
        }
        self.overflow.unwrap_or(default)
    }
}

impl FromStr for PortSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut spec = PortSpec::new(Where::Null);
        let (mut backend, mut rotate, mut keep) = (None, None, None);
        for (key, value) in fields(text)? {
            match key.as_str() {
                "name" => spec.name = Some(value),
                "console" => spec.console = Some(on_off(&value)?),
                "backend" => match value.strip_prefix("log:") {
                    Some(size) => (spec.log, backend) = (log(size)?, Some(Where::Null)),
                    None => backend = Some(value.parse()?),
                },
                // The VMM's key, where `log` is another one.
                "log" | "history" => spec.log = log(&value)?,
                "overflow" => spec.overflow = Some(value.parse()?),
                "rotate" => rotate = Some(size(&value)?),
                "keep" => keep = Some(number("keep", &value, KEEP_MAX)?),
                "connect" => spec.connect = on_off(&value)?,
                "readers" => spec.readers = readers(&value)?,
                "remote" => spec.remote = on_off(&value)?,
                _ => return Err(format!("{key:?} is not known: {KNOWN}")),
            }
        }
        spec.backend = backend.ok_or("backend= is missing, such as backend=pty")?;
        spec.rotation = rotate.map(|size| Rotation { size, keep: keep.unwrap_or(1) });
        spec.check(keep)
    }
}

/// Keys and values; a comma in a value is doubled.
fn fields(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut fields: Vec<(String, String)> = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (key, after) =
            rest.split_once('=').ok_or_else(|| format!("{rest:?} has no value: say {rest}=…"))?;
        let mut value = String::new();
        rest = after;
        loop {
            let (part, after) = rest.split_once(',').unwrap_or((rest, ""));
            value.push_str(part);
            rest = after;
            let Some(after) = rest.strip_prefix(',') else { break };
            value.push(',');
            rest = after;
        }
        if fields.iter().any(|(earlier, _)| earlier == key) {
            return Err(format!("{key}= is there twice"));
        }
        fields.push((key.to_owned(), value));
    }
    Ok(fields)
}

fn on_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("{text:?} is neither on nor off")),
    }
}

fn number(key: &str, text: &str, most: u32) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| *number <= most);
    number.ok_or_else(|| format!("{key}={text} is not a number from 0 to {most}"))
}

fn log(text: &str) -> Result<u32, String> {
    number("log", text, LOG_MAX).map_err(|error| error + " (KiB)")
}

fn readers(text: &str) -> Result<u8, String> {
    let count = text.parse().ok().filter(|count| (1..=READERS_MAX).contains(count));
    count.ok_or_else(|| format!("readers={text} is not a number from 1 to {READERS_MAX}"))
}

/// Bytes, or so many KiB, MiB or GiB.
fn size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.char_indices().next_back() {
        Some((end, 'k' | 'K')) => (text.get(..end), 10),
        Some((end, 'm' | 'M')) => (text.get(..end), 20),
        Some((end, 'g' | 'G')) => (text.get(..end), 30),
        _ => (Some(text), 0),
    };
    let bytes = digits.and_then(|digits| digits.parse::<u64>().ok());
    let bytes = bytes.and_then(|count| count.checked_mul(1 << shift));
    bytes
        .filter(|bytes| (ROTATE_MIN..=1 << 50).contains(bytes))
        .ok_or_else(|| format!("rotate={text} is no size from 4K on, such as 10M"))
}

impl FromStr for Overflow {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "block" => Ok(Overflow::Block),
            "drop-oldest" => Ok(Overflow::DropOldest),
            _ => Err(format!("overflow={text} is neither block nor drop-oldest")),
        }
    }
}

impl FromStr for Where {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, rest) = match text.split_once(':') {
            Some((kind, rest)) => (kind, Some(rest).filter(|rest| !rest.is_empty())),
            None => (text, None),
        };
        let needed = |example| rest.ok_or_else(|| format!("{kind} lacks something: say {example}"));
        match (kind, rest) {
            ("stdio", None) => Ok(Where::Stdio),
            ("null", None) => Ok(Where::Null),
            ("pty", link) => Ok(Where::Pty(link.map(PathBuf::from))),
            ("unix", _) => Ok(Where::Unix(needed("unix:PATH")?.into())),
            ("tcp", _) => Ok(Where::Tcp(needed("tcp:PORT or tcp:ADDRESS:PORT")?.to_owned())),
            ("file", _) => Ok(Where::File(needed("file:PATH")?.into())),
            _ => Err(format!(
                "{text:?} is no back end: say stdio, pty[:LINK], unix:PATH, tcp:ADDR, file:PATH, \
                 log:KIB or null"
            )),
        }
    }
}

impl Where {
    /// A short word for it.
    pub fn describe(&self) -> String {
        match self {
            Where::Stdio => "stdio".to_owned(),
            Where::Null => "null".to_owned(),
            Where::Pty(None) => "pty".to_owned(),
            Where::Pty(Some(link)) => format!("pty:{}", link.display()),
            Where::Unix(path) => format!("unix:{}", path.display()),
            Where::Tcp(address) => format!("tcp:{address}"),
            Where::File(path) => format!("file:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_port_is_described_in_one_argument() {
        let spec: PortSpec =
            "name=org.agent,console=off,backend=unix:/run/a,,b.sock,log=64,overflow=block"
                .parse()
                .unwrap();
        assert_eq!(spec.name.as_deref(), Some("org.agent"));
        assert_eq!(spec.backend, Where::Unix("/run/a,b.sock".into()));
        assert_eq!(
            (spec.log, spec.overflow, spec.console),
            (64, Some(Overflow::Block), Some(false))
        );
        assert_eq!(
            "backend=pty:/tmp/p".parse::<PortSpec>().unwrap().backend,
            Where::Pty(Some("/tmp/p".into()))
        );
    }

    #[test]
    fn files_rotate_and_logs_are_kept() {
        let spec: PortSpec = "backend=file:/var/log/vm,rotate=2M,keep=7".parse().unwrap();
        assert_eq!(spec.rotation, Some(Rotation { size: 2 << 20, keep: 7 }));
        let spec: PortSpec = "backend=log:64".parse().unwrap();
        assert_eq!((spec.backend, spec.log), (Where::Null, 64));
        let spec: PortSpec = "backend=unix:a,readers=3".parse().unwrap();
        assert_eq!(spec.overflow(Overflow::Block), Overflow::DropOldest);
    }

    #[test]
    fn mistakes_say_what_to_do() {
        for (text, complaint) in [
            ("name=a", "backend= is missing"),
            ("backend=serial", "is no back end"),
            ("backend=unix:", "unix:PATH"),
            ("backend=null,console=yes", "neither on nor off"),
            ("backend=null,log=99999999", "0 to 65536 (KiB)"),
            ("backend=null,overflow=drop", "neither block nor drop-oldest"),
            ("backend=null,backend=pty", "twice"),
            ("backend=null,size=3", "not known"),
            ("backend=null,rotate=1M", "backend=file:PATH"),
            ("backend=file:x,rotate=1", "from 4K on"),
            ("backend=file:x,keep=3", "goes with rotate="),
            ("backend=pty,connect=on", "backend=unix:PATH"),
            ("backend=pty,readers=2", "unix:PATH and tcp:PORT"),
            ("backend=unix:x,readers=9", "from 1 to 8"),
            ("backend=unix:x,readers=2,overflow=block", "leave overflow=block out"),
            ("backend=unix:x,remote=on", "backend=tcp:ADDRESS:PORT"),
            ("backend", "has no value"),
        ] {
            let error = text.parse::<PortSpec>().unwrap_err();
            assert!(error.contains(complaint), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn paths_with_commas_come_through(path in "[a-z,]{1,20}") {
            let text = format!("name=x,backend=file:{}", path.replace(',', ",,"));
            prop_assert_eq!(text.parse::<PortSpec>().unwrap().backend, Where::File(path.into()));
        }

        #[test]
        fn any_text_is_judged_without_a_panic(text in ".{0,80}") {
            let _ = text.parse::<PortSpec>();
        }
    }
}
