//! A command that was started at a [`Site`](super::Site).

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::agent::{Agent, Command, locked};
use crate::console::{Console, FAILED, Results, Silence};
use crate::error::{Error, Result};

/// A command at a site; a guest in it speaks through the command's standard output. It goes on when
/// this is dropped, until the site is.
#[derive(Debug)]
pub struct Running {
    name: String,
    agent: Agent,
    command: Command,
    console: Console,
    pid: u32,
    until: Instant,
    /// The site's own console, for a message when the site is gone.
    ground: PathBuf,
}

impl Running {
    pub(super) fn start(
        agent: &Agent,
        (name, log, ground): (&str, &Path, &Path),
        limit: Duration,
        command: &str,
    ) -> Result<Self> {
        let mut command = agent.start(command, log)?;
        let (_, nothing) = std::sync::mpsc::channel();
        let console = Console::of(std::mem::replace(&mut command.lines, nothing), log);
        let mut running = Self {
            name: name.to_owned(),
            agent: agent.clone(),
            command,
            console,
            pid: 0,
            until: Instant::now() + limit,
            ground: ground.to_path_buf(),
        };
        let pid = running.command.pid.recv_timeout(limit);
        running.pid =
            pid.map_err(|_| running.error(format!("it was not started; {}", running.lost())))?;
        Ok(running)
    }

    /// Its process id at the site, if the command was an `exec`; else its shell's.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until it has printed `OUTRIGGER key=value`, and returns the value.
    ///
    /// # Errors
    /// When it reports a failure, ends or falls silent first.
    pub fn wait_for(&mut self, key: &str) -> Result<String> {
        let detail = match self.console.wait_for(&[key, FAILED], self.until) {
            Ok(found) if found == key => {
                return Ok(self.results().get(key).cloned().unwrap_or_default());
            }
            Ok(_) => {
                let step = self.results().get(FAILED).map_or("", String::as_str);
                format!("its step `{step}` failed")
            }
            Err(silence) => self.silent(silence, &format!("`{key}`")),
        };
        Err(self.error(detail))
    }

    /// Waits until it has printed a line with this text, and returns the line.
    ///
    /// # Errors
    /// When it ends or falls silent first.
    pub fn wait_for_text(&mut self, text: &str) -> Result<String> {
        let found = self.console.wait_for_text(text, self.until);
        found.map_err(|silence| {
            let detail = self.silent(silence, &format!("{text:?}"));
            self.error(detail)
        })
    }

    /// Writes a line to its standard input.
    ///
    /// # Errors
    /// When the site is gone.
    pub fn say(&mut self, line: &str) -> Result<()> {
        self.agent.input(self.command.number, line, self.console.log())
    }

    /// Waits for its end, and returns its exit status; minus the signal if one ended it.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn status(&mut self) -> Result<i32> {
        self.status_with(drop)
    }

    /// The same, and shows each line that it still prints.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn status_with(&mut self, mut show: impl FnMut(String)) -> Result<i32> {
        let silence = loop {
            match self.console.next(self.until) {
                Ok(line) => show(line),
                Err(silence) => break silence,
            }
        };
        if silence == Silence::TimedOut {
            return Err(self.error("it has not ended in time".into()));
        }
        let status = *locked(&self.command.status);
        status.ok_or_else(|| self.error(self.lost()))
    }

    /// Waits for its end, which has to be with status 0, and returns what it has said.
    ///
    /// # Errors
    /// When it does not end in time, or with another status.
    pub fn finish(mut self) -> Result<Results> {
        match self.status()? {
            0 => Ok(self.console.results().clone()),
            status => Err(self.error(format!("it ended with status {status}"))),
        }
    }

    /// What it has said so far, the last value of each key.
    #[must_use]
    pub const fn results(&self) -> &Results {
        self.console.results()
    }

    /// All that it has printed.
    ///
    /// # Errors
    /// When the file with it cannot be read.
    pub fn printed(&self) -> Result<String> {
        let log = self.console.log();
        std::fs::read_to_string(log).map_err(Error::file("read", log))
    }

    fn silent(&self, silence: Silence, what: &str) -> String {
        let status = *locked(&self.command.status);
        match (silence, status) {
            (Silence::TimedOut, _) => format!("it did not print {what} in time"),
            (Silence::Closed, Some(status)) => {
                format!("it ended with status {status} without printing {what}")
            }
            (Silence::Closed, None) => self.lost(),
        }
    }

    fn lost(&self) -> String {
        let console = std::fs::read_to_string(&self.ground).unwrap_or_default();
        let tail = crate::error::last_lines(&console, 10);
        format!("where it ran is gone; there, last of all:\n{tail}\n")
    }

    fn error(&self, detail: String) -> Error {
        Error::Guest {
            guest: self.name.clone(),
            detail,
            console: self.console.log().to_path_buf(),
            tail: self.console.tail(),
        }
    }
}
