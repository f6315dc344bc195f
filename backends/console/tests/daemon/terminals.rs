//! Pseudo-terminals.

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::guest::Guest;
use crate::process::{Daemon, read_until};

fn open(daemon: &Daemon) -> File {
    daemon.await_port("con", |port| !port["line"]["terminal"].is_null());
    File::options().read(true).write(true).open(daemon.path("pty")).unwrap()
}

#[test]
fn a_terminal_is_opened_closed_and_opened_again() {
    let daemon = Daemon::start(&["--port=name=con,backend=pty:@/pty,log=4"]);
    let mut guest = Guest::connect(&daemon, &[0]);
    guest.set_up(&[0]);
    guest.listen(0, 8);
    guest.write(0, b"login: ");
    for _ in 0..3 {
        let mut terminal = open(&daemon);
        assert!(read_until(&mut terminal, "login: ").ends_with("login: "));
        terminal.write_all(b"root\r").unwrap();
        assert_eq!(guest.hear(0).unwrap(), b"root\r");
        drop(terminal);
        daemon.await_port("con", |port| port["line"]["attached"] == false);
        // Nobody there: no busy loop on a terminal that has hung up.
        let before = daemon.ticks();
        std::thread::sleep(Duration::from_millis(200));
        assert!(daemon.ticks() - before < 4, "it is busy");
    }
}

/// A terminal that somebody sits at, who has the other end.
struct Desk {
    terminal: File,
    user: File,
}

impl Desk {
    fn new() -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let terminal = File::options().read(true).write(true).open(name).unwrap();
        Desk { terminal, user: File::from(master) }
    }

    fn start(&self, arguments: &[&str]) -> Daemon {
        let copy = || self.terminal.try_clone().unwrap();
        Daemon::start_with(arguments, (copy(), copy()))
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.terminal).unwrap().local_modes.contains(LocalModes::ICANON)
    }
}

/// A terminal with a daemon in its foreground, which is ended by its user.
#[test]
fn the_escape_key_leaves_and_the_terminal_is_as_it_was() {
    let mut desk = Desk::new();
    let mut daemon = desk.start(&["--port=name=con,backend=stdio"]);
    daemon.connect("control.sock");
    assert!(!desk.is_raw(), "nobody to type to yet");
    let mut guest = Guest::connect(&daemon, &[0]);
    guest.set_up(&[0]);
    guest.listen(0, 8);
    assert!(desk.is_raw());
    guest.write(0, b"login: ");
    assert_eq!(read_until(&mut desk.user, "login: "), "login: ");
    desk.user.write_all(b"\x03\x1d\x1d").unwrap();
    assert_eq!(guest.hear(0).unwrap(), b"\x03\x1d");
    desk.user.write_all(b"\x1dq").unwrap();
    assert_eq!(daemon.status(), Some(0));
    assert!(!desk.is_raw());
}

#[test]
fn the_terminal_is_as_it_was_even_after_a_kill() {
    let desk = Desk::new();
    let daemon = desk.start(&["--port=name=con,backend=stdio"]);
    let mut guest = Guest::connect(&daemon, &[0]);
    guest.set_up(&[0]);
    daemon.await_that(|| desk.is_raw());
    drop(daemon);
    let until = std::time::Instant::now() + crate::process::MOMENT;
    while desk.is_raw() {
        assert!(std::time::Instant::now() < until, "it stays raw");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_daemons_own_terminal_tells_of_its_size() {
    let desk = Desk::new();
    let daemon = desk.start(&["--port=name=con,backend=stdio"]);
    let mut guest = Guest::connect(&daemon, &[0]);
    guest.set_up(&[0]);
    let size = Winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&desk.terminal, size).unwrap();
    // As the kernel does for whoever is in the terminal's foreground.
    daemon.signal(Signal::WINCH);
    daemon.await_port("con", |port| port["size"][0] == 120);
    assert_eq!(guest.all_told(), ["0 Resize 0[120, 0, 40, 0]"]);
}

/// Terminals are not asked for their sizes over and over.
#[test]
fn an_idle_terminal_wakes_nobody() {
    let daemon = Daemon::start(&["--port=name=con,backend=pty:@/pty"]);
    let mut guest = Guest::connect(&daemon, &[0]);
    guest.set_up(&[0]);
    let _terminal = open(&daemon);
    daemon.await_port("con", |port| port["line"]["attached"] == true);
    std::thread::sleep(Duration::from_millis(200));
    let before = daemon.sleeps();
    std::thread::sleep(Duration::from_millis(1000));
    let woken = daemon.sleeps() - before;
    assert_eq!(woken, 0, "woken {woken} times");
}

#[test]
fn the_guest_is_told_of_the_terminals_size() {
    let daemon = Daemon::start(&["--port=name=con,backend=pty:@/pty"]);
    let mut guest = Guest::connect(&daemon, &[0]);
    guest.set_up(&[0]);
    let terminal = open(&daemon);
    let size = Winsize { ws_row: 50, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&terminal, size).unwrap();
    daemon.await_port("con", |port| port["size"][0] == 100);
    assert_eq!(guest.all_told(), ["0 Resize 0[100, 0, 50, 0]"]);
}
