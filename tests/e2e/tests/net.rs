//! Real drivers with a network card of ours on a tap interface.
//!
//! QEMU is the newer one: 7.2 itself ends with a segmentation fault when the driver starts the card.

use std::time::Duration;

use e2e::{Job, Kind, Kit, NetReport, NetScene, Place, require};
use serde_json::json;

/// How long there is no daemon.
const AWAY: Duration = Duration::from_millis(500);
/// After it is back, traffic is too.
const RESUMED: Duration = Duration::from_secs(1);

fn kit(test: &str, place: &Place, kind: Kind) -> Option<Kit> {
    require(test, Kit::cached(place, kind))
}

/// Pings of all sizes and a transfer each way.
fn traffic(test: &str, kind: Kind, packed: bool, mebibytes: u32) -> Option<NetReport> {
    let place = require(test, Place::of_workspace())?;
    let kit = kit(test, &place, kind)?;
    let scene = NetScene { packed, mebibytes, ..NetScene::new(test, &kit) };
    let report =
        require(test, scene.play(&place, Job::new().network().pings().transfers(mebibytes)))?;
    assert_eq!(report.get("pings"), "ok");
    assert_eq!(report.get("transfers"), "ok");
    assert!(report.sums_agree(), "{report:?}");
    Some(report)
}

#[track_caller]
fn assert_features(report: &NetReport, wanted: &[&str]) {
    let features = report.features();
    for name in wanted {
        assert!(features.iter().any(|one| one == name), "{name} is not among {features:?}");
    }
}

const OFFLOADS: [&str; 5] = ["CSUM", "GUEST_CSUM", "HOST_TSO4", "GUEST_TSO4", "MRG_RXBUF"];

#[test]
fn user_mode_linux_exchanges_packets_of_all_sizes() {
    let Some(report) = traffic("uml-net", Kind::Uml, false, 64) else { return };
    assert_features(&report, &OFFLOADS);
}

#[test]
fn qemu_exchanges_packets_over_split_rings() {
    let Some(report) = traffic("qemu-net-split", Kind::NewQemu, false, 16) else { return };
    assert_features(&report, &OFFLOADS);
}

#[test]
fn qemu_exchanges_packets_over_packed_rings() {
    let Some(report) = traffic("qemu-net-packed", Kind::NewQemu, true, 16) else { return };
    assert_features(&report, &OFFLOADS);
    assert_features(&report, &["RING_PACKED"]);
}

#[test]
fn traffic_resumes_after_the_daemon_was_killed() {
    let test = "qemu-net-killed";
    let place = Place::of_workspace().unwrap();
    let Some(kit) = kit(test, &place, Kind::NewQemu) else { return };
    let scene = NetScene { reconnect: true, ..NetScene::new(test, &kit) };
    let job = Job::new().network().outlives_silence().transfers(scene.mebibytes);
    let Some(mut stage) = require(test, scene.start(&place, job)) else { return };
    stage.guest.wait_for("answered").unwrap();
    stage.daemon.kill().unwrap();
    std::thread::sleep(AWAY);
    stage.daemon = stage.plan.start().unwrap();
    let silence: u64 = stage.guest.wait_for("silence_cs").unwrap().parse().unwrap();
    let silence = Duration::from_millis(10 * silence);
    // What was on its way when the daemon ended may still have been answered.
    let short = AWAY - Duration::from_millis(100);
    assert!((short..AWAY + RESUMED).contains(&silence), "{silence:?} without an answer");
    assert!(stage.finish().unwrap().sums_agree());
}

#[test]
fn the_driver_sees_the_link_go_and_come() {
    let test = "uml-net-link";
    let place = Place::of_workspace().unwrap();
    let Some(kit) = kit(test, &place, Kind::Uml) else { return };
    let scene = NetScene::new(test, &kit);
    let job = Job::new().network().watches_link().pings();
    let Some(mut stage) = require(test, scene.start(&place, job)) else { return };
    stage.guest.wait_for("watching").unwrap();
    stage.daemon.control(&json!({"cmd": "link", "state": "down"})).unwrap();
    stage.guest.wait_for("link_down").unwrap();
    stage.daemon.control(&json!({"cmd": "link", "state": "up"})).unwrap();
    stage.guest.wait_for("link_up").unwrap();
    assert_eq!(stage.finish().unwrap().get("pings"), "ok");
}
