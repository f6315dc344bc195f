//! User Mode Linux with a disk of ours: a real kernel's drivers, in seconds.

use e2e::{FIRST, Job, Kind, Kit, Place, Scene, require};

#[test]
fn files_survive_a_remount_and_random_writes_come_back() {
    let place = Place::of_workspace().unwrap();
    let Some(kit) = require("UML with a disk", Kit::cached(&place, Kind::Uml)) else { return };
    let job = Job::new()
        .describe(FIRST)
        .discard(FIRST)
        .filesystem(FIRST, 32)
        .stamped(FIRST, 3, 8)
        .end_of_disk(FIRST);
    let mut scene = Scene::new("uml-block", &kit);
    scene.arguments = vec!["--serial=uml-disk".into()];
    let report = scene.play(&place, job).unwrap();

    assert_eq!(report.number("capacity").unwrap(), scene.size);
    assert_eq!(report.get("serial"), "uml-disk");
    assert_eq!(report.get("discard"), "ok");
    assert_eq!(report.get("filesystem"), "ext4");
    assert_eq!(report.get("end"), "ok");
    assert!(report.number("checked_blocks").unwrap() > 0);
    assert!(report.counted("chains") > 0);
    assert_eq!(report.counted("errors"), 0);
    for feature in ["VERSION_1", "FLUSH", "DISCARD", "WRITE_ZEROES", "EVENT_IDX", "INDIRECT_DESC"] {
        assert!(
            report.features().iter().any(|name| name == feature),
            "{feature} is not negotiated"
        );
    }
}

#[test]
fn a_read_only_disk_refuses_writes() {
    let place = Place::of_workspace().unwrap();
    let Some(kit) = require("UML with a read-only disk", Kit::cached(&place, Kind::Uml)) else {
        return;
    };
    let mut scene = Scene::new("uml-read-only", &kit);
    scene.arguments = vec!["--read-only".into()];
    let report = scene.play(&place, Job::new().describe(FIRST).read_only(FIRST)).unwrap();
    assert_eq!(report.get("read_only"), "ok");
    assert!(report.features().iter().any(|name| name == "RO"));
}

#[test]
fn direct_io_serves_the_same_disk() {
    let place = Place::of_workspace().unwrap();
    let Some(kit) = require("UML with direct I/O", Kit::cached(&place, Kind::Uml)) else { return };
    let mut scene = Scene::new("uml-direct", &kit);
    scene.arguments = vec!["--cache=none".into()];
    let job = Job::new().describe(FIRST).filesystem(FIRST, 16).stamped(FIRST, 2, 4);
    let report = scene.play(&place, job).unwrap();
    assert_eq!(report.get("filesystem"), "ext4");
    assert!(report.number("checked_blocks").unwrap() > 0);
    assert_eq!(report.counted("errors"), 0);
}
