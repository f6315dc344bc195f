//! A back-end process.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::control;
use crate::error::{Error, Result, last_lines, output_of};
use crate::place::{RunDir, target_dir, workspace_dir};
use crate::process::{self, Process};

/// How long a daemon may take until its socket accepts.
const START: Duration = Duration::from_secs(10);
/// How long it may take to end when asked to.
const STOP: Duration = Duration::from_secs(10);
/// Names the folder with the daemons' programs; set by `cargo xtask`, which has built them.
pub const PROGRAMS: &str = "OUTRIGGER_PROGRAMS";

/// What to start.
#[derive(Debug, Clone)]
pub struct Plan {
    program: PathBuf,
    /// The network namespace to run in.
    namespace: Option<String>,
    name: String,
    arguments: Vec<String>,
    socket: PathBuf,
    control: PathBuf,
    log: PathBuf,
}

impl Plan {
    /// A plan for `outrigger-NAME`, with sockets of its own and the given further arguments.
    ///
    /// # Errors
    /// When its program is not there and cannot be built.
    pub fn new(run: &RunDir, programs: &Programs, name: &str, arguments: &[&str]) -> Result<Self> {
        let program = programs.path(&format!("outrigger-{name}"))?;
        Ok(Self {
            program,
            namespace: None,
            name: format!("outrigger-{name}"),
            arguments: arguments.iter().map(|one| (*one).to_owned()).collect(),
            socket: run.socket(name),
            control: run.socket(&format!("{name}.control")),
            log: run.log(&format!("outrigger-{name}"))?,
        })
    }

    /// In this network namespace instead of the one of this process.
    #[must_use]
    pub fn inside(self, namespace: &str) -> Self {
        Self { namespace: Some(namespace.to_owned()), ..self }
    }

    /// Where it listens for its front-end.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Where it takes commands.
    #[must_use]
    pub fn control(&self) -> &Path {
        &self.control
    }

    /// Starts it and waits until it accepts connections.
    ///
    /// # Errors
    /// When it cannot be started, ends, or does not listen in time; with what it printed.
    pub fn start(&self) -> Result<Daemon> {
        let mut daemon = self.spawn()?;
        let until = Instant::now() + START;
        // A connection that ends at once is nothing to a back-end: front-ends come and go.
        while UnixStream::connect(&self.socket).is_err() {
            if let Some(status) = daemon.process.ended() {
                return Err(daemon.error(&format!("it ended at once ({status})")));
            }
            if Instant::now() > until {
                return Err(daemon.error("it does not accept connections on its socket"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(daemon)
    }

    /// Starts it and returns at once, for a front-end that is already trying to connect.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self) -> Result<Daemon> {
        // A daemon that is started again goes on with the log of the one before it.
        let log = File::options().append(true).open(&self.log);
        let log = log.map_err(Error::file("open", &self.log))?;
        let mut command = match &self.namespace {
            None => process::command(&self.program),
            Some(namespace) => {
                let mut command = process::command("ip");
                command.args(["netns", "exec", namespace]).arg(&self.program);
                command
            }
        };
        command
            .arg(format!("--socket-path={}", self.socket.display()))
            .arg(format!("--control-path={}", self.control.display()))
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        Ok(Daemon { process: Process::start(&self.name, command)?, plan: self.clone() })
    }
}

/// A running back-end. It is ended when dropped.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
    plan: Plan,
}

impl Daemon {
    /// Sends one command to its control socket, as `{"cmd":"stats"}`, and returns the answer.
    ///
    /// # Errors
    /// When there is no answer, or one that does not say `"ok":true`.
    pub fn control(&self, command: &serde_json::Value) -> Result<serde_json::Value> {
        control::ask(&self.plan.control, command).map_err(|detail| self.error(&detail))
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> rustix::process::Pid {
        self.process.pid()
    }

    /// Ends it as a crash would.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Asks it to end, which it has to do with status 0.
    ///
    /// # Errors
    /// When it does not in time, or with another status.
    pub fn stop(mut self) -> Result<()> {
        match self.process.terminate(STOP) {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(self.error(&format!("it ended with {status}"))),
            None => Err(self.error("it did not end when asked to")),
        }
    }

    fn error(&self, detail: &str) -> Error {
        let log = std::fs::read_to_string(&self.plan.log).unwrap_or_default();
        Error::Daemon {
            daemon: self.plan.name.clone(),
            detail: format!("{detail}\n{}", last_lines(&log, 10)),
        }
    }
}

/// Where this workspace's own programs are.
#[derive(Debug, Clone)]
pub struct Programs {
    folder: Option<PathBuf>,
}

impl Programs {
    /// In a folder where they have just been built.
    #[must_use]
    pub const fn built_in(folder: PathBuf) -> Self {
        Self { folder: Some(folder) }
    }

    /// In the folder that [`PROGRAMS`] names, as under `cargo xtask`; else, as under a plain `cargo
    /// test`, they are built when they are used, which takes no time if they are fresh.
    #[must_use]
    pub fn on_demand() -> Self {
        Self { folder: std::env::var_os(PROGRAMS).map(PathBuf::from) }
    }

    /// The path of a program.
    ///
    /// # Errors
    /// When it is not there and cannot be built.
    pub(crate) fn path(&self, name: &str) -> Result<PathBuf> {
        if let Some(folder) = &self.folder {
            let program = folder.join(name);
            return program.exists().then_some(program).ok_or_else(|| Error::Missing {
                what: format!("the program {name} in {}", folder.display()),
                how: format!("build it there, or unset {PROGRAMS}"),
            });
        }
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--quiet", "--package", name]).current_dir(workspace_dir());
        output_of(&mut cargo)?;
        Ok(target_dir().join("debug").join(name))
    }
}
