//! Commands of the control socket.
//!
//! | command | what it does |
//! |---|---|
//! | `ports` | lists the ports |
//! | `add-port` | adds a port: `name`, `console`, `backend` (`null` or `file:PATH`) or a descriptor, `log`, `overflow` |
//! | `remove-port` | removes the port `name` |
//! | `attach` | makes the descriptor that comes along the peer of `name`; `take` sends others away; \
//!   `read-only` looks on beside them; `cols` and `rows` of its screen |
//! | `detach` | sends whoever is attached to `name` away |
//! | `reopen` | opens the file of `name` once more, or goes on with the descriptor that comes along |
//! | `resize` | `cols` and `rows` of the console `name`, or of the first port |

use std::os::fd::OwnedFd;

use framework::device::Outcome;
use rustix::net::sockopt::socket_acceptconn;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use virtio_spec::console::Resize;

use crate::backend::{Backend, Directories, LogFile, Opened, Peer, Socket};
use crate::board::Board;
use crate::error::{Error, Result};
use crate::line::Line;
use crate::port_spec::{LOG_MAX, Overflow, PortSpec, Where};
use crate::saved::Origin;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct AddPort {
    name: String,
    #[serde(default)]
    console: bool,
    backend: Option<String>,
    #[serde(default)]
    log: u32,
    overflow: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Name {
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Attach {
    name: String,
    #[serde(default)]
    read_only: bool,
    #[serde(default)]
    take: bool,
    cols: Option<u16>,
    rows: Option<u16>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewSize {
    name: Option<String>,
    cols: u16,
    rows: u16,
}

/// Carries a command out. None: there is no such command.
pub fn run(
    board: &mut Board,
    command: &str,
    arguments: &Value,
    fds: Vec<OwnedFd>,
) -> Option<Result<Outcome>> {
    Some(match command {
        "ports" => {
            let answer = json!({ "ports": board.describe(), "run": run_of_daemon() });
            Ok(Outcome { answer, ..Outcome::default() })
        }
        "add-port" => read("add-port", arguments).and_then(|port| add(board, port, fds)),
        "remove-port" => read("remove-port", arguments).and_then(|Name { name }| {
            let number = board.find(&name)?;
            board.remove(number)?;
            Ok(changed(json!({ "removed": number })))
        }),
        "attach" => read("attach", arguments).and_then(|attach| bring(board, &attach, fds)),
        "detach" => read("detach", arguments).and_then(|Name { name }| {
            let number = board.find(&name)?;
            board.detach(number);
            Ok(changed(json!({ "detached": number })))
        }),
        "reopen" => read("reopen", arguments).and_then(|name| reopen(board, &name, fds)),
        "resize" => read("resize", arguments).and_then(|size| resize(board, &size)),
        _ => return None,
    })
}

fn read<T: DeserializeOwned>(command: &'static str, arguments: &Value) -> Result<T> {
    T::deserialize(arguments)
        .map_err(|error| Error::Arguments { command, reason: error.to_string() })
}

/// By this, who was attached before a daemon was lost can tell the next one from the same.
fn run_of_daemon() -> u32 {
    std::process::id()
}

/// The data side has something to do, and the state is another one.
fn changed(answer: Value) -> Outcome {
    Outcome { answer, state_changed: true, nudge: true, ..Outcome::default() }
}

fn one(mut fds: Vec<OwnedFd>) -> Result<OwnedFd> {
    match (fds.pop(), fds.len()) {
        (Some(fd), 0) => Ok(fd),
        (fd, rest) => Err(Error::Descriptors { count: rest + usize::from(fd.is_some()) }),
    }
}

fn add(board: &mut Board, port: AddPort, fds: Vec<OwnedFd>) -> Result<Outcome> {
    let command = "add-port";
    let wrong = |reason| Error::Arguments { command, reason };
    if port.log > LOG_MAX {
        return Err(wrong(format!("log is at most {LOG_MAX} (KiB)")));
    }
    if !board.multiport && board.table.is_driver_ready() {
        return Err(Error::NoMultiport);
    }
    let mut spec = PortSpec {
        name: Some(port.name),
        console: Some(port.console),
        log: port.log,
        overflow: port.overflow.map(|text| text.parse()).transpose().map_err(wrong)?,
        ..PortSpec::new(Where::Null)
    };
    let opened = match &port.backend {
        None => passed(one(fds)?)?,
        Some(text) => {
            spec.backend = text.parse().map_err(wrong)?;
            at_run_time(&spec, &board.directories)?
        }
    };
    let mut line = Line::new(&spec, default_overflow(port.console), opened);
    if port.backend.is_none() {
        line.place = "descriptor".to_owned();
    }
    let number = board.add(&spec, line, true)?;
    let origin = Origin { backend: port.backend, log: spec.log, overflow: spec.overflow };
    board.table.set_origin(number, origin);
    Ok(changed(json!({ "number": number })))
}

/// A console's guest would hang while nobody looks; an agent's is to wait rather than to lose anything.
pub fn default_overflow(console: bool) -> Overflow {
    if console { Overflow::DropOldest } else { Overflow::Block }
}

/// A listening socket is where peers come from, a file gets all output; anything else is a peer.
fn passed(fd: OwnedFd) -> Result<Opened> {
    if socket_acceptconn(&fd).unwrap_or(false) {
        let failed = Error::open("use", "the socket that was passed");
        rustix::io::ioctl_fionbio(&fd, true).map_err(failed)?;
        return Ok(Backend::Socket(Socket::listening(fd)).into());
    }
    if LogFile::is_file(&fd) {
        return Ok(Opened::file(LogFile::passed(fd)?));
    }
    Ok(Opened { peer: Some(Peer::passed(fd)?), ..Backend::Brought.into() })
}

/// What can still be opened once the daemon is confined.
pub(crate) fn at_run_time(spec: &PortSpec, directories: &Directories) -> Result<Opened> {
    match &spec.backend {
        Where::Null => Ok(Backend::Sink.into()),
        Where::File(path) => Ok(Opened::file(directories.file(path)?)),
        Where::Stdio => Err(Error::AtRunTime { what: "standard input and output" }),
        Where::Pty(_) => Err(Error::AtRunTime { what: "a new pseudo-terminal" }),
        Where::Unix(_) | Where::Tcp(_) => Err(Error::AtRunTime { what: "a new socket" }),
    }
}

fn bring(board: &mut Board, attach: &Attach, fds: Vec<OwnedFd>) -> Result<Outcome> {
    let number = board.find(&attach.name)?;
    let peer = Peer::passed(one(fds)?)?;
    if attach.read_only {
        board.let_look_on(number, peer)?;
    } else {
        board.bring(number, peer, attach.take)?;
    }
    let visit = board.line(number).map_or(0, |line| line.counts.attached);
    let answer = json!({ "attached": number, "visit": visit, "run": run_of_daemon() });
    match (attach.cols, attach.rows) {
        // A terminal that says zero does not know.
        (Some(cols @ 1..), Some(rows @ 1..)) if !attach.read_only => {
            Ok(Outcome { answer, ..set_size(board, number, Resize { cols, rows }) })
        }
        _ => Ok(changed(answer)),
    }
}

fn reopen(board: &mut Board, Name { name }: &Name, fds: Vec<OwnedFd>) -> Result<Outcome> {
    let number = board.find(name)?;
    let file = if fds.is_empty() { None } else { Some(LogFile::passed(one(fds)?)?) };
    board.reopen(number, file)?;
    Ok(Outcome { answer: json!({ "reopened": number }), ..Outcome::default() })
}

fn resize(board: &mut Board, size: &NewSize) -> Result<Outcome> {
    if size.cols == 0 || size.rows == 0 {
        let reason = "cols and rows are from 1 on".to_owned();
        return Err(Error::Arguments { command: "resize", reason });
    }
    let number = size.name.as_ref().map_or(Ok(0), |name| board.find(name))?;
    let answer = json!({ "port": number, "cols": size.cols, "rows": size.rows });
    let size = Resize { cols: size.cols, rows: size.rows };
    Ok(Outcome { answer, ..set_size(board, number, size) })
}

fn set_size(board: &mut Board, number: u16, size: Resize) -> Outcome {
    board.table.set_size(number, size);
    let config_changed = number == 0 && !board.multiport;
    Outcome { config_changed, ..changed(Value::Null) }
}
