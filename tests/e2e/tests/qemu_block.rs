//! Debian's kernel in QEMU with a disk of ours, on each kind of ring.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use e2e::{FIRST, Job, Kind, Kit, Place, Report, Scene, require};

/// Plays the same scene on split or packed rings, with two CPUs and so two request queues.
fn play(name: &str, packed: bool) -> Option<Report> {
    let place = Place::of_workspace().unwrap();
    let kit = require(name, Kit::cached(&place, Kind::Qemu))?;
    let job = Job::new()
        .describe(FIRST)
        .discard(FIRST)
        .filesystem(FIRST, 32)
        .stamped(FIRST, 3, 8)
        .end_of_disk(FIRST);
    let mut scene = Scene::new(name, &kit);
    scene.packed = packed;
    scene.cpus = 2;
    let report = scene.play(&place, job).unwrap();

    assert_eq!(report.number("capacity").unwrap(), scene.size);
    assert_eq!(report.number("queues").unwrap(), 2);
    assert_eq!(report.get("discard"), "ok");
    assert_eq!(report.get("filesystem"), "ext4");
    assert_eq!(report.get("end"), "ok");
    assert!(report.number("checked_blocks").unwrap() > 0);
    assert!(report.counted("chains") > 0);
    assert_eq!(report.counted("errors"), 0);
    Some(report)
}

#[test]
fn split_rings() {
    let Some(report) = play("qemu-split", false) else { return };
    assert!(!report.features().iter().any(|name| name == "RING_PACKED"));
}

#[test]
fn packed_rings() {
    let Some(report) = play("qemu-packed", true) else { return };
    assert!(report.features().iter().any(|name| name == "RING_PACKED"));
}
