//! `outrigger console`: a user at a terminal, and a machine that is played.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets what it does not expect fails"
)]

mod machine;
mod seat;

use rustix::process::Signal;
use serde_json::json;

use machine::{Machine, Port};
use seat::Seat;

/// A user who is attached to the shell of a machine, and has seen its prompt.
fn seated(words: &[&str]) -> (Machine, Seat, Port) {
    let machine = Machine::start();
    let mut seat = Seat::new();
    seat.attach(&machine, words);
    let (_, mut port) = machine.attached();
    port.say("$ ");
    seat.see("$ ");
    (machine, seat, port)
}

#[test]
fn a_user_types_resizes_and_leaves() {
    let machine = Machine::start();
    let mut seat = Seat::new();
    let before = seat.modes();
    seat.resize(100, 30);
    seat.attach(&machine, &["shell"]);
    let (request, mut port) = machine.attached();
    assert_eq!(
        request,
        json!({"cmd": "attach", "name": "shell", "read-only": false, "take": false, "cols": 100, "rows": 30})
    );
    port.say("login: ");
    assert!(seat.see("login: ").contains("attached to shell; ^] q leaves"));
    assert!(seat.is_raw());
    // Control characters are the guest's, and the escape key if it is typed twice.
    seat.types(b"root\r\x03\x1d\x1d");
    assert_eq!(port.hear(7), b"root\r\x03\x1d");
    seat.resize(132, 43);
    machine.heard(&json!({"cmd": "resize", "name": "shell", "cols": 132, "rows": 43}));
    seat.types(b"\x1dq");
    assert_eq!(seat.status(), Some(0));
    assert_eq!(seat.modes(), before, "the terminal is as it was");
}

#[test]
fn a_device_may_be_named_as_well() {
    let machine = Machine::start();
    let mut seat = Seat::new();
    seat.attach(&machine, &["console0", "--escape=^A"]);
    let (request, _port) = machine.attached();
    assert_eq!(request["name"], "shell");
    seat.see("^A q leaves");
    seat.types(b"\x01q");
    assert_eq!(seat.status(), Some(0));
}

#[test]
fn mistakes_say_what_to_do() {
    let machine = Machine::start();
    for (words, complaint) in [
        (&["nobody"][..], "there are shell, agent"),
        (&["shell", "--escape=x"], "no control character"),
        (&["shell", "--read-only", "--take"], "cannot be used with"),
        (&["agent"], "somebody is attached"),
        (&["shell", "--control=/no/such/socket"], "is the machine running with --control?"),
    ] {
        let (status, text) = seat::run(&machine, words);
        assert!(status != Some(0) && text.contains(complaint), "{words:?}: {text}");
    }
}

#[test]
fn the_terminal_is_as_it_was_however_it_ends() {
    for signal in [Signal::TERM, Signal::HUP, Signal::QUIT, Signal::INT, Signal::KILL] {
        let machine = Machine::start();
        let mut seat = Seat::new();
        let before = seat.modes();
        seat.attach(&machine, &["shell"]);
        let (_, mut port) = machine.attached();
        port.say("$ ");
        seat.see("$ ");
        assert!(seat.is_raw());
        seat.signal(signal);
        seat.status();
        seat.await_that(|seat| seat.modes() == before);
    }
}

#[test]
fn who_looks_on_types_nothing() {
    let machine = Machine::start();
    let mut seat = Seat::new();
    seat.attach(&machine, &["shell", "--read-only"]);
    let (request, mut port) = machine.attached();
    assert_eq!(
        request,
        json!({"cmd": "attach", "name": "shell", "read-only": true, "take": false})
    );
    port.say("secret");
    seat.see("secret");
    seat.types(b"rm -rf /\r");
    port.say("more");
    seat.see("more");
    assert!(port.is_silent());
    seat.types(b"\x03");
    assert_eq!(seat.status(), Some(0));
}

#[test]
fn a_guest_that_takes_nothing_does_not_hold_the_user() {
    let (_machine, mut seat, _port) = seated(&["shell"]);
    for _ in 0..200 {
        seat.types(&[b'x'; 4096]);
    }
    seat.types(b"\x1dq");
    assert_eq!(seat.status(), Some(0));
}

#[test]
fn a_daemon_that_is_started_anew_is_attached_to_again() {
    let (machine, mut seat, port) = seated(&["shell"]);
    machine.restart_daemon();
    drop(port);
    let (_, mut port) = machine.attached();
    port.say("two");
    seat.see("two");
    seat.types(b"hello");
    assert_eq!(port.hear(5), b"hello");
    // The same daemon: somebody else is to have the port.
    drop(port);
    seat.see("sent away");
    assert_eq!(seat.status(), Some(0));
}

/// Class: who comes back first counts as a visit to the next daemon, and must not send others away.
#[test]
fn all_who_were_attached_come_back_to_the_next_daemon() {
    let machine = Machine::start();
    let mut attached = Vec::new();
    for _ in 0..3 {
        let mut seat = Seat::new();
        seat.attach(&machine, &["shell", "--read-only"]);
        let (_, mut port) = machine.attached();
        port.say("one");
        seat.see("one");
        attached.push((seat, port));
    }
    machine.restart_daemon();
    let (mut seats, ports): (Vec<_>, Vec<_>) = attached.into_iter().unzip();
    drop(ports);
    let mut ports: Vec<_> = seats.iter().map(|_| machine.attached().1).collect();
    ports.iter_mut().for_each(|port| port.say("two"));
    for seat in &mut seats {
        seat.see("two");
    }
}

#[test]
fn input_may_come_from_a_file() {
    let machine = Machine::start();
    let text = "a line\n".repeat(100_000);
    let user = seat::Piped::attach(&machine, &["shell"], &text);
    let (_, mut port) = machine.attached();
    assert!(port.hear(text.len()) == text.as_bytes());
    port.say("done");
    assert_eq!(user.hear("done"), "done");
}
