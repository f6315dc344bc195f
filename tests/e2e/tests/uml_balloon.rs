//! User Mode Linux gives memory to a balloon of ours and takes it back. Meanwhile it checks random
//! bytes in its memory and all I/O on a disk, so that a hole where none should be shows.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use e2e::{BalloonScene, BalloonStage, FIRST, Job, Kind, Kit, Place, require};
use serde_json::json;

const MIB: u64 = 1 << 20;

/// A job that notices a wrong byte, and reports its memory.
fn checked() -> Job {
    Job::new().watched_memory(24).verified_io(FIRST, 2)
}

fn stage(name: &str, arguments: &[&str], job: Job) -> Option<BalloonStage> {
    let place = Place::of_workspace().unwrap();
    let kit = require(name, Kit::cached(&place, Kind::Uml))?;
    let mut scene = BalloonScene::new(name, &kit);
    scene.arguments = arguments.iter().map(|one| (*one).to_owned()).collect();
    let mut stage = scene.start(&place, job.report_memory()).unwrap();
    stage.guest.wait_for("memory").unwrap();
    Some(stage)
}

/// How far two numbers are apart, in MiB.
fn apart(one: u64, other: u64) -> u64 {
    one.abs_diff(other) / MIB
}

#[test]
fn the_guest_inflates_and_the_host_has_its_memory_back() {
    let job = checked().fill_and_free(200);
    let arguments = ["--no-deflate-on-oom", "--no-reporting"];
    let Some(mut stage) = stage("uml-balloon", &arguments, job) else { return };
    let (before, resident) = (stage.memory().unwrap(), stage.bytes("resident_bytes").unwrap());
    // Freed in the guest, and still there on the host: that is what a balloon is for.
    assert!(resident > 200 * MIB, "{resident}");

    stage.target(300 * MIB).unwrap();
    stage.until("actual_bytes", |bytes| bytes == 300 * MIB).unwrap();
    assert_eq!(stage.bytes("inside_bytes").unwrap(), 300 * MIB);
    let inflated = stage.memory().unwrap();
    assert!(apart(before.total - inflated.total, 300 * MIB) < 2, "{before:?} {inflated:?}");
    assert!(apart(before.available - inflated.available, 300 * MIB) < 24, "{inflated:?}");
    let left = stage.bytes("resident_bytes").unwrap();
    let returned = stage.bytes("returned_bytes").unwrap();
    assert!(resident - left > 150 * MIB, "{resident} became {left}");
    assert!(apart(returned, resident - left) < 32, "{returned} of {}", resident - left);
    assert_eq!(stage.bytes("punched_bytes").unwrap(), 300 * MIB);
    for nothing in ["pages_outside", "refused_holes", "lists_malformed", "unkept"] {
        assert_eq!(stage.bytes(nothing).unwrap(), 0, "{nothing}");
    }

    stage.target(0).unwrap();
    stage.until("actual_bytes", |bytes| bytes == 0).unwrap();
    assert_eq!(stage.bytes("inside_bytes").unwrap(), 0);
    let deflated = stage.memory().unwrap();
    assert_eq!(deflated.total, before.total);
    stage.verify().unwrap();
}

#[test]
fn what_is_in_the_balloon_is_known_after_a_kill() {
    let Some(mut stage) = stage("uml-balloon-kill", &[], checked()) else { return };
    stage.target(200 * MIB).unwrap();
    stage.until("actual_bytes", |bytes| bytes == 200 * MIB).unwrap();
    stage.daemon.kill().unwrap();
    stage.daemon = stage.plan.start().unwrap();
    for known in ["actual_bytes", "inside_bytes", "target_bytes"] {
        assert_eq!(stage.bytes(known).unwrap(), 200 * MIB, "{known}");
    }
    assert_eq!(stage.bytes("punched_bytes").unwrap(), 0);
    // Its front-end does not connect again; it lives on without a balloon, and its memory is right.
    stage.verify().unwrap();
}

#[test]
fn deferred_pages_go_back_when_that_is_allowed_again() {
    let job = checked().fill_and_free(200);
    let Some(mut stage) = stage("uml-balloon-deferred", &["--no-reporting"], job) else { return };
    stage.daemon.control(&json!({"cmd": "discard", "state": "off"})).unwrap();
    stage.target(300 * MIB).unwrap();
    stage.until("actual_bytes", |bytes| bytes == 300 * MIB).unwrap();
    assert_eq!(stage.bytes("punched_bytes").unwrap(), 0);
    assert_eq!(stage.bytes("deferred_bytes").unwrap(), 300 * MIB);

    // What comes out meanwhile is not given back later.
    stage.target(100 * MIB).unwrap();
    stage.until("actual_bytes", |bytes| bytes == 100 * MIB).unwrap();
    stage.daemon.control(&json!({"cmd": "discard", "state": "on"})).unwrap();
    stage.until("deferred_bytes", |bytes| bytes == 0).unwrap();
    assert_eq!(stage.bytes("punched_bytes").unwrap(), 100 * MIB);
    stage.verify().unwrap();
}

#[test]
fn a_freed_file_is_reported_and_given_back() {
    let job = checked().fill_and_free(250);
    let Some(mut stage) = stage("uml-balloon-reporting", &[], job) else { return };
    stage.until("returned_bytes", |bytes| bytes > 200 * MIB).unwrap();
    assert!(stage.bytes("reports").unwrap() > 0);
    assert!(stage.bytes("resident_bytes").unwrap() < 200 * MIB);
    assert_eq!(stage.bytes("refused_holes").unwrap(), 0);
    stage.verify().unwrap();
}
