//! `outrigger ctl PATH COMMAND`: asks a running machine, or one of its daemons, through its control socket.
#![expect(clippy::print_stdout, reason = "the answer is this command's output")]

mod balloon;
mod readable;

use std::io::{self, BufRead, BufReader, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};

use self::balloon::Balloon;
use crate::control::{Command, server::FDS_MAX};

/// The longest answer that is read.
const ANSWER_MAX: u64 = 16 << 20;

// No doc comment: clap would show it as the command's description.
#[expect(missing_docs, reason = "a doc comment here would replace the command's own description")]
#[derive(Debug, Args)]
pub struct Ctl {
    /// The machine's control socket (--control)
    #[arg(value_name = "PATH")]
    pub path: PathBuf,

    #[expect(missing_docs, reason = "each of them has its own help text")]
    #[command(subcommand)]
    pub what: What,

    /// Print the answer as it came, one JSON object
    #[arg(long, global = true)]
    pub json: bool,

    /// Seconds to wait for the answer
    #[arg(long, value_name = "SECONDS", default_value_t = 30, global = true)]
    pub timeout: u32,
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum What {
    /// What state it is in
    Status,
    /// Stop its CPUs and devices; answered when nobody writes to its disks any more
    Pause,
    /// Let them go on
    Resume,
    /// Ask the guest to shut down
    PowerButton,
    /// Start it anew, without asking the guest
    Reset,
    /// End it, without asking the guest
    Stop,
    /// What it has counted
    Stats,
    /// The state of each device
    Devices,
    /// Ask a memory balloon, or change it
    Balloon(Balloon),
    /// Give a command to the daemon of a device, such as '{"cmd":"stats"}'
    Device {
        /// The device's name, or its kind if there is only one
        #[arg(value_name = "NAME")]
        name: String,
        /// What its daemon is told, a JSON object
        #[arg(value_name = "JSON", value_parser = parse_json)]
        command: Value,
    },
}

/// Asks, prints the answer, and says with 0 that it was good.
#[must_use]
pub fn run(arguments: &Ctl) -> ExitCode {
    let answer = match arguments.answer() {
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

impl Ctl {
    fn answer(&self) -> io::Result<String> {
        match &self.what {
            What::Balloon(balloon) => balloon.answer(self),
            What::Device { name, command } => self.ask(&for_device(name, command)),
            plain => self.ask(&json!({ "cmd": plain.command().map_or("", Command::name) })),
        }
    }

    fn ask(&self, request: &Value) -> io::Result<String> {
        ask(&self.path, request, &[], Duration::from_secs(self.timeout.max(1).into()))
    }
}

impl What {
    /// The command for the machine itself, if it is one.
    const fn command(&self) -> Option<Command> {
        match self {
            Self::Status => Some(Command::Status),
            Self::Pause => Some(Command::Pause),
            Self::Resume => Some(Command::Resume),
            Self::PowerButton => Some(Command::PowerButton),
            Self::Reset => Some(Command::Reset),
            Self::Stop => Some(Command::Stop),
            Self::Stats => Some(Command::Stats),
            Self::Devices => Some(Command::Devices),
            Self::Balloon(_) | Self::Device { .. } => None,
        }
    }
}

fn parse_json(text: &str) -> serde_json::Result<Value> {
    serde_json::from_str(text)
}

/// The request that passes a command on to the daemon of a device.
#[must_use]
pub fn for_device(name: &str, command: &Value) -> Value {
    json!({ "cmd": "device", "device": name, "ask": command })
}

/// Sends a request, with at most [`FDS_MAX`] descriptors, to the control socket at `path`, and returns the
/// line that answers it.
///
/// # Errors
/// When nobody is there, or nobody answers in time.
pub fn ask(
    path: &Path,
    request: &Value,
    fds: &[BorrowedFd<'_>],
    limit: Duration,
) -> io::Result<String> {
    let mut socket = UnixStream::connect(path)?;
    socket.set_read_timeout(Some(limit))?;
    socket.set_write_timeout(Some(limit))?;
    let line = format!("{request}\n");
    let sent = send(&socket, line.as_bytes(), fds)?;
    socket.write_all(line.as_bytes().get(sent..).unwrap_or_default())?;
    let mut answer = String::new();
    let bounded = io::Read::take(socket, ANSWER_MAX);
    match BufReader::new(bounded).read_line(&mut answer)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(answer),
    }
}

/// Sends what fits; descriptors go with it.
fn send(socket: &UnixStream, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
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

/// What is wrong with the control socket, in words that tell the user what to do.
pub(crate) fn advice(error: &io::Error) -> String {
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

    #[derive(Debug, clap::Parser)]
    struct Arguments {
        #[command(flatten)]
        ctl: Ctl,
    }

    fn ctl(path: &Path, words: &[&str]) -> Ctl {
        let path = path.to_str().unwrap();
        let words = ["ctl", path, "--timeout=1"].into_iter().chain(words.iter().copied());
        <Arguments as clap::Parser>::try_parse_from(words).unwrap().ctl
    }

    /// What a machine hears that answers every request with this line, until it is asked no more.
    fn heard(words: &[&str], answers: &[&str]) -> (Vec<Value>, io::Result<String>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let answers: Vec<String> = answers.iter().map(|answer| format!("{answer}\n")).collect();
        let machine = std::thread::spawn(move || {
            let hear = |answer: String| {
                let (mut socket, _) = listener.accept().unwrap();
                let mut line = String::new();
                BufReader::new(&socket).read_line(&mut line).unwrap();
                socket.write_all(answer.as_bytes()).unwrap();
                serde_json::from_str(&line).unwrap()
            };
            answers.into_iter().map(hear).collect()
        });
        let answer = ctl(&path, words).answer();
        (machine.join().unwrap(), answer)
    }

    #[test]
    fn a_request_is_sent_and_its_answer_returned() {
        for (name, _) in Command::ALL {
            let (heard, answer) = heard(&[name], &[r#"{"ok":true}"#]);
            assert_eq!(answer.unwrap(), "{\"ok\":true}\n");
            assert_eq!(heard, [json!({ "cmd": name })]);
        }
    }

    #[test]
    fn a_daemons_command_is_passed_on() {
        let told = |words: &[&str]| {
            let (heard, _) = heard(words, &[r#"{"ok":true}"#]);
            heard[0].clone()
        };
        let words = ["device", "disk0", r#"{"cmd":"resize"}"#];
        assert_eq!(told(&words), for_device("disk0", &json!({ "cmd": "resize" })));
        let balloon = |ask| for_device("balloon", &ask);
        for (words, ask) in [
            (&["balloon"][..], json!({ "cmd": "stats" })),
            (&["balloon", "stats"], json!({ "cmd": "stats" })),
            (&["balloon", "target", "2G"], json!({ "cmd": "target", "bytes": 2_u64 << 30 })),
            (&["balloon", "discard", "off"], json!({ "cmd": "discard", "state": "off" })),
            (&["balloon", "polling", "5"], json!({ "cmd": "polling", "seconds": 5 })),
        ] {
            assert_eq!(told(words), balloon(ask), "{words:?}");
        }
        let words = ["balloon", "--device=b1", "target", "0"];
        assert_eq!(told(&words), for_device("b1", &json!({ "cmd": "target", "bytes": 0 })));
    }

    #[test]
    fn new_statistics_are_waited_for() {
        let stats = |count: u32| {
            format!(r#"{{"ok":true,"device_stats":{{"statistics":{count},"target_bytes":7}}}}"#)
        };
        let answers = [r#"{"ok":true,"statistics":4}"#.to_owned(), stats(4), stats(5)];
        let answers = answers.each_ref().map(String::as_str);
        let (heard, answer) = heard(&["balloon", "stats", "--refresh"], &answers);
        let asked: Vec<_> = heard.iter().map(|request| &request["ask"]["cmd"]).collect();
        assert_eq!(asked, ["refresh", "stats", "stats"]);
        let answer: Value = serde_json::from_str(&answer.unwrap()).unwrap();
        // Of all that its daemon says, what is the balloon's.
        assert_eq!(answer, json!({ "ok": true, "statistics": 5, "target_bytes": 7 }));
    }

    #[test]
    fn what_goes_wrong_is_explained() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let why = |path| advice(&ctl(path, &["status"]).answer().unwrap_err());
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
