//! The block back-end of this project, as a process that is killed.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use driver::{BlockQueue, Disk, Operation, Queue};
use e2e::{Daemon, Place, Plan, Programs, RunDir};
use front_end::Socket;
use kill_campaign::{Delays, SlowDisk};
use virtio_pci::Device;

use crate::guest::{Doorbell, Guest, LONG};

/// A daemon with a disk of 4 MiB, and a guest of it.
pub(crate) struct Rig {
    _run: RunDir,
    plan: Plan,
    daemon: Option<Daemon>,
    pub(crate) guest: Guest,
}

impl Rig {
    pub(crate) fn new(name: &str) -> Self {
        let run = RunDir::create(&Place::of_workspace().unwrap(), name).unwrap();
        let image = run.file("disk.img");
        fs::write(&image, vec![0; 4 << 20]).unwrap();
        Self::on(run, &image, &[])
    }

    fn on(run: RunDir, image: &Path, further: &[&str]) -> Self {
        let file = format!("--blk-file={}", image.display());
        let arguments = [&[file.as_str(), "--packed", "--num-queues=2"], further].concat();
        let plan = Plan::new(&run, &Programs::on_demand(), "blk", &arguments).unwrap();
        let daemon = Some(plan.start().unwrap());
        let guest = Guest::new(Socket::new(plan.socket()), |config| {
            config.limits = front_end::Limits::default();
        });
        guest.device.wait_until_ready(Instant::now() + LONG).unwrap();
        Self { _run: run, plan, daemon, guest }
    }

    fn disk(&self, packed: bool) -> Disk<Doorbell> {
        self.disk_on(0, self.guest.start(packed, 1).remove(0))
    }

    pub(crate) fn disk_on(&self, index: u16, queue: Queue) -> Disk<Doorbell> {
        Disk::new(BlockQueue::new(queue, &self.guest.memory), self.guest.doorbell(index))
            .with_limit(LONG)
    }

    /// Ends the daemon as a crash would.
    pub(crate) fn kill(&mut self) {
        self.daemon.take().unwrap().kill().unwrap();
    }

    pub(crate) fn start_again(&mut self) {
        self.daemon = Some(self.plan.start().unwrap());
    }
}

fn data(seed: u8) -> Vec<u8> {
    (0..4096_u16).map(|n| n.to_le_bytes()[0].wrapping_add(seed)).collect()
}

#[test]
fn a_disk_is_written_and_read_across_resets_and_pauses() {
    let rig = Rig::new("front-end-life");
    for (round, packed) in [(1, false), (2, true), (3, false)] {
        let mut disk = rig.disk(packed);
        disk.write(8, &data(round)).unwrap();
        rig.guest.device.quiesce();
        assert!(rig.guest.device.wait_quiesced(Instant::now() + LONG));
        rig.guest.device.resume();
        assert_eq!(disk.read(8, 4096).unwrap(), data(round));
        rig.guest.reset();
    }
    assert!(rig.guest.device.stop(Instant::now() + LONG));
    assert_eq!(rig.guest.device.report().losses, 0);
}

#[test]
fn a_queue_is_reset_and_used_again_even_across_a_death() {
    for packed in [false, true] {
        let mut rig = Rig::new("front-end-queue-reset");
        let mut queues = rig.guest.start(packed, 2);
        let mut second = rig.disk_on(1, queues.remove(1));
        let mut first = rig.disk_on(0, queues.remove(0));
        for round in 1..4 {
            first.write(8, &data(round)).unwrap();
            second.write(16, &data(round)).unwrap();
            rig.guest.device.reset_queue(1);
            rig.guest.wait("it is reset", || rig.guest.device.queue_is_reset(1));
            if round == 2 {
                rig.kill();
                rig.guest.wait("it has noticed", || rig.guest.device.report().losses == 1);
                rig.start_again();
            }
            let features = rig.guest.negotiate(packed);
            let queue = Queue::new(&rig.guest.memory, 64, features).unwrap();
            rig.guest.device.start_queue(rig.guest.pci_queue(1, &queue));
            second = rig.disk_on(1, queue);
            assert_eq!(second.read(8, 4096).unwrap(), data(round));
            assert_eq!(first.read(16, 4096).unwrap(), data(round));
        }
    }
}

#[test]
fn requests_survive_the_death_of_the_daemon() {
    for packed in [false, true] {
        let mut rig = Rig::new("front-end-kill");
        let mut disk = rig.disk(packed);
        for round in 1..5_u8 {
            let writes = (0..16).map(|n| Operation::Write {
                sector: u64::from(n) * 8,
                data: data(round.wrapping_mul(16).wrapping_add(n)),
            });
            disk.submit_all(writes).unwrap();
            std::thread::sleep(Duration::from_micros(u64::from(round) * 150));
            rig.kill();
            rig.start_again();
            for done in disk.wait_for_all().unwrap() {
                done.into_data().unwrap();
            }
            for n in 0..16_u8 {
                let expected = data(round.wrapping_mul(16).wrapping_add(n));
                assert_eq!(disk.read(u64::from(n) * 8, 4096).unwrap(), expected);
            }
        }
        assert_eq!(rig.guest.device.report().losses, 4);
        assert!(rig.guest.device.report().tracks_in_flight);
    }
}

/// Class: an asynchronous operation outlives its buffer or mapping. The kernel finishes what a killed
/// daemon had begun; only then is the driver's reset over, and the memory its own again.
#[test]
fn a_reset_waits_for_what_a_killed_daemon_had_begun() {
    let run = RunDir::create(&Place::of_workspace().unwrap(), "front-end-late").unwrap();
    let delay = Duration::from_millis(400);
    let delays = Delays { usual: (delay, delay), slow: (delay, delay) };
    let folder = run.file("slow");
    fs::create_dir(&folder).unwrap();
    let slow = match SlowDisk::mount(&folder, 4 << 20, delays, 1) {
        Ok(slow) => slow,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    let mut rig = Rig::on(run, slow.path(), &["--cache=none"]);
    // On a busy machine the daemon may be dead before it has begun anything.
    for _ in 0..10 {
        let mut disk = rig.disk(false);
        let before = slow.landings().late_reads;
        disk.submit_all((0..8).map(|n| Operation::Read { sector: n * 8, len: 4096 })).unwrap();
        std::thread::sleep(delay / 2);
        slow.daemon_died();
        rig.kill();
        rig.guest.device.reset();
        rig.guest.wait("the reset is over", || rig.guest.device.is_reset());
        let late = slow.landings().late_reads;
        std::thread::sleep(delay);
        assert_eq!(
            slow.landings().late_reads,
            late,
            "the kernel still wrote to the guest's memory"
        );
        if late > before {
            return;
        }
        slow.successor_starts();
        rig.start_again();
    }
    panic!("no daemon had begun anything");
}
