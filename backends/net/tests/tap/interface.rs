//! A network with a tap interface, as the host sees it.

use std::net::UdpSocket;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

use crate::card::MAC;

/// The interface.
pub(crate) const NAME: &str = "tap0";
/// Where the guest would be.
const GUEST: &str = "10.9.0.2:9";

/// Gives this thread, and the programs that it starts, a network of its own. False: it may not.
pub(crate) fn enter_new_network() -> bool {
    let entered = unshare(CloneFlags::CLONE_NEWNET).is_ok() && ip("link set lo up");
    if !entered {
        eprintln!("skipped: only root can make a network");
    }
    entered
}

/// Runs `ip`.
pub(crate) fn ip(arguments: &str) -> bool {
    Command::new("ip").args(arguments.split(' ')).status().is_ok_and(|status| status.success())
}

/// Brings the interface up, with a way to the guest.
pub(crate) fn bring_up() {
    let mac = MAC.map(|byte| format!("{byte:02x}")).join(":");
    // What the host would send on its own would be in the way.
    assert!(ip(&format!("link set {NAME} up")));
    assert!(ip(&format!("addr replace 10.9.0.1/24 dev {NAME}")));
    assert!(ip(&format!("neigh replace 10.9.0.2 lladdr {mac} dev {NAME}")));
}

/// Sends a datagram to the guest, of a flow of its own.
pub(crate) fn send_datagram() {
    let socket = UdpSocket::bind("10.9.0.1:0").unwrap();
    socket.send_to(b"datagram", GUEST).unwrap();
}

/// Whether a frame is such a datagram.
pub(crate) fn is_datagram(frame: &[u8]) -> bool {
    frame.ends_with(b"datagram")
}

/// What `ip` knows of the interface.
pub(crate) fn shown() -> Value {
    let output = Command::new("ip").args(["-j", "-s", "link", "show", NAME]).output().unwrap();
    serde_json::from_slice::<Value>(&output.stdout).unwrap()[0].clone()
}

/// How many packets the host has had from the interface.
pub(crate) fn packets() -> u64 {
    shown()["stats64"]["rx"]["packets"].as_u64().unwrap()
}
