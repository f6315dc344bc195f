//! passt as a stream's peer: it answers for the whole world, so a guest has a network.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use e2e::{PackageSet, Place, REQUIRE, Root, Suite};
use tempfile::TempDir;

use crate::card::{Card, LONG, MAC};
use crate::program::Daemon;

/// The packages that the VMM's tests need too, so that they are fetched once.
const PEERS: PackageSet = PackageSet {
    name: "peers",
    purpose: "back-ends of other projects",
    suites: &[Suite::Named("sid"), Suite::Named("testing")],
    packages: &["passt", "virtiofsd", "vhost-device-vsock"],
    keep: &[],
};

/// The program; ended when dropped.
struct Passt(Child);

impl Drop for Passt {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn root() -> Option<Root> {
    let place = Place::of_workspace().unwrap();
    if std::env::var_os(REQUIRE).is_none() {
        return Root::cached(&place, &PEERS);
    }
    let _lock = place.lock().unwrap();
    Some(Root::fetch(&place, &PEERS).unwrap())
}

fn start(directory: &TempDir) -> Option<Passt> {
    let skipped = |why: &str| {
        // The harness would keep this to itself if it were printed by a macro.
        let _ = writeln!(std::io::stderr(), "\n!!! NOT RUN: passt: {why}\n");
        None
    };
    let Some(root) = root() else { return skipped("it was not fetched") };
    // It gives up its rights before it makes its socket.
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(directory.path(), open).unwrap();
    let socket = directory.path().join("peer");
    let mut command = root.command("usr/bin/passt").unwrap();
    command.args(["--foreground", "--socket"]).arg(&socket);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    let mut passt = Passt(command.spawn().unwrap());
    let until = Instant::now() + LONG;
    while !socket.exists() {
        if passt.0.try_wait().unwrap().is_some() {
            return skipped("it ends at once, perhaps for want of namespaces");
        }
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(10));
    }
    Some(passt)
}

/// A request for the address of 10.0.0.1, from 10.0.0.9.
fn arp() -> Vec<u8> {
    let head = [&[0xff; 6][..], &MAC, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]].concat();
    let mut frame = [&head[..], &MAC, &[10, 0, 0, 9], &[0; 6], &[10, 0, 0, 1]].concat();
    frame.resize(60, 0);
    frame
}

/// DHCPDISCOVER (RFC 2131).
fn discover() -> Vec<u8> {
    let mut bootp = vec![1, 1, 6, 0, 7, 7, 7, 7, 0, 0, 0x80, 0];
    bootp.resize(28, 0);
    bootp.extend(MAC);
    bootp.resize(236, 0);
    bootp.extend([99, 130, 83, 99, 53, 1, 1, 55, 2, 1, 3, 255]);
    bootp.resize(300, 0);
    let udp = [&[0, 68, 0, 67][..], &(8 + bootp.len() as u16).to_be_bytes(), &[0, 0], &bootp];
    let udp = udp.concat();
    let length = (20 + udp.len() as u16).to_be_bytes();
    let mut ip = vec![0x45, 0, length[0], length[1], 0, 1, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0];
    ip.extend([255; 4]);
    let sum: u32 = ip.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    [&[0xff; 6][..], &MAC, &[8, 0], &ip, &udp].concat()
}

/// Asks until there is an answer: passt may not listen yet.
fn ask(card: &mut Card, request: Vec<u8>, is_answer: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let until = Instant::now() + LONG;
    let request = [request];
    while Instant::now() < until {
        card.send(&request);
        while let Some((_, frame)) = card.receive(Duration::from_millis(300)) {
            if is_answer(&frame) {
                return frame;
            }
        }
    }
    panic!("no answer");
}

#[test]
fn a_guest_has_a_network_through_passt() {
    let directory = tempfile::tempdir().unwrap();
    let Some(_passt) = start(&directory) else { return };
    let daemon = Daemon::start_in(directory, &["--unix=DIR/peer"]);
    let mut card = Card::connect(&daemon.path("s"), &[]);
    card.post(100, 2048);
    // It has a request of its own.
    let is_reply = |frame: &[u8]| frame.get(12..22) == Some(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
    let reply = ask(&mut card, arp(), is_reply);
    assert_eq!((&reply[..6], &reply[28..32]), (&MAC[..], &[10, 0, 0, 1][..]));
    let is_dhcp = |frame: &[u8]| frame.get(34..38) == Some(&[0, 67, 0, 68]);
    let offer = ask(&mut card, discover(), is_dhcp);
    assert_eq!((offer[42], &offer[46..50]), (2, &[7; 4][..]), "an answer to our request");
    assert_ne!(offer[58..62], [0; 4], "an address");
}
