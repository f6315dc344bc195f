//! A guest in QEMU, whose driver is Linux's and whose front-end connects again by itself.
//!
//! The load is a program in the guest that writes, reads, flushes and compares below its page cache
//! (`guest/io.rs` of the crate `e2e`).

use std::time::{Duration, Instant};

use e2e::{Daemon, FIRST, Job, Kind, Kit, Results, Scene};
use serde_json::{Value, json};

use crate::campaign::Stage;
use crate::error::{Error, Result};
use crate::series::GuestSeries;
use crate::tally::Tally;

/// How long the program in the guest works, seconds.
const WORK: u32 = 30;
/// When the last daemon must be there, for the program's last requests to end in time.
const LAST: Duration = Duration::from_secs(24);
/// How many threads it has.
const THREADS: u32 = 16;
/// From the guest's power on to its last line.
const LIMIT: Duration = Duration::from_secs(240);

impl GuestSeries {
    /// Kills so many daemons, in as many boots of the guest as that takes.
    ///
    /// # Errors
    /// [`Error::Series`] with the first thing that went wrong.
    pub fn run(&self, stage: &Stage, kit: &Kit, kills: u32, seed: u64) -> Result<Tally> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut tally = Tally::default();
        while tally.kills < kills {
            let left = kills - tally.kills;
            self.boot(stage, kit, left, &mut random, &mut tally).map_err(|why| Error::Series {
                series: self.name.into(),
                seed,
                kills: tally.kills,
                why: Box::new(why),
            })?;
        }
        Ok(tally)
    }

    fn boot(
        &self,
        stage: &Stage,
        kit: &Kit,
        kills: u32,
        random: &mut fastrand::Rng,
        tally: &mut Tally,
    ) -> Result<()> {
        let mut scene = Scene::new(&format!("kill-{}", self.name), kit);
        scene.programs = stage.programs.clone();
        (scene.packed, scene.reconnect, scene.cpus, scene.limit) = (self.packed, true, 2, LIMIT);
        // A few kills take less than the whole time.
        let seconds = WORK.min(kills * 2 + 6);
        let last = LAST.min(Duration::from_secs((seconds - 5).into()));
        let mut stage = scene.start(&stage.place, Job::new().stamped(FIRST, seconds, THREADS))?;
        stage.guest.wait_for("progress")?;
        let begun = Instant::now();
        for _ in 0..kills {
            std::thread::sleep(Duration::from_micros(random.u64(10_000..400_000)));
            if begun.elapsed() > last {
                break;
            }
            stage.daemon.kill()?;
            tally.kills += 1;
            std::thread::sleep(Duration::from_micros(random.u64(..100_000)));
            stage.daemon = stage.plan.spawn()?;
            // QEMU connects again in its own time; then the guest goes on. It is not killed before that:
            // a QEMU that loses its back-end in the middle of the handshake does not try again.
            while !serves(&stage.daemon) {
                stage.guest.wait_for("progress")?;
            }
            let before = stage.guest.wait_for("progress")?;
            while stage.guest.wait_for("progress")? == before {}
        }
        let report = stage.finish()?;
        tally.add(&report.results);
        Ok(())
    }

    /// The kit that the guest needs.
    pub const KIND: Kind = Kind::Qemu;
}

/// Whether a daemon has completed requests; what the guest said earlier may still be on its way. One
/// that does not answer is starting.
fn serves(daemon: &Daemon) -> bool {
    let Ok(stats) = daemon.control(&json!({"cmd": "stats"})) else { return false };
    let queues = stats.get("queues").and_then(Value::as_array);
    let chains = queues.into_iter().flatten().filter_map(|queue| queue.get("chains")?.as_u64());
    chains.sum::<u64>() > 0
}

impl Tally {
    fn add(&mut self, results: &Results) {
        let number = |key| results.get(key).and_then(|text| text.parse().ok()).unwrap_or(0);
        self.reads += number("reads");
        self.writes += number("writes");
        self.flushes += number("flushes");
        self.compared += number("checked_blocks");
        self.longest = self.longest.max(Duration::from_millis(number("longest_ms")));
    }
}
