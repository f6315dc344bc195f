//! User Mode Linux with a console of ours: a real kernel's drivers, and somebody who types.
#![expect(clippy::unwrap_used, reason = "a test that meets what it does not expect fails")]

use e2e::{Desk, Kind, Kit, Place, require};
use serde_json::json;

/// Bytes through the third port, each way.
const BULK: usize = 4 << 20;

#[test]
fn a_shell_an_agent_and_much_data() {
    let place = Place::of_workspace().unwrap();
    let kit = Kit::cached(&place, Kind::Uml);
    let Some(kit) = require("UML with a console", kit) else { return };
    let desk = Desk::start(&place, &kit, "uml-console").unwrap();

    // What the shell said before anybody looked is there for whoever comes.
    let mut console = desk.attach("con").unwrap();
    console.read_until("# ").unwrap();
    console.ask("echo $((6 * 7))", "\r\n42\r\n").unwrap();

    console.ask("stty size", "24 80").unwrap();
    desk.daemon.control(&json!({"cmd": "resize", "cols": 132, "rows": 43})).unwrap();
    console.ask("sleep 0.2; stty size", "43 132").unwrap();

    let mut agent = desk.attach("agent").unwrap();
    assert_eq!(agent.ask("status", "\n").unwrap(), "answer: status\n");

    bulk(&desk, &mut console);

    // Away and back: the guest has noticed nothing.
    console.ask("export KEPT=yes", "\r\n").unwrap();
    drop(console);
    let mut console = desk.attach("con").unwrap();
    console.ask("echo kept=$KEPT", "kept=yes").unwrap();
    console.send(b"exit\n").unwrap();
    desk.finish().unwrap();
}

/// Bytes to the guest, which says what their checksum is and sends them back.
fn bulk(desk: &Desk, console: &mut e2e::Typist) {
    let bytes: Vec<u8> =
        (0..BULK / 8).flat_map(|n| (n.wrapping_mul(0x9e37_79b9) as u64).to_be_bytes()).collect();
    let mut peer = desk.attach("bulk").unwrap();
    let receive = format!("head -c {BULK} /dev/virtio-ports/bulk > /tmp/bulk; wc -c < /tmp/bulk");
    console.send(format!("{receive}\n").as_bytes()).unwrap();
    peer.send(&bytes).unwrap();
    console.read_until(&format!("\r\n{BULK}\r\n")).unwrap();
    console.send(b"cat /tmp/bulk > /dev/virtio-ports/bulk\n").unwrap();
    assert!(peer.receive(BULK).unwrap() == bytes);
}
