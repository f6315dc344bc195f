//! QEMU's monitor: JSON objects on a socket, each way.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::error::{Error, Result};

/// An answer comes at once, but for what a busy machine needs.
const LIMIT: Duration = Duration::from_secs(20);
/// How often a socket that is not there yet is tried.
const LOOK: Duration = Duration::from_millis(10);

/// A connection to a monitor.
#[derive(Debug)]
pub(super) struct Monitor {
    stream: BufReader<UnixStream>,
}

impl Monitor {
    /// Connects as soon as QEMU listens.
    pub(super) fn connect(socket: &Path) -> Result<Self> {
        let failed = |error| failure("connect", format!("{}: {error}", socket.display()));
        let until = Instant::now() + LIMIT;
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > until => return Err(failed(error)),
                Err(_) => std::thread::sleep(LOOK),
            }
        };
        stream.set_read_timeout(Some(LIMIT)).map_err(failed)?;
        stream.set_write_timeout(Some(LIMIT)).map_err(failed)?;
        let mut monitor = Self { stream: BufReader::new(stream) };
        monitor.line("greeting")?;
        monitor.run("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    /// Runs a command and returns what it returns.
    pub(super) fn run(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let line = format!("{}\n", json!({ "execute": command, "arguments": arguments }));
        let written = self.stream.get_mut().write_all(line.as_bytes());
        written.map_err(|error| failure(command, error.to_string()))?;
        loop {
            let mut answer = self.line(command)?;
            if let Some(result) = answer.get_mut("return") {
                return Ok(result.take());
            }
            if let Some(error) = answer.get("error") {
                return Err(failure(command, format!("{error}")));
            }
            // Events come at any time, and are of no interest here.
        }
    }

    fn line(&mut self, command: &str) -> Result<Value> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => Err(failure(command, "QEMU has gone".into())),
            Ok(_) => serde_json::from_str(&line)
                .map_err(|error| failure(command, format!("{error} in the answer {line}"))),
            Err(error) => Err(failure(command, error.to_string())),
        }
    }
}

fn failure(command: &str, detail: String) -> Error {
    Error::Monitor { command: command.to_owned(), detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_passed_over_and_errors_are_told() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut monitor = Monitor { stream: BufReader::new(ours) };
        let mut qemu = &theirs;
        qemu.write_all(b"{\"event\":\"STOP\"}\n{\"return\":{\"status\":\"paused\"}}\n").unwrap();
        qemu.write_all(b"{\"error\":{\"class\":\"CommandNotFound\"}}\n").unwrap();
        let status = monitor.run("query-status", &json!({})).unwrap();
        assert_eq!(status["status"], "paused");
        let error = monitor.run("nonsense", &json!({})).unwrap_err().to_string();
        assert!(error.contains("nonsense") && error.contains("CommandNotFound"));
    }
}
