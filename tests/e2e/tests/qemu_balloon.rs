//! QEMU's generic vhost-user device as the front-end of a balloon: a stock kernel's driver over PCI, with
//! split and packed rings. Meanwhile the guest checks random bytes in its memory and all I/O on a disk.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use e2e::{BalloonScene, FIRST, Job, Kind, Kit, Place, require};
use serde_json::Value;

const MIB: u64 = 1 << 20;
/// What the guest is asked for.
const ASKED: u64 = 200 * MIB;

fn play(name: &str, packed: bool) {
    let place = Place::of_workspace().unwrap();
    let Some(kit) = require(name, Kit::cached(&place, Kind::LatestQemu)) else { return };
    let mut scene = BalloonScene::new(name, &kit);
    scene.packed = packed;
    // So that MemTotal shows the balloon.
    scene.arguments = vec!["--no-deflate-on-oom".into()];
    let job = Job::new().watched_memory(16).verified_io(FIRST, 2).fill_and_free(100);
    let mut stage = scene.start(&place, job.report_memory()).unwrap();
    let before = stage.memory().unwrap();
    // What was freed is reported without being asked for.
    stage.until("returned_bytes", |bytes| bytes > 64 * MIB).unwrap();

    stage.target(ASKED).unwrap();
    stage.until("actual_bytes", |bytes| bytes == ASKED).unwrap();
    assert_eq!(stage.bytes("inside_bytes").unwrap(), ASKED);
    let inflated = stage.memory().unwrap();
    assert!((before.total - inflated.total).abs_diff(ASKED) < 2 * MIB, "{before:?} {inflated:?}");
    let statistics = stage.new_statistics().unwrap();
    assert_eq!(statistics.get("total-memory").and_then(Value::as_u64), Some(inflated.total));

    stage.target(0).unwrap();
    stage.until("actual_bytes", |bytes| bytes == 0).unwrap();
    assert_eq!(stage.bytes("inside_bytes").unwrap(), 0);
    assert_eq!(stage.memory().unwrap().total, before.total);
    for nothing in ["pages_outside", "pages_not_inside", "refused_holes", "lists_malformed"] {
        assert_eq!(stage.bytes(nothing).unwrap(), 0, "{nothing}");
    }
    // That device does not connect again; its guest lives on, and whoever comes knows what was inside.
    stage.target(ASKED / 2).unwrap();
    stage.until("actual_bytes", |bytes| bytes == ASKED / 2).unwrap();
    stage.daemon.kill().unwrap();
    stage.daemon = stage.plan.start().unwrap();
    for known in ["actual_bytes", "inside_bytes", "target_bytes"] {
        assert_eq!(stage.bytes(known).unwrap(), ASKED / 2, "{known}");
    }
    assert_eq!(stage.bytes("punched_bytes").unwrap(), 0);
    stage.verify().unwrap();
}

#[test]
fn a_balloon_over_pci() {
    play("qemu-balloon", false);
}

#[test]
fn a_balloon_over_pci_with_packed_rings() {
    play("qemu-balloon-packed", true);
}
