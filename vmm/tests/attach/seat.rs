//! A user at a terminal, with `outrigger console` in its foreground.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, ioctl_tiocsctty, kill_process, setsid};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::machine::{MOMENT, Machine};

const PROGRAM: &str = env!("CARGO_BIN_EXE_outrigger");

fn command(machine: &Machine, words: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("console").args(words).env("OUTRIGGER_CONTROL", machine.control());
    command
}

/// Runs it to its end: status, and what it said.
pub(crate) fn run(machine: &Machine, words: &[&str]) -> (Option<i32>, String) {
    let output = command(machine, words).stdin(Stdio::null()).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The user's side of a terminal.
pub(crate) struct Seat {
    terminal: File,
    user: File,
    child: Option<Child>,
}

impl Seat {
    pub(crate) fn new() -> Self {
        let user = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&user).unwrap();
        unlockpt(&user).unwrap();
        let name = ptsname(&user, Vec::new()).unwrap().into_string().unwrap();
        let terminal = File::options().read(true).write(true).open(name).unwrap();
        Self { terminal, user: user.into(), child: None }
    }

    /// Has the program attach this terminal, which is its controlling one.
    pub(crate) fn attach(&mut self, machine: &Machine, words: &[&str]) {
        let copy = || Stdio::from(self.terminal.try_clone().unwrap());
        let mut command = command(machine, words);
        command.stdin(copy()).stdout(copy()).stderr(copy());
        let take_terminal = || {
            setsid()?;
            Ok(ioctl_tiocsctty(std::io::stdin())?)
        };
        #[expect(unsafe_code, reason = "a terminal's foreground is set up between fork and exec")]
        // SAFETY: the closure makes two system calls, takes no lock and allocates nothing.
        unsafe {
            command.pre_exec(take_terminal);
        }
        self.child = Some(command.spawn().unwrap());
    }

    pub(crate) fn modes(&self) -> String {
        format!("{:?}", tcgetattr(&self.terminal).unwrap())
    }

    pub(crate) fn is_raw(&self) -> bool {
        !tcgetattr(&self.terminal).unwrap().local_modes.contains(LocalModes::ICANON)
    }

    pub(crate) fn resize(&self, cols: u16, rows: u16) {
        let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.user, size).unwrap();
    }

    pub(crate) fn types(&mut self, keys: &[u8]) {
        self.user.write_all(keys).unwrap();
    }

    /// Reads the screen until the text is there.
    pub(crate) fn see(&mut self, text: &str) -> String {
        let mut all = String::new();
        while !all.contains(text) {
            let mut piece = [0; 4096];
            let count = self.user.read(&mut piece).unwrap();
            all.push_str(&String::from_utf8_lossy(piece.get(..count).unwrap()));
        }
        all
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.child.as_ref().unwrap().id();
        kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
    }

    /// Waits until that is so.
    pub(crate) fn await_that(&mut self, mut so: impl FnMut(&mut Self) -> bool) {
        let until = Instant::now() + MOMENT;
        while !so(self) {
            assert!(Instant::now() < until, "it does not come to that");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Its exit status, once it has ended.
    pub(crate) fn status(&mut self) -> Option<i32> {
        let mut status = None;
        self.await_that(|seat| {
            status = seat.child.as_mut().unwrap().try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// One whose input is no terminal.
pub(crate) struct Piped(Child);

impl Piped {
    pub(crate) fn attach(machine: &Machine, words: &[&str], input: &str) -> Self {
        let mut child =
            command(machine, words).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_owned());
        std::thread::spawn(move || stdin.write_all(input.as_bytes()));
        Self(child)
    }

    /// What it shows, up to this text.
    pub(crate) fn hear(mut self, text: &str) -> String {
        let mut bytes = vec![0; text.len()];
        self.0.stdout.as_mut().unwrap().read_exact(&mut bytes).unwrap();
        self.0.kill().unwrap();
        self.0.wait().unwrap();
        String::from_utf8(bytes).unwrap()
    }
}
