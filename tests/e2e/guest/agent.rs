//! `guest-agent`: starts commands for the host, and tells it what they print and how they end.
//!
//! One line at a time, each way, on standard input and output:
//! ```text
//! host ─▶ start N COMMAND      the shell runs it in a process group of its own
//!         input N TEXT         a line for its standard input
//!         close N              the end of its standard input
//! agent ─▶ N pid PID           it has been started
//!          N out TEXT          a line that it printed; also: err
//!          N exit STATUS       it has ended; minus the signal if one ended it
//! ```
//! The host chooses the numbers. When it goes away, every command is ended. Uses the standard
//! library alone, because it runs inside a guest.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

/// How long the host may take to connect. A virtio port without a host reads as if it had ended.
const HOST_COMES: Duration = Duration::from_secs(20);
/// How often the agent looks for it.
const LOOK: Duration = Duration::from_millis(5);
/// How long what a command has printed may take after its end; a process that it left behind may
/// hold its standard output for ever.
const LAST_WORDS: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let mut commands = Commands::default();
    let mut host = BufReader::new(io::stdin());
    let (mut line, mut looks) = (Vec::new(), HOST_COMES.as_millis() / LOOK.as_millis());
    loop {
        match host.read_until(b'\n', &mut line) {
            Ok(0) if looks == 0 => return ExitCode::SUCCESS,
            Ok(0) => {
                looks -= 1;
                std::thread::sleep(LOOK);
            }
            Ok(_) => {
                looks = 0;
                commands.obey(String::from_utf8_lossy(&line).trim_end_matches('\n'));
                line.clear();
            }
            Err(error) => {
                eprintln!("guest-agent: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
}

/// What has been started: the group of each, and its standard input until that is closed.
#[derive(Default)]
struct Commands {
    groups: HashMap<String, u32>,
    inputs: HashMap<String, ChildStdin>,
}

impl Commands {
    fn obey(&mut self, line: &str) {
        let mut words = line.splitn(3, ' ');
        let verb = words.next().unwrap_or_default();
        let (number, text) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let done = match verb {
            "start" => self.start(number, text),
            "input" => self.inputs.get_mut(number).map_or(Ok(()), |to| writeln!(to, "{text}")),
            "close" => {
                self.inputs.remove(number);
                Ok(())
            }
            _ => Err(io::Error::other(format!("`{line}` is not understood"))),
        };
        if let Err(error) = done {
            tell(number, "err", &format!("guest-agent: {error}"));
            if verb == "start" {
                tell(number, "exit", "127");
            }
        }
    }

    fn start(&mut self, number: &str, command: &str) -> io::Result<()> {
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(command).process_group(0);
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = shell.spawn()?;
        tell(number, "pid", &child.id().to_string());
        self.groups.insert(number.to_owned(), child.id());
        if let Some(input) = child.stdin.take() {
            self.inputs.insert(number.to_owned(), input);
        }
        let (silent, silence) = mpsc::channel();
        pass_on(number, "out", child.stdout.take(), silent.clone());
        pass_on(number, "err", child.stderr.take(), silent);
        let number = number.to_owned();
        std::thread::spawn(move || {
            let status = wait(&mut child);
            while silence.recv_timeout(LAST_WORDS).is_ok() {}
            tell(&number, "exit", &status.to_string());
        });
        Ok(())
    }
}

impl Drop for Commands {
    fn drop(&mut self) {
        for group in self.groups.values() {
            // Most have ended long since.
            let mut kill = Command::new("/bin/kill");
            kill.args(["-KILL", "--", &format!("-{group}")]);
            let _ = kill.stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
    }
}

/// Passes on lines as they come; says so when there are no more.
fn pass_on(
    number: &str,
    kind: &'static str,
    stream: Option<impl Read + Send + 'static>,
    silent: Sender<()>,
) {
    let (number, Some(stream)) = (number.to_owned(), stream) else { return };
    std::thread::spawn(move || {
        let (mut stream, mut line) = (BufReader::new(stream), Vec::new());
        while stream.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            tell(&number, kind, String::from_utf8_lossy(&line).trim_end());
            line.clear();
        }
        drop(silent);
    });
}

fn wait(child: &mut Child) -> i32 {
    let status = child.wait();
    let signalled = |status: ExitStatus| status.signal().map(|signal| -signal);
    status.ok().and_then(|status| status.code().or_else(|| signalled(status))).unwrap_or(127)
}

/// A host that is gone needs no answer, and standard input says so.
fn tell(number: &str, kind: &str, text: &str) {
    let mut host = io::stdout().lock();
    let _ = writeln!(host, "{number} {kind} {text}");
    let _ = host.flush();
}
