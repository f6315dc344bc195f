//! The back-ends that serve a console, and where the host's ends of their lines are.

use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use e2e::RunDir;

use super::line::Line;
use crate::process::Daemon;

/// How long a daemon may take to start, or to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// A back-end.
pub(super) struct Server {
    pub(super) daemon: Daemon,
    /// Where it listens for its front-end.
    pub(super) socket: PathBuf,
    /// How the terminal is reached, and the port.
    pub(super) terminal: End,
    pub(super) port: Option<End>,
}

/// Where the host's end of a line is.
pub(super) enum End {
    Unix(PathBuf),
    Tcp(u16),
    Connected(UnixStream),
}

/// What kind of ends a back-end is to have: the one that its peers have in the same guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    Unix,
    Tcp,
}

impl End {
    /// The line itself.
    pub(super) fn line(self) -> Result<Line> {
        match self {
            Self::Unix(path) => Line::unix(&path),
            Self::Tcp(port) => Line::tcp(port),
            Self::Connected(stream) => Line::of_unix(stream),
        }
    }
}

impl Server {
    /// outrigger-console with a console and a port.
    pub(super) fn outrigger(run: &RunDir, cpu: usize, ends: Ends) -> Result<Self> {
        let (mut backends, mut found) = (Vec::new(), Vec::new());
        for name in ["con", "bulk"] {
            let end = match ends {
                Ends::Unix => End::Unix(run.socket(name)),
                Ends::Tcp => End::Tcp(free_port()?),
            };
            backends.push(match &end {
                End::Tcp(port) => format!("--port=name={name},overflow=block,backend=tcp:{port}"),
                _ => format!(
                    "--port=name={name},overflow=block,backend=unix:{}",
                    run.socket(name).display()
                ),
            });
            found.push(end);
        }
        let program = std::env::current_exe()?.with_file_name("outrigger-console");
        let socket = run.socket("console");
        let mut command = Command::new(program);
        command.arg("--max-ports=3").arg(format!("--socket-path={}", socket.display()));
        command.args(backends);
        let daemon = Daemon::start(cpu, &mut command, &socket, &run.log("daemon")?, PATIENCE)?;
        let port = found.pop();
        let terminal = found.pop().unwrap_or(End::Tcp(0));
        Ok(Self { daemon, socket, terminal, port })
    }

    /// The crate's, which has a console alone.
    pub(super) fn peer(run: &RunDir, cpu: usize, program: &Path) -> Result<Self> {
        let port = free_port()?;
        // It adds the number of the guest.
        let (path, socket) = (run.socket("console"), run.socket("console0"));
        let mut command = Command::new(program);
        command.args(["--backend=network", &format!("--tcp-port={port}")]);
        command.arg(format!("--socket-path={}", path.display()));
        let daemon = Daemon::start(cpu, &mut command, &socket, &run.log("daemon")?, PATIENCE)?;
        Ok(Self { daemon, socket, terminal: End::Tcp(port), port: None })
    }
}

/// A TCP port of this machine that nobody has now.
pub(super) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
