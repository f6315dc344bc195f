//! Commands of the control socket.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use crate::guest::Guest;
use crate::process::{Daemon, read_until};

#[test]
fn mistakes_say_what_to_do() {
    let daemon = Daemon::start(&["--port=name=con,backend=null"]);
    for (line, complaint) in [
        (r#"{"cmd":"add-port"}"#, "missing field"),
        (r#"{"cmd":"add-port","name":"x"}"#, "exactly one descriptor"),
        (r#"{"cmd":"add-port","name":"x y","backend":"null"}"#, "no name for a port"),
        (r#"{"cmd":"add-port","name":"con","backend":"null"}"#, "already"),
        (r#"{"cmd":"add-port","name":"x","backend":"pty"}"#, "run time"),
        (r#"{"cmd":"add-port","name":"x","backend":"file:/etc/x"}"#, "--port-directory"),
        (r#"{"cmd":"remove-port","name":"x"}"#, "no port"),
        (r#"{"cmd":"resize","cols":1}"#, "missing field"),
        (r#"{"cmd":"resize","cols":0,"rows":24}"#, "from 1 on"),
        (r#"{"cmd":"attach","name":"con"}"#, "exactly one descriptor"),
    ] {
        let answer = daemon.control(line);
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(error.contains(complaint), "{line}: {answer}");
    }
}

#[test]
fn somebody_is_brought_to_a_port_and_sent_away() {
    let daemon = Daemon::start(&["--port=name=con,backend=unix:@/con.sock,log=16"]);
    let mut guest = Guest::connect(&daemon, &[0]);
    guest.set_up(&[0]);
    guest.write(0, b"boot\n");
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let attach = r#"{"cmd":"attach","name":"con"}"#;
    assert_eq!(daemon.control_with(attach, Some(theirs.as_fd()))["ok"], true);
    assert_eq!(read_until(&mut ours, "boot\n"), "boot\n");
    let answer = daemon.control_with(attach, Some(theirs.as_fd()));
    assert!(answer["error"].as_str().unwrap().contains("attached"), "{answer}");
    drop(theirs);
    assert_eq!(daemon.control(r#"{"cmd":"detach","name":"con"}"#)["ok"], true);
    assert_eq!(std::io::Read::read(&mut ours, &mut [0]).unwrap(), 0);
    let mut peer = daemon.connect("con.sock");
    assert_eq!(read_until(&mut peer, "boot\n"), "boot\n");
}

#[test]
fn files_of_ports_at_run_time_are_below_the_named_directory() {
    let daemon = Daemon::start(&["--port=name=con,backend=null", "--port-directory=@"]);
    let mut guest = Guest::connect(&daemon, &[0, 1]);
    guest.set_up(&[]);
    let path = daemon.path("late.log");
    let line = format!(r#"{{"cmd":"add-port","name":"log","backend":"file:{}"}}"#, path.display());
    let answer = daemon.control(&line);
    assert_eq!(answer["ok"], true, "{answer}");
    guest.all_told();
    guest.write(1, b"rotated");
    assert_eq!(std::fs::read(path).unwrap(), b"rotated");
}
