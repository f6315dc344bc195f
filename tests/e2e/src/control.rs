//! A daemon's control socket: one JSON object a line, each way.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

/// An answer comes at once or not at all.
const LIMIT: Duration = Duration::from_secs(5);

/// Sends a command and returns its answer; else says what is wrong with it.
pub(crate) fn ask(socket: &Path, command: &Value) -> Result<Value, String> {
    let line = exchange(socket, command)
        .map_err(|error| format!("its control socket {}: {error}", socket.display()))?;
    let answer: Value = serde_json::from_str(&line)
        .map_err(|error| format!("its answer to {command} is not JSON ({error}): {line}"))?;
    if answer.get("ok") == Some(&Value::Bool(true)) {
        return Ok(answer);
    }
    Err(format!("it refused {command}: {line}"))
}

fn exchange(socket: &Path, command: &Value) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    stream.write_all(format!("{command}\n").as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line)
}
