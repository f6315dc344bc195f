//! The VMM at a terminal: raw while the guest has it, and as it was before however the VMM ends.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use tempfile::TempDir;

use crate::daemons::is_built;
use crate::program::Program;

/// Nothing here takes longer, on any machine.
const LIMIT: Duration = Duration::from_secs(30);

/// A person at a terminal.
struct Seat {
    child: Child,
    terminal: OwnedFd,
    person: File,
    directory: TempDir,
}

impl Seat {
    /// Starts a VM there, or says why there is nothing to test on this machine.
    fn start(program: &Program) -> Option<Self> {
        Self::start_with(program, &[])
    }

    /// The same with further arguments. The terminal is its controlling one.
    fn start_with(program: &Program, arguments: &[&str]) -> Option<Self> {
        if !Path::new("/dev/kvm").exists() {
            eprintln!("skipped: there is no /dev/kvm");
            return None;
        }
        let directory = TempDir::new().expect("a directory");
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&person).expect("the terminal is ours");
        unlockpt(&person).expect("the terminal can be opened");
        let name = ptsname(&person, Vec::new()).expect("the terminal has a name");
        let terminal = open(&*name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty());
        let terminal = terminal.expect("the terminal opens");
        let stdio = || Stdio::from(terminal.try_clone().expect("a descriptor"));
        let child = Command::new("setsid")
            .args(["--ctty", env!("CARGO_BIN_EXE_outrigger"), "run"])
            .args(["--memory=32M", "--log=warn", "--kernel"])
            .arg(program.save(directory.path()))
            .args(arguments)
            .current_dir(directory.path())
            .stdin(stdio())
            .stdout(stdio())
            .stderr(stdio())
            .spawn()
            .expect("outrigger starts");
        Some(Self { child, terminal, person: person.into(), directory })
    }

    fn is_cooked(&self) -> bool {
        let modes = tcgetattr(&self.terminal).expect("the terminal has modes").local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// Waits until this stands on the screen.
    fn await_text(&mut self, text: &str) {
        let (end, mut screen) = (Instant::now() + LIMIT, Vec::new());
        while !String::from_utf8_lossy(&screen).contains(text) {
            let left = Timespec::try_from(end.saturating_duration_since(Instant::now()));
            let mut fds = [PollFd::from_borrowed_fd(self.person.as_fd(), PollFlags::IN)];
            let ready = poll(&mut fds, left.ok().as_ref());
            assert_eq!(ready, Ok(1), "{text:?} in {:?}", String::from_utf8_lossy(&screen));
            let mut bytes = [0; 256];
            let count = self.person.read(&mut bytes).expect("the terminal is read");
            screen.extend(&bytes[..count]);
        }
    }

    /// Gives the terminal another size.
    fn resize(&self, columns: u16, rows: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.person, size).expect("a size");
    }

    /// Asks the daemon of its console for the size of its first port, as often as it takes.
    fn await_size_of_console(&self, size: &str) {
        let end = Instant::now() + LIMIT;
        loop {
            let answer = Command::new(env!("CARGO_BIN_EXE_outrigger"))
                .args(["ctl", "--json", "control", "device", "console0", r#"{"cmd":"ports"}"#])
                .current_dir(self.directory.path())
                .output()
                .expect("outrigger starts");
            let answer = String::from_utf8_lossy(&answer.stdout).into_owned();
            if answer.contains(&format!(r#""size":{size}"#)) {
                return;
            }
            assert!(Instant::now() < end, "{answer}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("a signal is sent");
    }

    /// Waits for the end, and until the terminal is as it was.
    fn end(&mut self) -> Option<i32> {
        let status = self.child.wait().expect("an exit status").code();
        let end = Instant::now() + LIMIT;
        while !self.is_cooked() {
            assert!(Instant::now() < end, "the terminal stays raw");
            thread::sleep(Duration::from_millis(1));
        }
        status
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_is_typed_is_the_guests_but_for_the_escape() {
    let program = Program::default().say("ready").echo().echo().echo().stop();
    let Some(mut seat) = Seat::start(&program) else { return };
    seat.await_text("ready");
    assert!(!seat.is_cooked());
    // Ctrl-C is the guest's; Ctrl-A must be typed twice.
    seat.person.write_all(b"\x03\x01\x01!").expect("typing");
    seat.await_text("\x03\x01!");
    // The guest does not listen any more, the VMM still does.
    seat.person.write_all(b"\x01x").expect("typing");
    assert_eq!(seat.end(), Some(7));
}

#[test]
fn the_terminal_is_restored_when_the_guest_switches_itself_off() {
    let program = Program::default().say("last words").power_off();
    let Some(mut seat) = Seat::start(&program) else { return };
    seat.await_text("last words");
    assert_eq!(seat.end(), Some(0));
}

#[test]
fn the_terminal_is_restored_even_when_the_vmm_is_killed() {
    let Some(mut seat) = Seat::start(&Program::default().say("ready").stop()) else { return };
    seat.await_text("ready");
    assert!(!seat.is_cooked());
    seat.signal(Signal::KILL);
    assert_eq!(seat.end(), None);
}

/// The VMM hears of it, and the daemon that has the terminal is told.
#[test]
fn a_window_that_changes_its_size_changes_the_consoles() {
    let arguments = ["--serial=null", "--console=backend=stdio", "--control=control"];
    let program = Program::default().await_power_button().power_off();
    if !is_built("outrigger-console") {
        return;
    }
    let Some(mut seat) = Seat::start_with(&program, &arguments) else { return };
    for (columns, rows) in [(132, 43), (100, 30)] {
        // Before there is anybody to ask, it is the size that the console begins with.
        seat.resize(columns, rows);
        seat.await_size_of_console(&format!("[{columns},{rows}]"));
    }
    seat.signal(Signal::TERM);
    assert_eq!(seat.end(), Some(0));
}
