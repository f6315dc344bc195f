//! Output that goes into files.

use std::fs::File;
use std::os::fd::AsFd;

use rustix::process::Signal;

use crate::guest::{Guest, scene};
use crate::process::{Daemon, read_until};

fn text(daemon: &Daemon, name: &str) -> String {
    std::fs::read_to_string(daemon.path(name)).unwrap_or_default()
}

#[test]
fn a_file_is_rotated_by_size() {
    let (daemon, mut guest) = scene(&["--port=name=log,backend=file:@/log,rotate=4K,keep=2"], &[0]);
    // A hundred of these are a file.
    for number in 0..350 {
        guest.write(0, format!("{number:>39}\n").as_bytes());
    }
    let sizes = ["log", "log.1", "log.2", "log.3"].map(|name| text(&daemon, name).len());
    assert_eq!(sizes, [(350 - 306) * 40, 4080, 4080, 0]);
    assert!(text(&daemon, "log").ends_with("349\n"));
    assert_eq!(daemon.port("log")["line"]["counts"]["recorded"], 350 * 40);
}

#[test]
fn a_file_that_was_moved_away_is_begun_anew() {
    let (daemon, mut guest) =
        scene(&["--port=name=log,backend=file:@/log", "--port-directory=@"], &[0]);
    guest.write(0, b"one");
    std::fs::rename(daemon.path("log"), daemon.path("log.1")).unwrap();
    assert_eq!(daemon.control(r#"{"cmd":"reopen","name":"log"}"#)["ok"], true);
    guest.write(0, b"two");
    assert_eq!([text(&daemon, "log.1"), text(&daemon, "log")], ["one", "two"]);

    std::fs::rename(daemon.path("log"), daemon.path("log.2")).unwrap();
    daemon.signal(Signal::HUP);
    daemon.await_that(|| daemon.path("log").exists());
    guest.write(0, b"three");
    assert_eq!([text(&daemon, "log.2"), text(&daemon, "log")], ["two", "three"]);
}

/// Without any right to a directory: as a descriptor.
#[test]
fn a_file_can_be_another_one_that_is_passed() {
    let (daemon, mut guest) =
        scene(&["--port=name=log,backend=file:@/log", "--port=name=p,backend=null"], &[0]);
    let answer = daemon.control(r#"{"cmd":"reopen","name":"log"}"#);
    assert!(answer["error"].as_str().unwrap().contains("open once more"), "{answer}");
    let other = File::create(daemon.path("other")).unwrap();
    let reopen = r#"{"cmd":"reopen","name":"log"}"#;
    assert_eq!(daemon.control_with(reopen, Some(other.as_fd()))["ok"], true);
    guest.write(0, b"elsewhere");
    assert_eq!([text(&daemon, "log"), text(&daemon, "other")], ["", "elsewhere"]);
    let answer = daemon.control(r#"{"cmd":"reopen","name":"p"}"#);
    assert!(answer["error"].as_str().unwrap().contains("no file"), "{answer}");
}

#[test]
fn a_port_added_at_run_time_may_have_a_file() {
    let daemon = Daemon::start(&["--port=name=con,backend=null"]);
    let mut guest = Guest::connect(&daemon, &[0, 1]);
    guest.set_up(&[0]);
    let file = File::create(daemon.path("late")).unwrap();
    let add = r#"{"cmd":"add-port","name":"late"}"#;
    assert_eq!(daemon.control_with(add, Some(file.as_fd()))["ok"], true);
    guest.all_told();
    guest.write(1, b"written down");
    assert_eq!(text(&daemon, "late"), "written down");
}

/// Nobody need to read what goes into a file: the guest is told that the port is open.
#[test]
fn a_port_with_a_file_is_open_whatever_happens_to_overflow() {
    let daemon =
        Daemon::start(&["--port=backend=null", "--port=name=f,backend=file:@/f,overflow=block"]);
    let mut guest = Guest::connect(&daemon, &[0, 1]);
    assert!(guest.set_up(&[1]).contains(&"1 PortOpen 1[]".to_owned()));
    guest.write(1, b"written");
    assert_eq!(text(&daemon, "f"), "written");
}

/// Whoever comes finds the latest, and the file goes on getting all of it.
#[test]
fn somebody_may_sit_at_a_port_whose_output_is_in_a_file() {
    let (daemon, mut guest) = scene(&["--port=name=con,backend=file:@/log,log=4"], &[0]);
    guest.write(0, b"boot\n");
    let mut ours = daemon.attach(r#"{"cmd":"attach","name":"con"}"#);
    assert_eq!(read_until(&mut ours, "boot\n"), "boot\n");
    std::io::Write::write_all(&mut ours, b"root\r").unwrap();
    assert_eq!(guest.hear(0).unwrap(), b"root\r");
    guest.write(0, b"login\n");
    assert_eq!(read_until(&mut ours, "login\n"), "login\n");
    drop(ours);
    daemon.await_port("con", |port| port["line"]["attached"] == false);
    guest.write(0, b"on\n");
    assert_eq!(text(&daemon, "log"), "boot\nlogin\non\n");
}

/// `backend=log:N` is nobody, and what is kept for whoever comes.
#[test]
fn a_log_is_kept_for_whoever_attaches() {
    let (daemon, mut guest) = scene(&["--port=name=con,backend=log:64"], &[0]);
    for number in 0..3 {
        guest.write(0, format!("line {number}\n").as_bytes());
        let mut ours = daemon.attach(r#"{"cmd":"attach","name":"con"}"#);
        let all = read_until(&mut ours, &format!("line {number}\n"));
        assert_eq!(all.lines().count(), number + 1, "{all}");
        assert_eq!(daemon.control(r#"{"cmd":"detach","name":"con"}"#)["ok"], true);
    }
    assert_eq!(daemon.port("con")["line"]["dropped_bytes"], 0);
}
