//! What a user says of a port: `name=…,console=on,backend=…`.

use std::path::PathBuf;
use std::str::FromStr;

use serde::Serialize;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Overflow {
    /// The guest waits until somebody takes it
    Block,
    /// The oldest goes, and a mark tells how much
    DropOldest,
}

/// The largest `log=`, KiB.
pub const LOG_MAX: u32 = 64 << 10;

impl FromStr for PortSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut spec =
            PortSpec { name: None, console: None, backend: Where::Null, log: 0, overflow: None };
        let mut backend = None;
        for (key, value) in fields(text)? {
            match key.as_str() {
                "name" => spec.name = Some(value),
                "console" => spec.console = Some(on_off(&value)?),
                "backend" => backend = Some(value.parse()?),
                "log" => spec.log = log(&value)?,
                "overflow" => spec.overflow = Some(value.parse()?),
                _ => {
                    return Err(format!(
                        "{key:?} is not known: known are name, console, backend, log and overflow"
                    ));
                }
            }
        }
        spec.backend = backend.ok_or("backend= is missing, such as backend=pty")?;
        Ok(spec)
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

fn log(text: &str) -> Result<u32, String> {
    let size = text.parse().ok().filter(|size| *size <= LOG_MAX);
    size.ok_or_else(|| format!("log={text} is not a number of KiB from 0 to {LOG_MAX}"))
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
                "{text:?} is no back end: say stdio, pty[:LINK], unix:PATH, tcp:ADDR, file:PATH or null"
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
    fn mistakes_say_what_to_do() {
        for (text, complaint) in [
            ("name=a", "backend= is missing"),
            ("backend=serial", "is no back end"),
            ("backend=unix:", "unix:PATH"),
            ("backend=null,console=yes", "neither on nor off"),
            ("backend=null,log=99999999", "number of KiB"),
            ("backend=null,overflow=drop", "neither block nor drop-oldest"),
            ("backend=null,backend=pty", "twice"),
            ("backend=null,size=3", "not known"),
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
