//! Guests that say what memory they have, and that need more of it than a balloon has left them: User Mode
//! Linux, and a stock kernel in QEMU.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use e2e::{BalloonScene, BalloonStage, FIRST, Job, Kind, Kit, Place, require};
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;

fn stage(name: &str, kind: Kind, arguments: &[String], job: Job) -> Option<BalloonStage> {
    let place = Place::of_workspace().unwrap();
    let kit = require(name, Kit::cached(&place, kind))?;
    let mut scene = BalloonScene::new(name, &kit);
    scene.arguments = arguments.to_vec();
    Some(scene.start(&place, job.report_memory()).unwrap())
}

/// How far two numbers are apart, in MiB.
fn apart(one: u64, other: u64) -> u64 {
    one.abs_diff(other) / MIB
}

/// What a guest's driver says is what `/proc` in the guest says.
fn statistics(name: &str, kind: Kind) {
    let job = Job::new().report_events();
    let Some(mut stage) = stage(name, kind, &[], job) else { return };
    let before = stage.events().unwrap();
    let guest = stage.new_statistics().unwrap();
    let (memory, after) = (stage.memory().unwrap(), stage.events().unwrap());
    let value = |name: &str| guest.get(name).and_then(Value::as_u64).unwrap();
    assert_eq!(value("total-memory"), memory.total);
    assert!(apart(value("available-memory"), memory.available) < 4, "{guest} {memory:?}");
    assert!(apart(value("free-memory"), memory.free) < 4, "{guest} {memory:?}");
    assert!(apart(value("disk-caches"), after.cached) < 4, "{guest} {after:?}");
    assert_eq!((value("swap-in"), value("swap-out")), after.swapped);
    let faults = before.major_faults..=after.major_faults;
    assert!(faults.contains(&value("major-faults")), "{guest} {faults:?}");
    // Older kernels do not say.
    let kills = guest.get("oom-kills").and_then(Value::as_u64);
    assert!(kills.is_none_or(|kills| kills == after.oom_kills), "{guest}");

    stage.daemon.control(&json!({"cmd": "polling", "seconds": 1})).unwrap();
    let now = stage.bytes("statistics").unwrap();
    stage.until("statistics", |count| count >= now + 2).unwrap();
}

/// A guest that needs more than there is outside the balloon takes it out, and nobody has to die.
fn hog(name: &str, kind: Kind) {
    // The balloon leaves less than the hog needs.
    let job = Job::new().watched_memory(24).verified_io(FIRST, 2);
    let job = job.report_events().gives_memory(160).hog(260);
    let arguments = [format!("--target={}", 300 * MIB), "--no-reporting".into()];
    let Some(mut stage) = stage(name, kind, &arguments, job) else { return };
    stage.guest.wait_for("hogging").unwrap();
    stage.guest.wait_for("hogged").unwrap();
    let memory = stage.memory().unwrap();
    // What it took back is out of the balloon on both sides.
    let inside = stage.bytes("inside_bytes").unwrap();
    assert!(inside < 240 * MIB, "{inside}");
    stage.until("actual_bytes", |bytes| bytes == inside).unwrap();
    assert!(stage.bytes("pages_deflated").unwrap() * 4096 >= 60 * MIB);
    assert_eq!(stage.events().unwrap().oom_kills, 0);
    assert!(memory.available > 100 * MIB, "{memory:?}");

    // The balloon still obeys.
    stage.target(0).unwrap();
    stage.until("actual_bytes", |bytes| bytes == 0).unwrap();
    stage.verify().unwrap();
}

#[test]
fn statistics_are_those_of_user_mode_linux() {
    statistics("uml-balloon-statistics", Kind::Uml);
}

#[test]
fn statistics_are_those_of_a_kernel_in_qemu() {
    statistics("qemu-balloon-statistics", Kind::LatestQemu);
}

#[test]
fn user_mode_linux_that_runs_out_of_memory_takes_it_back() {
    hog("uml-balloon-hog", Kind::Uml);
}

#[test]
fn a_kernel_in_qemu_that_runs_out_of_memory_takes_it_back() {
    hog("qemu-balloon-hog", Kind::LatestQemu);
}
