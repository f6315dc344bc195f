//! QEMU's generic vhost-user device with a console of ours (QEMU 10.2 or newer).
#![expect(clippy::unwrap_used, reason = "a test that meets what it does not expect fails")]

use e2e::{ConsoleScene, Kind, Kit, Place, require};

fn kit(name: &str, place: &Place) -> Option<Kit> {
    require(name, Kit::cached(place, Kind::LatestQemu))
}

/// Somebody logs in, asks the agent, and makes the terminal larger.
fn visit(name: &str, packed: bool) {
    let place = Place::of_workspace().unwrap();
    let Some(kit) = kit(name, &place) else { return };
    let mut desk = ConsoleScene { packed, ..ConsoleScene::new(name, &kit) }.start(&place).unwrap();
    for user in ["first", "second"] {
        desk.await_user(user).unwrap();
        let mut console = desk.log_in().unwrap();
        console.ask("echo $((6 * 7))", "\r\n42\r\n").unwrap();
        desk.resize(132, 43).unwrap();
        console.ask("sleep 0.5; stty size", "43 132").unwrap();
        let mut agent = desk.attach("agent").unwrap();
        agent.ask("memory", " kB\n").unwrap();
        console.ask("exit", "\r\n").unwrap();
    }
    if packed {
        let features = desk.features().unwrap();
        assert!(features.iter().any(|name| name == "RING_PACKED"), "{features:?}");
    }
    desk.finish().unwrap();
}

#[test]
fn a_login_over_split_rings() {
    visit("qemu-console-split", false);
}

#[test]
fn a_login_over_packed_rings() {
    visit("qemu-console-packed", true);
}
