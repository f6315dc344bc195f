//! What a driver is told of ports, and what is known of it.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use virtio_spec::console::{Config, ControlEvent};

use crate::guest::Guest;
use crate::process::{Daemon, read_until};

#[test]
fn a_driver_is_told_of_all_ports() {
    let daemon = Daemon::start(&[
        "--port=name=con,backend=unix:@/con.sock",
        "--port=name=org.agent,backend=unix:@/agent.sock",
    ]);
    let mut guest = Guest::connect(&daemon, &[0, 1]);
    let told = guest.set_up(&[0]);
    assert_eq!(
        told,
        [
            "0 PortAdd 0[]",
            "1 PortAdd 0[]",
            "0 ConsolePort 1[]",
            "0 PortName con",
            "0 Resize 0[80, 0, 24, 0]",
            "0 PortOpen 1[]",
            "1 PortName org.agent",
        ]
    );
    assert_eq!(daemon.port("con")["guest_open"], true);
    assert_eq!(daemon.port("org.agent")["guest_open"], false);
    let peer = daemon.connect("agent.sock");
    assert_eq!(guest.all_told(), ["1 PortOpen 1[]"]);
    drop(peer);
    assert_eq!(guest.all_told(), ["1 PortOpen 0[]"]);
    guest.say(1, ControlEvent::PortOpen, 1);
    assert_eq!(daemon.port("org.agent")["guest_open"], true);
    guest.say(1, ControlEvent::PortOpen, 0);
    assert_eq!(daemon.port("org.agent")["guest_open"], false);
}

#[test]
fn ports_come_and_go_at_run_time() {
    let daemon = Daemon::start(&["--port=name=con,backend=null"]);
    let mut guest = Guest::connect(&daemon, &[0, 1]);
    guest.set_up(&[0]);
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let add = r#"{"cmd":"add-port","name":"late"}"#;
    let answer = daemon.control_with(add, Some(theirs.as_fd()));
    assert_eq!((&answer["ok"], &answer["number"]), (&true.into(), &1.into()), "{answer}");
    drop(theirs);
    assert_eq!(guest.all_told(), ["1 PortAdd 0[]", "1 PortName late", "1 PortOpen 1[]"]);
    guest.say(1, ControlEvent::PortOpen, 1);
    guest.write(1, b"hello");
    assert_eq!(read_until(&mut ours, "hello"), "hello");
    let answer = daemon.control(r#"{"cmd":"remove-port","name":"late"}"#);
    assert_eq!(answer["ok"], true, "{answer}");
    assert_eq!(guest.all_told(), ["1 PortRemove 0[]"]);
    // Whatever is still written there goes nowhere, and the guest is not kept waiting.
    guest.write(1, b"to nobody");
    let answer = daemon.control(r#"{"cmd":"remove-port","name":"con"}"#);
    assert!(answer["error"].as_str().unwrap().contains("first port"), "{answer}");
}

#[test]
fn the_size_goes_by_message_and_stands_in_the_configuration() {
    let daemon = Daemon::start(&["--port=name=con,backend=null", "--resize-order=rows-first"]);
    let mut guest = Guest::connect(&daemon, &[0]);
    guest.set_up(&[0]);
    daemon.control(r#"{"cmd":"resize","cols":132,"rows":43}"#);
    assert_eq!(guest.all_told(), ["0 Resize 0[43, 0, 132, 0]"]);
    let config = guest.front_end.read_config(0, Config::SIZE as u32).unwrap();
    let config = Config::from_prefix(&config).unwrap();
    assert_eq!((config.cols, config.rows, config.max_nr_ports), (132, 43, 8));
}
