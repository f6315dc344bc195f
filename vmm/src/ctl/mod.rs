//! `outrigger ctl PATH COMMAND`: asks a running machine through its control socket.
#![expect(clippy::print_stdout, reason = "the answer is this command's output")]

mod readable;

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use clap::builder::PossibleValuesParser;
use serde_json::{Value, json};

use crate::control::Request;

/// The longest answer that is read.
const ANSWER_MAX: u64 = 16 << 20;

// No doc comment: clap would show it as the command's description.
#[expect(missing_docs, reason = "a doc comment here would replace the command's own description")]
#[derive(Debug, Args)]
pub struct Ctl {
    /// The machine's control socket (--control)
    #[arg(value_name = "PATH")]
    pub path: PathBuf,

    /// What to do
    ///
    /// status: what state it is in. pause, resume: stop its CPUs and devices, and let them go on; a pause is
    /// answered when nobody writes to its disks any more. power-button: ask the guest to shut down. reset: start it anew, without asking the guest. stop: end it, without asking the
    /// guest. stats: what it has counted. devices: the state of each device.
    #[arg(value_name = "COMMAND", value_parser = commands(), hide_possible_values = false)]
    pub command: String,

    /// Print the answer as it came, one JSON object
    #[arg(long)]
    pub json: bool,

    /// Seconds to wait for the answer
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub timeout: u32,
}

fn commands() -> PossibleValuesParser {
    PossibleValuesParser::new(Request::ALL.map(|(name, _)| name))
}

/// Asks, prints the answer, and says with 0 that it was good.
#[must_use]
pub fn run(arguments: &Ctl) -> ExitCode {
    let answer = match ask(arguments) {
        Ok(answer) => answer,
        Err(error) => {
            eprintln!("outrigger: {}: {}", arguments.path.display(), advice(&error));
            return ExitCode::FAILURE;
        }
    };
    match print(&answer, arguments.json) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("outrigger: the answer is not JSON ({error}): {}", answer.trim_end());
            ExitCode::FAILURE
        }
    }
}

fn ask(arguments: &Ctl) -> io::Result<String> {
    let mut socket = UnixStream::connect(&arguments.path)?;
    let limit = Some(Duration::from_secs(arguments.timeout.max(1).into()));
    socket.set_read_timeout(limit)?;
    socket.set_write_timeout(limit)?;
    let request = json!({ "cmd": arguments.command });
    socket.write_all(format!("{request}\n").as_bytes())?;
    let mut answer = String::new();
    let bounded = io::Read::take(socket, ANSWER_MAX);
    match BufReader::new(bounded).read_line(&mut answer)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(answer),
    }
}

/// Prints an answer; returns whether it is a good one.
fn print(answer: &str, as_it_came: bool) -> serde_json::Result<bool> {
    let mut value: Value = serde_json::from_str(answer)?;
    let ok = value.get("ok") == Some(&Value::Bool(true));
    if as_it_came {
        println!("{}", answer.trim_end());
    } else if let Some(error) = value.get("error").and_then(Value::as_str) {
        eprintln!("outrigger: {error}");
    } else {
        if let Value::Object(members) = &mut value {
            members.remove("ok");
        }
        print!("{}", readable::render(&value));
    }
    Ok(ok)
}

fn advice(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "there is no socket: is the machine running with --control?".into()
        }
        io::ErrorKind::ConnectionRefused => "nobody listens there: the machine is gone".into(),
        io::ErrorKind::PermissionDenied => {
            "this user may not connect: use the one who runs the machine".into()
        }
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "no answer in time".into(),
        io::ErrorKind::UnexpectedEof => "the machine ended before it answered".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::path::Path;

    use super::*;

    fn ctl(path: &Path, command: &str) -> Ctl {
        Ctl { path: path.to_owned(), command: command.to_owned(), json: false, timeout: 1 }
    }

    #[test]
    fn a_request_is_sent_and_its_answer_returned() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let machine = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&socket).read_line(&mut line).unwrap();
            socket.write_all(b"{\"ok\":true}\n").unwrap();
            line
        });
        assert_eq!(ask(&ctl(&path, "pause")).unwrap(), "{\"ok\":true}\n");
        assert_eq!(machine.join().unwrap(), "{\"cmd\":\"pause\"}\n");
    }

    #[test]
    fn what_goes_wrong_is_explained() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let why = |path| advice(&ask(&ctl(path, "status")).unwrap_err());
        assert!(why(&path).contains("--control"));
        let listener = UnixListener::bind(&path).unwrap();
        assert!(why(&path).contains("no answer in time"));
        drop(listener);
        assert!(why(&path).contains("nobody listens"));
    }

    #[test]
    fn a_bad_answer_is_told_from_a_good_one() {
        assert!(print("{\"ok\":true,\"state\":\"running\"}", false).unwrap());
        assert!(!print("{\"ok\":false,\"error\":\"not now\"}", true).unwrap());
        assert!(print("hello", false).is_err());
    }
}
