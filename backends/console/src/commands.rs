//! Commands of the control socket.
//!
//! | command | what it does |
//! |---|---|
//! | `ports` | lists the ports |
//! | `add-port` | adds a port: `name`, `console`, `backend` (`null` or `file:PATH`) or a descriptor, `log`, `overflow` |
//! | `remove-port` | removes the port `name` |
//! | `attach` | makes the descriptor that comes along the peer of `name`; `read-only`, `take` |
//! | `detach` | sends the peer of `name` away |
//! | `resize` | `cols` and `rows` of the console `name`, or of the first port |

use std::os::fd::OwnedFd;

use framework::device::Outcome;
use rustix::net::sockopt::socket_acceptconn;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use virtio_spec::console::Resize;

use crate::backend::{Backend, Peer, Socket};
use crate::board::Board;
use crate::error::{Error, Result};
use crate::line::Line;
use crate::port_spec::{LOG_MAX, Overflow, PortSpec, Where};

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
            Ok(Outcome { answer: json!({ "ports": board.describe() }), ..Outcome::default() })
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
        "resize" => read("resize", arguments).and_then(|size| resize(board, &size)),
        _ => return None,
    })
}

fn read<T: DeserializeOwned>(command: &'static str, arguments: &Value) -> Result<T> {
    T::deserialize(arguments)
        .map_err(|error| Error::Arguments { command, reason: error.to_string() })
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
    let (backend, peer, place) = match &port.backend {
        None => passed(one(fds)?)?,
        Some(text) => at_run_time(text.parse().map_err(wrong)?)?,
    };
    let spec = PortSpec {
        name: Some(port.name),
        console: Some(port.console),
        backend: place,
        log: port.log,
        overflow: port.overflow.map(|text| text.parse()).transpose().map_err(wrong)?,
    };
    let default = default_overflow(port.console);
    let described = spec.backend.describe();
    let mut line = Line::new(&spec, default, backend, peer);
    line.place = if port.backend.is_some() { described } else { "descriptor".to_owned() };
    let number = board.add(&spec, line, true)?;
    Ok(changed(json!({ "number": number })))
}

/// A console's guest would hang while nobody looks; an agent's is to wait rather than to lose anything.
pub fn default_overflow(console: bool) -> Overflow {
    if console { Overflow::DropOldest } else { Overflow::Block }
}

/// A listening socket is where peers come from; anything else is a peer.
fn passed(fd: OwnedFd) -> Result<(Backend, Option<Peer>, Where)> {
    if socket_acceptconn(&fd).unwrap_or(false) {
        let failed = Error::open("use", "the socket that was passed");
        rustix::io::ioctl_fionbio(&fd, true).map_err(failed)?;
        return Ok((Backend::Socket(Socket::listening(fd)), None, Where::Null));
    }
    Ok((Backend::Fixed, Some(Peer::passed(fd, false)?), Where::Null))
}

/// What can still be opened once the daemon is confined.
fn at_run_time(place: Where) -> Result<(Backend, Option<Peer>, Where)> {
    let peer = match &place {
        Where::Null => Peer::nothing(),
        Where::File(path) => Backend::open_file(path)?,
        Where::Stdio => return Err(Error::AtRunTime { what: "standard input and output" }),
        Where::Pty(_) => return Err(Error::AtRunTime { what: "a new pseudo-terminal" }),
        Where::Unix(_) | Where::Tcp(_) => return Err(Error::AtRunTime { what: "a new socket" }),
    };
    Ok((Backend::Fixed, Some(peer), place))
}

fn bring(board: &mut Board, attach: &Attach, fds: Vec<OwnedFd>) -> Result<Outcome> {
    let number = board.find(&attach.name)?;
    let fd = one(fds)?;
    let peer = Peer::passed(fd, attach.read_only)?;
    board.bring(number, peer, attach.take)?;
    Ok(changed(json!({ "attached": number })))
}

fn resize(board: &mut Board, size: &NewSize) -> Result<Outcome> {
    let number = size.name.as_ref().map_or(Ok(0), |name| board.find(name))?;
    board.table.set_size(number, Resize { cols: size.cols, rows: size.rows });
    let config_changed = number == 0 && !board.multiport;
    let answer = json!({ "port": number, "cols": size.cols, "rows": size.rows });
    Ok(Outcome { config_changed, ..changed(answer) })
}
