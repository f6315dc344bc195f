//! A daemon that is killed in mid-work and started again: the guest goes on, nothing is lost.
//!
//! QEMU connects again by itself and gives the new process the in-flight region of the old one. The
//! guest's program notes each write that was reported done and reads every one back in the end, so
//! a request that was lost, or completed without having been done, shows.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use e2e::{FIRST, Job, Kind, Kit, Place, Scene, Stage, require};

/// How often the daemon dies.
const KILLS: u32 = 4;
/// For how long there is none.
const GONE: Duration = Duration::from_millis(300);
/// Writes that have to be done between two deaths.
const BETWEEN: u64 = 200;

#[test]
fn split_rings() {
    kill_in_mid_work("qemu-restart-split", false);
}

#[test]
fn packed_rings() {
    kill_in_mid_work("qemu-restart-packed", true);
}

fn kill_in_mid_work(name: &str, packed: bool) {
    let place = Place::of_workspace().unwrap();
    let Some(kit) = require(name, Kit::cached(&place, Kind::Qemu)) else { return };
    let mut scene = Scene::new(name, &kit);
    scene.packed = packed;
    scene.reconnect = true;
    scene.cpus = 2;
    let mut stage = scene.start(&place, Job::new().describe(FIRST).stamped(FIRST, 20, 16)).unwrap();

    let mut written = await_writes(&mut stage, BETWEEN);
    for _ in 0..KILLS {
        stage.daemon.kill().unwrap();
        std::thread::sleep(GONE);
        stage.daemon = stage.plan.spawn().unwrap();
        written = await_writes(&mut stage, written + BETWEEN);
    }
    let report = stage.finish().unwrap();
    assert!(report.number("writes").unwrap() >= written);
    assert!(report.number("checked_blocks").unwrap() > 0);
    // Otherwise no request was under way when the daemon died, and nothing was tested.
    assert!(report.number("longest_ms").unwrap() >= u64::try_from(GONE.as_millis()).unwrap());
}

/// Waits until the guest has done so many writes in all, and returns how many it has done.
fn await_writes(stage: &mut Stage, enough: u64) -> u64 {
    loop {
        let written = stage.guest.wait_for("progress").unwrap().parse().unwrap();
        if written >= enough {
            return written;
        }
    }
}
