//! The port: where it is, and what its daemon can be asked for.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::Error;
use crate::ctl;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(12);
/// The word for console devices in a machine's answer to `devices`.
const CONSOLE: &str = "console";

/// A port of a console.
#[derive(Debug)]
pub(super) struct Port {
    daemon: Daemon,
    name: String,
}

/// The way to a daemon.
#[derive(Clone, Debug)]
struct Daemon {
    path: PathBuf,
    /// The device at whose machine the path leads; else to the daemon itself.
    device: Option<String>,
}

/// How one attaches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    pub(super) read_only: bool,
    pub(super) take: bool,
    /// Columns and rows of the screen, if there is one.
    pub(super) size: Option<(u16, u16)>,
}

/// One run of a daemon, as it names itself in its answers; the next one is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DaemonRun(u64);

impl DaemonRun {
    fn of(answer: &Value) -> Self {
        Self(answer.get("run").and_then(Value::as_u64).unwrap_or_default())
    }
}

/// Why an answer is not a good one.
enum Failure {
    /// There is none.
    Silence(io::Error),
    /// It says what is wrong.
    Refusal(String),
}

impl Daemon {
    fn ask(&self, request: &Value, end: Option<&UnixStream>) -> Result<Value, Failure> {
        let fds: Vec<_> = end.into_iter().map(AsFd::as_fd).collect();
        let request = match &self.device {
            Some(device) => &ctl::for_device(device, request),
            None => request,
        };
        let answer = ctl::ask(&self.path, request, &fds, LIMIT).map_err(Failure::Silence)?;
        let answer: Value = serde_json::from_str(&answer)
            .map_err(|error| Failure::Refusal(format!("the answer is not JSON: {error}")))?;
        if answer.get("ok") == Some(&Value::Bool(true)) {
            return Ok(answer);
        }
        let why = answer.get("error").and_then(Value::as_str).unwrap_or("it was refused");
        Err(Failure::Refusal(why.to_owned()))
    }

    fn error(&self, failure: Failure) -> Error {
        let reason = match failure {
            Failure::Silence(error) => ctl::advice(&error),
            Failure::Refusal(reason) => return Error::Refused(reason),
        };
        Error::Control { path: self.path.clone(), reason }
    }

    fn ports(&self) -> Result<Vec<Value>, Failure> {
        Ok(list(&self.ask(&json!({ "cmd": "ports" }), None)?, "ports"))
    }
}

impl Port {
    /// Looks for a port of this name, or for the first one of the device of this name.
    pub(super) fn find(path: &Path, name: &str) -> Result<Self, Error> {
        let mut known = Vec::new();
        for daemon in daemons(path)? {
            // One that does not answer now has no ports that could be attached to.
            let Ok(ports) = daemon.ports() else { continue };
            let mut names = ports.iter().filter_map(|port| text(port, "name"));
            let first = names.next();
            let is_named = daemon.device.as_deref() == Some(name);
            let mut all = first.into_iter().chain(names);
            if let Some(found) = if is_named { first } else { all.clone().find(|it| *it == name) } {
                let name = found.to_owned();
                return Ok(Self { daemon, name });
            }
            known.extend(all.by_ref().map(str::to_owned));
        }
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Err(Error::NoPort { name: name.to_owned(), known })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Attaches; returns our end of the stream, and which run of the daemon has the other.
    pub(super) fn attach(&self, manner: Manner) -> Result<(UnixStream, DaemonRun), Error> {
        let pair = UnixStream::pair();
        let (ours, theirs) = pair.map_err(Error::system("make a socket"))?;
        let mut request = json!({ "cmd": "attach", "name": self.name });
        if let Some(members) = request.as_object_mut() {
            members.insert("read-only".to_owned(), manner.read_only.into());
            members.insert("take".to_owned(), manner.take.into());
            if let Some((cols, rows)) = manner.size.filter(|_| !manner.read_only) {
                members.insert("cols".to_owned(), cols.into());
                members.insert("rows".to_owned(), rows.into());
            }
        }
        let answer = self.daemon.ask(&request, Some(&theirs));
        let answer = answer.map_err(|failure| self.daemon.error(failure))?;
        Ok((ours, DaemonRun::of(&answer)))
    }

    /// The run of the daemon that has this port now. None: there is none now.
    pub(super) fn run(&self) -> Result<Option<DaemonRun>, Error> {
        match self.daemon.ask(&json!({ "cmd": "ports" }), None) {
            Ok(answer) => {
                let ports = list(&answer, "ports");
                let has_it = ports.iter().any(|port| text(port, "name") == Some(&self.name));
                Ok(has_it.then(|| DaemonRun::of(&answer)))
            }
            Err(Failure::Refusal(_)) => Ok(None),
            Err(silence) => Err(self.daemon.error(silence)),
        }
    }

    /// Tells the guest of the screen's size. If that is not to be, the next change may be.
    pub(super) fn resize(&self, (cols, rows): (u16, u16)) {
        let request = json!({ "cmd": "resize", "name": self.name, "cols": cols, "rows": rows });
        let _ = self.daemon.ask(&request, None);
    }
}

/// The console daemons behind a control socket: that of a machine, or of one of them.
fn daemons(path: &Path) -> Result<Vec<Daemon>, Error> {
    let itself = Daemon { path: path.to_owned(), device: None };
    match itself.ask(&json!({ "cmd": "devices" }), None) {
        Ok(answer) => Ok(list(&answer, "devices")
            .iter()
            .filter(|device| text(device, "device_type") == Some(CONSOLE))
            .filter_map(|device| text(device, "name"))
            .map(|name| Daemon { device: Some(name.to_owned()), ..itself.clone() })
            .collect()),
        // It knows ports, then.
        Err(Failure::Refusal(_)) => Ok(vec![itself]),
        Err(silence) => Err(itself.error(silence)),
    }
}

fn list(answer: &Value, key: &str) -> Vec<Value> {
    answer.get(key).and_then(Value::as_array).cloned().unwrap_or_default()
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}
