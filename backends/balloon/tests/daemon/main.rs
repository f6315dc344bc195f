//! The program: command line, front-end, control socket, and what a successor knows.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that meets what it does not expect fails"
)]

mod pressure;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use driver::{
    Buffer, FrontEnd, Memory, Negotiation, Part, Placement, Queue, RegionSpec, RingEvents,
};
use serde_json::Value;
use tempfile::TempDir;
use virtio_spec::DeviceType;
use virtio_spec::balloon::{
    ACTUAL_OFFSET, Config, MUST_TELL_HOST, PAGE_REPORTING, STATS_VQ, Stat, StatTag,
};
use virtio_spec::features::{EVENT_IDX, INDIRECT_DESC, mask};

const PAGE: u64 = 4096;
/// Where the pages are that go in and out; rings and lists are below.
const PAGES: u64 = 16 << 20;
const SIZE: u64 = 4 << 20;
const ACTUAL: u32 = ACTUAL_OFFSET as u32;
const STATISTICS: usize = 2;

struct Daemon {
    child: Child,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder for sockets and state, and daemons that come one after the other.
struct Place(TempDir);

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn start(&self, more: &[&str]) -> Daemon {
        let child = Command::new(env!("CARGO_BIN_EXE_outrigger-balloon"))
            .arg(format!("--socket-path={}", self.path("s").display()))
            .arg(format!("--control-path={}", self.path("c").display()))
            .arg(format!("--state-path={}", self.path("state").display()))
            .args(more)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Daemon { child }
    }

