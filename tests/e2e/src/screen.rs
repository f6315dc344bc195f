//! A terminal that tmux keeps: a program runs in it, keys are typed, and what stands on it is read.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::apt::{PackageSet, Root, Suite};
use crate::error::{Error, Result, output_of};
use crate::kit::Kit;

/// tmux, which is a terminal to the programs in it.
pub const TERMINAL: PackageSet = PackageSet {
    name: "terminal",
    purpose: "tmux, a terminal for tests of consoles",
    suites: &[Suite::Own, Suite::Named("trixie")],
    packages: &["tmux"],
    keep: &[],
};

/// How long what is waited for may take to appear.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often the screen is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// A terminal with a program in it, both ended when dropped.
#[derive(Debug)]
pub struct Screen {
    tmux: PathBuf,
    socket: tempfile::TempDir,
}

impl Screen {
    /// A terminal of this size in which a shell runs a command. When the command ends, what it has left
    /// on the screen stays.
    ///
    /// # Errors
    /// When tmux cannot be prepared or started.
    pub fn open(
        (root, kit): (&Root, &Kit),
        (columns, rows): (u16, u16),
        command: &str,
    ) -> Result<Self> {
        let tmux = root.runnable("usr/bin/tmux", kit.packages())?;
        let socket = tempfile::tempdir().map_err(Error::file("make", std::env::temp_dir()))?;
        let screen = Self { tmux, socket };
        let size = [columns, rows].map(|cells| cells.to_string());
        let mut start = screen.command();
        start.args(["set-option", "-g", "remain-on-exit", "on", ";"]);
        start.args(["set-option", "-g", "status", "off", ";"]);
        start.args(["new-session", "-d", "-x", &size[0], "-y", &size[1], command]);
        output_of(&mut start)?;
        Ok(screen)
    }

    /// Types a text.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn write(&self, text: &str) -> Result<()> {
        self.tell(&["send-keys", "-l", text])
    }

    /// Presses keys, by the names that tmux has for them: `Enter`, `C-c`.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn press(&self, keys: &[&str]) -> Result<()> {
        self.tell(&[&["send-keys"], keys].concat())
    }

    /// Types a line, and waits for an answer.
    ///
    /// # Errors
    /// When it does not come.
    pub fn ask(&self, line: &str, answer: &str) -> Result<String> {
        self.write(line)?;
        self.press(&["Enter"])?;
        self.wait_for(answer)
    }

    /// Makes the terminal larger or smaller, as its user would with the window that it is in.
    ///
    /// # Errors
    /// When it is gone.
    pub fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        self.tell(&["resize-window", "-x", &columns.to_string(), "-y", &rows.to_string()])
    }

    /// What stands on it, and what has left it at the top.
    ///
    /// # Errors
    /// When it is gone.
    pub fn contents(&self) -> Result<String> {
        output_of(self.command().args(["capture-pane", "-p", "-J", "-S", "-500"]))
    }

    /// Waits until a text stands on it; gives all that does.
    ///
    /// # Errors
    /// When it does not appear.
    pub fn wait_for(&self, text: &str) -> Result<String> {
        let until = Instant::now() + PATIENCE;
        loop {
            let contents = self.contents()?;
            if contents.contains(text) {
                return Ok(contents);
            }
            if Instant::now() > until {
                return Err(Error::Daemon {
                    daemon: "the program in a terminal".into(),
                    detail: format!("it does not show {text:?}, but:\n{}", contents.trim_end()),
                });
            }
            std::thread::sleep(LOOK);
        }
    }

    fn tell(&self, words: &[&str]) -> Result<()> {
        output_of(self.command().args(words)).map(drop)
    }

    /// tmux with a server of its own; it counts cells, so it has to be told that text is UTF-8.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.tmux);
        command.env("LC_ALL", "C.UTF-8").env_remove("TMUX");
        command.args(["-f", "/dev/null", "-S"]).arg(self.socket.path().join("tmux"));
        command
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Its server may have ended by itself.
        let _ = self.tell(&["kill-server"]);
    }
}
