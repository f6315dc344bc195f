//! What can go wrong between a bare machine and a guest that has done its work.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

/// The one error of this crate; each message says what to do next where something can be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something this machine does not have (yet).
    #[error("{what} is missing: {how}")]
    Missing {
        /// The thing, as a user would name it.
        what: String,
        /// How to get it.
        how: String,
    },
    /// An operation on a file or directory.
    #[error("could not {action} {}: {source}", path.display())]
    File {
        /// The verb, as in "could not *read* PATH".
        action: &'static str,
        /// The operand.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program that could not be started at all.
    #[error("could not start {program}: {source}")]
    Start {
        /// The program's path or name.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// A program that ran and failed.
    #[error("`{command}` failed ({status}):\n{output}")]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it printed, its last lines at least.
        output: String,
    },
    /// A package list that this crate does not understand.
    #[error("{context}: {detail}")]
    Packages {
        /// What was being done.
        context: String,
        /// What was found instead of the expected.
        detail: String,
    },
    /// A kernel module that is not what its name says.
    #[error("{} is not a kernel module this program can read: {detail}", path.display())]
    Module {
        /// The module's file.
        path: PathBuf,
        /// What is wrong with it.
        detail: &'static str,
    },
    /// A guest that ended or fell silent before its work was done.
    #[error("{guest}: {detail}; its console is in {}\n{tail}", console.display())]
    Guest {
        /// Which guest.
        guest: String,
        /// What was expected and did not come, or what the guest reported.
        detail: String,
        /// The whole console.
        console: PathBuf,
        /// The console's last lines.
        tail: String,
    },
    /// A command that QEMU's monitor did not obey, or an answer that was not one.
    #[error("QEMU's monitor, `{command}`: {detail}")]
    Monitor {
        /// The command's name.
        command: String,
        /// What is wrong.
        detail: String,
    },
    /// A daemon that did not come up, or whose answer was not one.
    #[error("{daemon}: {detail}")]
    Daemon {
        /// Which daemon.
        daemon: String,
        /// What is wrong.
        detail: String,
    },
}

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// For `map_err` after an operation on a file.
    pub fn file(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::File { action, path, source }
    }

    /// Whether the machine lacks something, as against something having failed.
    #[must_use]
    pub const fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }
}

/// Runs a command to its end and returns what it printed on standard output.
///
/// # Errors
/// When it cannot be started, or ends with another status than 0; both streams are in the message.
pub(crate) fn output_of(command: &mut Command) -> Result<String> {
    let output = command.output().map_err(|source| Error::Start {
        program: command.get_program().to_string_lossy().into_owned(),
        source,
    })?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(Error::Failed {
        command: format!("{command:?}"),
        status: output.status,
        output: last_lines(&format!("{stdout}{stderr}"), 20),
    })
}

/// The last `count` lines of a text.
#[must_use]
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(count)..).unwrap_or_default().join("\n")
}
