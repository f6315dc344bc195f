//! `outrigger console NAME`: attaches this terminal to a port of a machine's console.
//!
//! | module | what it is |
//! |---|---|
//! | `port` | finding the port, and asking its daemon for things |
//! | `session` | bytes both ways, until the user leaves or the machine ends |
//! | `keys` | the escape key |
//! | `screen` | this terminal: raw, of a size, and as it was afterwards |
//! | [`guard`] | puts the terminal back even if this process is killed |
//!
//! The daemon is given one end of a socket pair over its control socket, which the machine passes on; the
//! bytes do not go through the machine then. When the daemon is lost and started anew, this attaches again.

pub mod guard;
mod keys;
mod port;
mod screen;
mod session;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use self::keys::Escape;
use self::port::Port;

/// Names the control socket if `--control` does not.
const VARIABLE: &str = "OUTRIGGER_CONTROL";

// No doc comment: clap would show it as the command's description.
#[expect(missing_docs, reason = "a doc comment here would replace the command's own description")]
#[derive(Debug, Args)]
pub struct Console {
    /// A port's name, such as that of --console name=…, or a console device's, such as console0
    #[arg(value_name = "NAME")]
    pub name: String,

    /// The machine's control socket, or an outrigger-console's own; $OUTRIGGER_CONTROL if not given
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,

    /// Look on beside whoever is attached; nothing that is typed gets to the guest
    #[arg(long)]
    pub read_only: bool,

    /// Send away whoever is attached
    #[arg(long, conflicts_with = "read_only")]
    pub take: bool,

    /// The key that, with q after it, leaves: ^] is Ctrl-]
    #[arg(long, value_name = "KEY", default_value_t)]
    pub escape: Escape,
}

/// Why a terminal is not attached, or not any more.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody said which machine.
    #[error(
        "say --control PATH, the path that the machine was started with, or set {VARIABLE} to it"
    )]
    NoPath,
    /// The control socket does not answer.
    #[error("{path}: {reason}", path = path.display())]
    Control {
        /// Its path.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// There is no such port.
    #[error("there is no port or console {name:?}: there are {known}")]
    NoPort {
        /// The name that was asked for.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// The daemon does not let us in.
    #[error("{0}")]
    Refused(String),
    /// A system call failed.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl Error {
    fn system<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System { action, source: source.into() }
    }
}

/// Attaches, and stays until the user leaves.
#[must_use]
pub fn run(arguments: &Console) -> ExitCode {
    match attach(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("outrigger: {error}");
            ExitCode::FAILURE
        }
    }
}

fn attach(arguments: &Console) -> Result<(), Error> {
    let path = arguments.control.clone();
    let path = path.or_else(|| std::env::var_os(VARIABLE).map(PathBuf::from));
    let port = Port::find(&path.ok_or(Error::NoPath)?, &arguments.name)?;
    session::run(&port, arguments)
}
