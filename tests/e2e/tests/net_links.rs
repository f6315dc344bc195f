//! Networks around a guest's card: large MTUs, streams, a host behind the host, checksums.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use e2e::{Job, Kind, Kit, Namespace, NetScene, NetStage, Place, Receiver, Stream, require};

/// Behind the host, on a link without offloads.
const FAR: &str = "203.0.113.2";
/// Where a server there takes what the guest sends.
const PORT: u16 = 5003;
/// After the daemon is back, traffic is too.
const RESUMED: Duration = Duration::from_secs(1);

struct Ready {
    place: Place,
    kit: Kit,
}

fn ready(test: &str, kind: Kind) -> Option<Ready> {
    let place = require(test, Place::of_workspace())?;
    let kit = require(test, Kit::cached(&place, kind))?;
    Some(Ready { place, kit })
}

#[test]
fn streams_flow_both_ways() {
    let test = "uml-net-streams";
    let Some(Ready { place, kit }) = ready(test, Kind::Uml) else { return };
    let job = Stream::ALL.into_iter().fold(Job::new().network(), |job, one| job.stream(one, 1));
    let Some(report) = require(test, NetScene::new(test, &kit).play(&place, job)) else { return };
    for stream in Stream::ALL {
        let rate = stream.rate(&report.results).unwrap();
        assert!(rate > 1e6, "{}: {rate} bits a second", stream.title());
    }
}

#[test]
fn large_frames_pass() {
    let test = "uml-net-links";
    let Some(Ready { place, kit }) = ready(test, Kind::Uml) else { return };
    let scene = NetScene::new(test, &kit);
    let job = Job::new().network().mtu(9000).mtu(65_520).transfers(scene.mebibytes);
    let Some(stage) = require(test, scene.start(&place, job)) else { return };
    stage.namespace().ip("link set tap0 mtu 65520").unwrap();
    let report = stage.finish().unwrap();
    for done in ["mtu_9000", "mtu_65520"] {
        assert_eq!(report.get(done), "ok", "{done}");
    }
    assert!(report.sums_agree());
}

#[test]
fn checksums_are_complete_beyond_the_host() {
    let test = "uml-net-far";
    let Some(Ready { place, kit }) = ready(test, Kind::Uml) else { return };
    let job = Job::new().network().sends_far(FAR, PORT, 8);
    let Some(far) = require(test, Namespace::empty("far")) else { return };
    let Some(stage) = require(test, NetScene::new(test, &kit).start(&place, job)) else { return };
    stage.namespace().connect(&far, &kit).unwrap();
    let receiver = Receiver::start(&far, FAR.parse::<Ipv4Addr>().unwrap()).unwrap();
    let _sink = stage.sink(&far, PORT).unwrap();
    assert_eq!(stage.finish().unwrap().get("sent_far"), "ok");
    let seen = receiver.finish().unwrap();
    assert_eq!(seen.wrong, 0, "{seen:?}");
    assert!(seen.tcp > 1000 && seen.udp >= 4, "{seen:?}");
}

#[test]
fn a_card_without_offloads_has_complete_checksums() {
    let test = "uml-net-plain";
    let Some(Ready { place, kit }) = ready(test, Kind::Uml) else { return };
    let arguments = vec!["--no-offloads".to_owned()];
    let scene = NetScene { arguments, ..NetScene::new(test, &kit) };
    let job = Job::new().network().pings().transfers(scene.mebibytes);
    let Some(stage) = require(test, scene.start(&place, job)) else { return };
    // All that the guest sends is complete already when it comes to the host.
    let host = Ipv4Addr::new(192, 0, 2, 1);
    let receiver = Receiver::start(stage.namespace(), host).unwrap();
    let report = stage.finish().unwrap();
    assert!(report.sums_agree());
    assert!(!report.features().iter().any(|name| name.ends_with("CSUM")), "{report:?}");
    let seen = receiver.finish().unwrap();
    assert!(seen.wrong == 0 && seen.tcp > 1000, "{seen:?}");
}

#[test]
fn a_stream_goes_on_when_the_daemon_is_killed() {
    let test = "qemu-net-stream-killed";
    let Some(Ready { place, kit }) = ready(test, Kind::NewQemu) else { return };
    let scene = NetScene { reconnect: true, ..NetScene::new(test, &kit) };
    let stream = Stream::ALL[0];
    let job = Job::new().network().stream(stream, 6);
    let Some(mut stage) = require(test, scene.start(&place, job)) else { return };
    stage.guest.wait_for(&format!("begins_{}", stream.key())).unwrap();
    await_frames(&stage, Duration::from_secs(5));
    for _ in 0..2 {
        stage.daemon.kill().unwrap();
        stage.daemon = stage.plan.start().unwrap();
        let silence = await_frames(&stage, Duration::from_secs(10));
        assert!(silence <= RESUMED, "{silence:?} without a frame");
        std::thread::sleep(Duration::from_millis(500));
    }
    let report = stage.finish().unwrap();
    assert!(stream.rate(&report.results).unwrap() > 0.0);
}

/// How long it takes until the host has got a good many frames more.
fn await_frames(stage: &NetStage, limit: Duration) -> Duration {
    const MANY: u64 = 50;
    let frames = || -> u64 {
        stage.namespace().interface("tap0", "statistics/rx_packets").unwrap().parse().unwrap()
    };
    let (begun, before) = (Instant::now(), frames());
    while frames() < before + MANY {
        assert!(begun.elapsed() < limit, "no frames any more");
        std::thread::sleep(Duration::from_millis(10));
    }
    begun.elapsed()
}
