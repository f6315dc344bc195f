//! A guest's console: kept in a file, watched for what the guest has to say to its host.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Instant;

use crate::error::{Error, Result, last_lines};

/// Begins what is meant for the host; `key=value` follows.
const MARK: &str = "OUTRIGGER ";

/// Said by a guest whose job went wrong, with the step.
pub(crate) const FAILED: &str = "failed";

/// Key and value pairs that a guest has printed, the last one of each key.
pub type Results = BTreeMap<String, String>;

/// The reading end of a console.
#[derive(Debug)]
pub(crate) struct Console {
    lines: Receiver<String>,
    log: PathBuf,
    results: Results,
}

/// Why a console has nothing more to say now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Silence {
    /// The time is up.
    TimedOut,
    /// The guest has closed its console, so it has ended.
    Closed,
}

impl Console {
    /// Starts to read a console, and to append it to a file.
    pub(crate) fn read(stream: impl Read + Send + 'static, log: &Path) -> Result<Self> {
        let mut file = File::options().append(true).open(log).map_err(Error::file("open", log))?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while stream.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                // A full disk must not end the guest; the results come by the channel.
                let _ = file.write_all(&line);
                if sender.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                    return;
                }
                line.clear();
            }
        });
        Ok(Self::of(lines, log))
    }

    /// A console whose lines come from elsewhere, and are kept in a file there.
    pub(crate) fn of(lines: Receiver<String>, log: &Path) -> Self {
        Self { lines, log: log.to_path_buf(), results: Results::new() }
    }

    /// Reads on until the guest has printed one of these keys, and returns it.
    pub(crate) fn wait_for(&mut self, keys: &[&str], until: Instant) -> Result<String, Silence> {
        loop {
            let line = self.next(until)?;
            let Some((key, _)) = result(&line) else { continue };
            if keys.contains(&key) {
                return Ok(key.to_owned());
            }
        }
    }

    /// Reads on until a line holds this text, and returns the line.
    pub(crate) fn wait_for_text(&mut self, text: &str, until: Instant) -> Result<String, Silence> {
        loop {
            let line = self.next(until)?;
            if line.contains(text) {
                return Ok(line);
            }
        }
    }

    /// The next line; a result in it is kept.
    pub(crate) fn next(&mut self, until: Instant) -> Result<String, Silence> {
        let left = until.saturating_duration_since(Instant::now());
        let line = self.lines.recv_timeout(left).map_err(|error| match error {
            RecvTimeoutError::Timeout => Silence::TimedOut,
            RecvTimeoutError::Disconnected => Silence::Closed,
        })?;
        if let Some((key, value)) = result(&line) {
            self.results.insert(key.to_owned(), value.to_owned());
        }
        Ok(line)
    }

    /// What the guest has said so far.
    pub(crate) const fn results(&self) -> &Results {
        &self.results
    }

    /// The file that keeps all of it.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// The last lines, for a message.
    pub(crate) fn tail(&self) -> String {
        last_lines(&std::fs::read_to_string(&self.log).unwrap_or_default(), 25)
    }
}

/// The kernel may have left the beginning of a message of its own on the line. Its last one, after
/// which it may go on as if it had not said anything, is the guest's failure.
fn result(line: &str) -> Option<(&str, &str)> {
    if let Some((_, reason)) = line.split_once("Kernel panic") {
        return Some((FAILED, reason));
    }
    line.split_once(MARK)?.1.split_once('=')
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_panic_is_a_failure() {
        let line = "[    8.5] Kernel panic - not syncing: Fatal exception";
        assert_eq!(result(line).unwrap().0, FAILED);
        assert_eq!(result("OUTRIGGER failed=fsck"), Some((FAILED, "fsck")));
    }

    #[test]
    fn results_are_collected_up_to_the_key() {
        let text = "Booting\r\nOUTRIGGER a=1\r\n[ 1.0] OUTRIGGER b=x=y\nOUTRIGGER c=3\n";
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut console = Console::read(text.as_bytes(), log.path()).unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        assert_eq!(console.wait_for(&["b"], until).unwrap(), "b");
        assert_eq!(console.results().get("b").unwrap(), "x=y");
        assert_eq!(console.results().get("c"), None);
        assert_eq!(console.wait_for(&["z"], until), Err(Silence::Closed));
        assert_eq!(console.results().len(), 3);
        assert!(console.tail().contains("Booting"));
    }
}
