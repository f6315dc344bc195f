//! DPDK's driver over every path of its own ring code and ours: split and packed, mergeable or not, in
//! order or not. Each frame has a number and bytes that follow from it; every one is looked for.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use e2e::{
    DPDK, Daemon, Error, Place, Plan, Programs, REQUIRE, RingPath, Root, RunDir, Testpmd, numbered,
    read_pcap, require, write_pcap,
};
use serde_json::{Value, json};

/// How many frames go each way.
const FRAMES: u32 = 3000;
/// The addresses of two guests.
const GUESTS: [[u8; 6]; 2] = [[0x52, 0x54, 0, 0, 0, 1], [0x52, 0x54, 0, 0, 0, 2]];
/// The largest frame of Ethernet.
const LARGEST: usize = 1514;
/// How long all frames may take.
const LIMIT: Duration = Duration::from_secs(20);
/// Descriptors of what is sent at a time: fewer than there are of what is received, so that there is
/// always room for what comes back.
const IN_FLIGHT: &str = "--txd=64";

fn root() -> Result<Root, Error> {
    let place = Place::of_workspace()?;
    if std::env::var_os(REQUIRE).is_some() {
        let _lock = place.lock()?;
        return Root::fetch(&place, &DPDK);
    }
    Root::cached(&place, &DPDK).ok_or_else(|| Error::Missing {
        what: DPDK.purpose.into(),
        how: "`cargo xtask test` fetches it into target/guests".into(),
    })
}

/// Frames of all sizes from one guest to the other.
fn frames(from: usize) -> Vec<Vec<u8>> {
    let length = |number: u32| 60 + (number as usize * 7919) % (LARGEST - 59);
    let (sender, receiver) = (GUESTS[from], GUESTS[1 - from]);
    (0..FRAMES).map(|number| numbered(sender, receiver, number, length(number))).collect()
}

fn counted(stats: &Value, name: &str) -> u64 {
    stats["device_stats"][name].as_u64().unwrap_or_else(|| panic!("no {name} in {stats}"))
}

/// Waits until the daemon has done what it has to.
fn wait(daemon: &Daemon, done: impl Fn(&Value) -> bool) -> Value {
    let until = Instant::now() + LIMIT;
    loop {
        let stats = daemon.control(&json!({"cmd": "stats"})).unwrap();
        if done(&stats) || Instant::now() > until {
            return stats;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

struct Stage {
    root: Root,
    run: RunDir,
    files: [PathBuf; 2],
}

impl Stage {
    fn new(test: &str) -> Option<Self> {
        let root = require(test, root())?;
        let run = RunDir::create(&Place::of_workspace().unwrap(), test).unwrap();
        let files = ["in.pcap", "out.pcap"].map(|name| run.file(name));
        Some(Self { root, run, files })
    }

    fn testpmd(&self, name: &str) -> Testpmd {
        // It would throw away what is in a file before it starts.
        Testpmd::new(&self.root, name, 0, 1).unwrap().with(IN_FLIGHT).with("--no-flush-rx")
    }
}

#[test]
fn every_frame_comes_back_on_every_path() {
    let Some(stage) = Stage::new("paths-echo") else { return };
    let [sent, returned] = &stage.files;
    let frames = frames(0);
    write_pcap(sent, &frames).unwrap();
    let programs = Programs::on_demand();
    let arguments = ["--echo", "--packed", "--in-order"];
    let plan = Plan::new(&stage.run, &programs, "net", &arguments).unwrap();
    for path in RingPath::all() {
        let daemon = plan.start().unwrap();
        let client = stage.testpmd("echo").files(sent, returned).driver(plan.socket(), path, "");
        let mut client = client.start(&stage.run.log("testpmd").unwrap()).unwrap();
        // What finds no room is tried again, here for a second at most; else it would be dropped.
        client.tell("set fwd io retry").unwrap();
        client.tell("set burst tx delay 10 retry 100000").unwrap();
        client.tell("start").unwrap();
        let stats = wait(&daemon, |stats| counted(stats, "rx_frames") >= u64::from(FRAMES));
        std::thread::sleep(Duration::from_millis(50));
        client.finish().unwrap();
        for (name, wanted) in [("tx_frames", FRAMES), ("rx_frames", FRAMES), ("tx_dropped", 0)] {
            assert_eq!(counted(&stats, name), u64::from(wanted), "{path}: {name} in {stats}");
        }
        assert!(read_pcap(returned).unwrap() == frames, "{path}: what came back is not what went");
        daemon.stop().unwrap();
    }
}

/// Both guests send at once.
#[test]
fn two_guests_exchange_every_frame_on_every_path() {
    let Some(stage) = Stage::new("paths-switch") else { return };
    let second = ["b-in.pcap", "b-out.pcap"].map(|name| stage.run.file(name));
    let other = stage.run.socket("other");
    let programs = Programs::on_demand();
    let socket = format!("--socket-path={}", other.display());
    let arguments = ["--switch", "--packed", "--in-order", &socket];
    let plan = Plan::new(&stage.run, &programs, "net", &arguments).unwrap();
    for path in RingPath::all() {
        let sent = [frames(0), frames(1)];
        write_pcap(&stage.files[0], &sent[0]).unwrap();
        write_pcap(&second[0], &sent[1]).unwrap();
        let daemon = plan.start().unwrap();
        let mac = |[a, b, c, d, e, f]: [u8; 6]| {
            format!(",mac={a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
        };
        let client = stage
            .testpmd("switch")
            .files(&stage.files[0], &stage.files[1])
            .driver(plan.socket(), path, &mac(GUESTS[0]))
            .driver(&other, path, &mac(GUESTS[1]))
            .files(&second[0], &second[1]);
        let mut client = client.start(&stage.run.log("testpmd").unwrap()).unwrap();
        client.tell("set fwd io retry").unwrap();
        client.tell("set burst tx delay 10 retry 100000").unwrap();
        client.tell("start").unwrap();
        let both = u64::from(2 * FRAMES);
        let sum = |stats: &Value, name: &str| -> u64 {
            let ports = stats["ports"].as_array().unwrap();
            ports.iter().map(|port| counted(port, name)).sum()
        };
        let stats = wait(&daemon, |stats| sum(stats, "rx_frames") >= both);
        std::thread::sleep(Duration::from_millis(50));
        client.finish().unwrap();
        for (name, wanted) in [("tx_frames", both), ("rx_frames", both), ("tx_dropped", 0)] {
            assert_eq!(sum(&stats, name), wanted, "{path}: {name} in {stats}");
        }
        let got = [read_pcap(&second[1]).unwrap(), read_pcap(&stage.files[1]).unwrap()];
        assert!(sent == got, "{path}: what arrived is not what was sent");
        daemon.stop().unwrap();
    }
}
