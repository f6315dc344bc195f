//! Interfaces that are not to be had: the program says what to do.

use std::process::{Command, Output};

use crate::interface::{enter_new_network, ip};
use crate::program::Daemon;

const PROGRAM: &str = env!("CARGO_BIN_EXE_outrigger-net");

/// What the program says of these arguments before it ends, which it has to.
fn complaint(rights: &[&str], arguments: &[&str]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let socket = format!("--socket-path={}", directory.path().join("s").display());
    let mut command = Command::new("timeout");
    command.arg("10").args(rights).args([PROGRAM, &socket]).args(arguments);
    let Output { status, stderr, .. } = command.output().unwrap();
    assert_eq!(status.code(), Some(1), "{arguments:?}");
    String::from_utf8_lossy(&stderr).into_owned()
}

/// As a user without any right over interfaces.
fn of_user(arguments: &[&str]) -> String {
    complaint(&["setpriv", "--bounding-set=-net_admin"], arguments)
}

fn of_root(arguments: &[&str]) -> String {
    complaint(&[], arguments)
}

fn assert_says(complaint: &str, words: &[&str]) {
    for word in words {
        assert!(complaint.contains(word), "{word:?} is not in {complaint}");
    }
}

#[test]
fn interface_missing() {
    if enter_new_network() {
        let line = "ip tuntap add dev tap7 mode tap user $USER vnet_hdr && ip link set tap7 up";
        assert_says(&of_user(&["--tap=tap7"]), &["no interface tap7", line]);
        let line = "mode tap user $USER multi_queue vnet_hdr";
        assert_says(&of_user(&["--tap=tap7", "--queue-pairs=2"]), &[line]);
    }
}

#[test]
fn no_permission() {
    if enter_new_network() {
        assert!(ip("tuntap add dev tap7 mode tap user nobody vnet_hdr"));
        let line = "ip tuntap add dev tap7 mode tap user $USER vnet_hdr";
        assert_says(&of_user(&["--tap=tap7"]), &["no permission", "ip link delete tap7", line]);
    }
}

#[test]
fn name_taken() {
    if enter_new_network() {
        assert!(ip("link add tap7 type bridge"));
        assert_says(&of_root(&["--tap=tap7"]), &["ip link delete tap7", "ip tuntap add dev tap7"]);
        let daemon = Daemon::start(&["--tap=tap8"]);
        daemon.wait_until_there();
        assert_says(&of_root(&["--tap=tap8"]), &["tap8 is in use", "another name"]);
        // As one thing or the other.
        let line = "mode tap multi_queue vnet_hdr";
        assert_says(&of_root(&["--tap=tap8", "--queue-pairs=2"]), &[line]);
    }
}

#[test]
fn too_many_queues() {
    if enter_new_network() {
        let all = ["--tap=tap7", "--queue-pairs=128"];
        let daemons = [(); 2].map(|()| Daemon::start(&all));
        daemons.iter().for_each(Daemon::wait_until_there);
        assert_says(&of_root(&["--tap=tap7", "--queue-pairs=2"]), &["256", "--queue-pairs"]);
    }
}

#[test]
fn mtu_mismatch() {
    if enter_new_network() {
        assert!(ip("tuntap add dev tap7 mode tap vnet_hdr"));
        let line = "ip link set dev tap7 mtu 9000";
        assert_says(&of_root(&["--tap=tap7", "--mtu=9000"]), &[line, "1500"]);
        assert!(ip("link set dev tap7 mtu 9000"));
        Daemon::start(&["--tap=tap7", "--mtu=9000"]).wait_until_there();
        // One of its own making, the program makes as it is to be.
        Daemon::start(&["--tap=tap6", "--mtu=9000"]).wait_until_there();
    }
}