    fn ask(&self, line: &str) -> Value {
        let until = Instant::now() + Duration::from_secs(10);
        let mut socket = loop {
            match UnixStream::connect(self.path("c")) {
                Ok(socket) => break socket,
                Err(error) if Instant::now() > until => panic!("{error}"),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        writeln!(socket, "{line}").unwrap();
        let mut answer = String::new();
        BufReader::new(socket).read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    }

    fn stat(&self, key: &str) -> Value {
        self.ask("{\"cmd\":\"stats\"}")["device_stats"][key].clone()
    }
}

struct Driver {
    front_end: FrontEnd,
    memory: Memory,
    queues: Vec<(Queue, RingEvents)>,
    /// The statistics that the device holds.
    told: Option<Buffer>,
}

impl Driver {
    fn connect(place: &Place) -> Self {
        let regions = [RegionSpec::new(1 << 16, 4 << 20), RegionSpec::new(PAGES, SIZE)];
        let memory = Memory::with_regions(&regions).unwrap();
        let front_end = FrontEnd::connect(&place.path("s"), &memory).unwrap();
        let mut front_end = front_end.of_device(DeviceType::BALLOON);
        let bits = [MUST_TELL_HOST, STATS_VQ, PAGE_REPORTING, EVENT_IDX, INDIRECT_DESC];
        let wanted = bits.iter().map(|bit| mask(*bit)).sum();
        front_end.negotiate(&Negotiation::new(wanted)).unwrap();
        front_end.open_back_channel().unwrap();
        front_end.share_memory().unwrap();
        front_end.set_up_inflight(4, 64).unwrap();
        let queues = Vec::new();
        let mut driver = Driver { front_end, memory, queues, told: None };
        for index in 0..4 {
            let queue = driver.front_end.queue(index, 64).unwrap();
            let events = driver.front_end.start_ring(index, &queue, 0).unwrap();
            driver.queues.push((queue, events));
        }
        driver
    }

    /// Goes on with another daemon, where the rings are.
    fn reconnect(&mut self, place: &Place) {
        let until = Instant::now() + Duration::from_secs(10);
        let socket = loop {
            match UnixStream::connect(place.path("s")) {
                Ok(socket) => break socket,
                Err(error) if Instant::now() > until => panic!("{error}"),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        self.front_end.reconnect(socket).unwrap();
        for (index, (queue, events)) in (0..).zip(&mut self.queues) {
            let base = queue.reaped_base();
            *events = self.front_end.start_ring(index, queue, base).unwrap();
        }
    }

    fn list(&mut self, queue: usize, pages: std::ops::Range<u64>) {
        let first = PAGES / PAGE;
        let numbers = pages.map(|page| u32::try_from(first + page).unwrap().to_le_bytes());
        let list = self.memory.alloc_with(&numbers.collect::<Vec<_>>().concat()).unwrap();
        let part = Part::readable(list.addr(), u32::try_from(list.len()).unwrap());
        let deadline = self.front_end.deadline();
        let (ring, events) = self.queues.get_mut(queue).unwrap();
        ring.add(&[part], Placement::Direct).unwrap();
        ring.publish();
        events.kick.signal().unwrap();
        while ring.reap().unwrap().is_none() {
            assert!(!deadline.is_past(), "the device does not answer");
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    fn blocks(&self) -> u64 {
        let file = self.memory.file(PAGES).unwrap();
        u64::try_from(rustix::fs::fstat(file).unwrap().st_blocks).unwrap() * 512
    }
}

#[test]
fn a_daemon_that_is_killed_while_inflated_leaves_a_successor_that_knows() {
    let place = Place(tempfile::tempdir().unwrap());
    let first = place.start(&[]);
    let mut driver = Driver::connect(&place);
    driver.memory.area(PAGES, usize::try_from(SIZE).unwrap()).unwrap().fill(0x5a);

    let answer = place.ask("{\"cmd\":\"target\",\"bytes\":1048576}");
    assert_eq!(answer["target_bytes"], 1 << 20);
    driver.front_end.wait_for_config_change().unwrap();
    let config = driver.front_end.read_config(0, 16).unwrap();
    assert_eq!(Config::from_prefix(&config).unwrap().num_pages, 256);

    driver.list(0, 0..256);
    driver.front_end.write_config(ACTUAL, &256_u32.to_le_bytes()).unwrap();
    assert_eq!(driver.blocks(), SIZE - (1 << 20));
    assert_eq!(place.stat("resident_bytes").as_u64().unwrap() % PAGE, 0);
    place.ask("{\"cmd\":\"discard\",\"state\":\"off\"}");
    driver.list(0, 256..512);
    driver.list(1, 256..384);

    drop(first);
    let _second = place.start(&[]);
    for (key, pages) in [("actual_bytes", 256), ("inside_bytes", 384), ("deferred_bytes", 128)] {
        assert_eq!(place.stat(key), pages * PAGE, "{key}");
    }
    assert_eq!((place.stat("discard"), place.stat("punched_bytes")), (false.into(), 0.into()));
    driver.reconnect(&place);
    place.ask("{\"cmd\":\"discard\",\"state\":\"on\"}");
    // What waited goes back; what came out is the driver's.
    let deadline = driver.front_end.deadline();
    while place.stat("deferred_bytes") != 0 {
        assert!(!deadline.is_past(), "{}", place.stat("deferred_bytes"));
    }
    assert_eq!(driver.blocks(), SIZE - (384 * PAGE));
    let taken = driver.memory.area(PAGES + 256 * PAGE, usize::try_from(128 * PAGE).unwrap());
    assert!(taken.unwrap().to_vec().iter().all(|byte| *byte == 0x5a));
    driver.list(1, 0..256);
    assert_eq!(place.stat("inside_bytes"), 128 * PAGE);
}

impl Driver {
    /// Makes a buffer of statistics available, of which the device keeps one.
    fn tell(&mut self, stats: &[(StatTag, u64)]) {
        let bytes: Vec<u8> = stats
            .iter()
            .flat_map(|(tag, value)| Stat { tag: *tag as u16, value: *value }.to_bytes())
            .collect();
        let (ring, events) = self.queues.get_mut(STATISTICS).unwrap();
        while ring.reap().unwrap().is_some() {}
        if ring.in_flight() == 0 {
            let buffer = self.memory.alloc_with(&bytes).unwrap();
            ring.add(&[buffer.readable()], Placement::Direct).unwrap();
            ring.publish();
            events.kick.signal().unwrap();
            self.told = Some(buffer);
        }
    }
}

#[test]
fn the_pressure_is_read_by_a_confined_daemon() {
    let place = Place(tempfile::tempdir().unwrap());
    let pressure = place.path("pressure");
    std::fs::write(&pressure, "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n").unwrap();
    let _daemon = place.start(&["--auto", &format!("--auto-pressure={}", pressure.display())]);
    assert_eq!(place.ask("{\"cmd\":\"config\"}")["auto"], true);
    let refused = place.ask("{\"cmd\":\"target\",\"bytes\":0}");
    assert!(refused["error"].as_str().unwrap().contains("--auto"), "{refused}");
}
