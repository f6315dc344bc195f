//! The host's end of the line to `guest-agent` (`guest/agent.rs` tells the protocol).

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ChildStdin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};

/// The line itself, used by everyone who started something.
#[derive(Debug, Clone)]
pub(super) struct Agent {
    input: Arc<Mutex<ChildStdin>>,
    started: Arc<Mutex<HashMap<u32, Started>>>,
    next: Arc<AtomicU32>,
}

/// The agent's side of one command: where its news go.
#[derive(Debug)]
struct Started {
    lines: Sender<String>,
    log: File,
    pid: Sender<u32>,
    status: Arc<Mutex<Option<i32>>>,
}

/// The host's side of one command.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) number: u32,
    /// What it prints; ends when it has ended.
    pub(super) lines: Receiver<String>,
    /// Arrives when it has been started.
    pub(super) pid: Receiver<u32>,
    /// Set before `lines` ends, unless the agent itself is gone.
    pub(super) status: Arc<Mutex<Option<i32>>>,
}

impl Agent {
    /// Begins to listen to an agent.
    pub(super) fn new(input: ChildStdin, output: impl Read + Send + 'static) -> Self {
        let agent = Self {
            input: Arc::new(Mutex::new(input)),
            started: Arc::default(),
            next: Arc::default(),
        };
        let started = Arc::clone(&agent.started);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                hear(&line, &mut locked(&started));
            }
            // Whoever waits learns that nothing more will come.
            locked(&started).clear();
        });
        agent
    }

    /// Has a command started; what it prints is also kept in a file.
    pub(super) fn start(&self, command: &str, log: &Path) -> Result<Command> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let file = File::options().append(true).open(log).map_err(Error::file("open", log))?;
        let (lines, printed) = mpsc::channel();
        let (sender, pid) = mpsc::channel();
        let status = Arc::default();
        let news = Started { lines, log: file, pid: sender, status: Arc::clone(&status) };
        locked(&self.started).insert(number, news);
        self.send(&format!("start {number} {command}"), log)?;
        Ok(Command { number, lines: printed, pid, status })
    }

    /// Writes a line to a command's standard input.
    pub(super) fn input(&self, number: u32, text: &str, log: &Path) -> Result<()> {
        self.send(&format!("input {number} {text}"), log)
    }

    fn send(&self, line: &str, log: &Path) -> Result<()> {
        let mut input = locked(&self.input);
        let sent = writeln!(input, "{line}").and_then(|()| input.flush());
        sent.map_err(|error| Error::Guest {
            guest: "guest-agent".into(),
            detail: format!("it cannot be told anything: {error}"),
            console: PathBuf::from(log),
            tail: String::new(),
        })
    }
}

/// One line from the agent; what is none of its own is noise on the line.
fn hear(line: &str, started: &mut HashMap<u32, Started>) {
    let mut words = line.splitn(3, ' ');
    let number = words.next().and_then(|word| word.parse().ok());
    let (kind, text) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let Some(command) = number.and_then(|number| started.get_mut(&number)) else { return };
    match kind {
        "pid" => {
            // The host may not care.
            let _ = text.parse().map(|pid| command.pid.send(pid));
        }
        "out" | "err" => {
            // A full disk must not end the test; the results come by the channel.
            let _ = writeln!(command.log, "{text}");
            let _ = command.lines.send(text.to_owned());
        }
        "exit" => {
            *locked(&command.status) = text.parse().ok();
            number.and_then(|number| started.remove(&number));
        }
        _ => {}
    }
}

/// No state is left half-changed by a thread that panics here.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
