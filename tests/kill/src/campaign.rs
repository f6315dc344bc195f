//! One series: lives of daemons, one after the other, under one load.

use std::time::Duration;

use e2e::{Daemon, Place, Plan, Programs, RunDir};

use crate::client::Client;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::life::{Life, Moment};
use crate::load::Load;
use crate::series::{End, Medium, Series};
use crate::slow::{Landings, SlowDisk};
use crate::tally::Tally;
use crate::unlocked;

/// So many kills have to show something.
const ENOUGH: u32 = 5;

/// Where programs and files are.
#[derive(Debug, Clone)]
pub struct Stage {
    /// For files of a run.
    pub place: Place,
    /// The daemons.
    pub programs: Programs,
}

impl Series {
    /// Ends so many lives of daemons under load, and checks everything.
    ///
    /// # Errors
    /// [`Error::Series`] with the first thing that went wrong.
    pub fn run(&self, stage: &Stage, kills: u32, seed: u64) -> Result<Tally> {
        let series = *self;
        let stage = stage.clone();
        // A thread of its own: a slow disk is seen only by the thread that has mounted it.
        let thread =
            std::thread::spawn(move || Campaign::prepare(series, &stage, seed)?.run(kills));
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// A series under way. Fields are dropped in this order: the daemon's disk goes last.
struct Campaign {
    series: Series,
    seed: u64,
    random: fastrand::Rng,
    client: Client,
    load: Load,
    daemon: Option<Daemon>,
    plan: Plan,
    disk: Disk,
    _run: RunDir,
}

impl Campaign {
    fn prepare(series: Series, stage: &Stage, seed: u64) -> Result<Self> {
        let mut random = fastrand::Rng::with_seed(seed);
        let run = RunDir::create(&stage.place, &format!("kill-{}", series.name))?;
        let disk = Disk::make(series.medium, &run, random.u64(..))?;
        if !series.locks {
            unlocked::every_lock_is_free()?;
        }
        let file = format!("--blk-file={}", disk.path().display());
        let mut arguments = vec![file.as_str(), "--log=warn"];
        if matches!(series.medium, Medium::Direct | Medium::Slow) {
            arguments.push("--cache=none");
        }
        arguments.extend(series.shape.packed.then_some("--packed"));
        arguments.extend(series.shape.in_order.then_some("--in-order"));
        arguments.extend(series.arguments);
        let plan = Plan::new(&run, &stage.programs, "blk", &arguments)?;
        let daemon = Some(plan.spawn()?);
        let (client, load) = Client::connect(plan.socket(), series.shape, &disk, random.fork())?;
        Ok(Self { series, seed, random, client, load, daemon, plan, disk, _run: run })
    }

    fn run(mut self, kills: u32) -> Result<Tally> {
        let done = self.lives(kills).and_then(|()| self.last_life());
        let tally = std::mem::take(self.load.tally());
        done.map(|()| tally.clone()).map_err(|why| Error::Series {
            series: self.series.name.into(),
            seed: self.seed,
            kills: tally.kills,
            why: Box::new(why),
        })
    }

    fn lives(&mut self, kills: u32) -> Result<()> {
        while self.load.tally().kills < kills {
            let Some(daemon) = self.daemon.take() else { break };
            let life = Life::of(daemon, self.series.end, self.moment())?;
            let worked = self.load.work(&life, self.disk.slow());
            life.join()?;
            worked?;
            self.died()?;
            // Every eighth successor is killed while it takes over.
            while self.series.end == End::Kill && self.random.u8(..8) == 0 {
                self.hasty_life()?;
            }
            self.pause();
            self.daemon = Some(self.successor()?);
            self.client.take_over(self.plan.socket(), None, &mut self.load)?;
        }
        Ok(())
    }

    /// When a daemon dies.
    fn moment(&mut self) -> Moment {
        let (life, burst) =
            if self.disk.slow().is_some() { (400_000, 50_000) } else { (30_000, 1_000) };
        let after = Duration::from_micros(self.random.u64(500..life));
        let into_burst = Duration::from_micros(self.random.u64(..burst));
        Moment { after, into_burst: self.random.bool().then_some(into_burst) }
    }

    /// For how long there is no daemon.
    fn pause(&mut self) {
        std::thread::sleep(Duration::from_micros(self.random.u64(..20_000)));
    }

    fn successor(&mut self) -> Result<Daemon> {
        self.disk.slow().inspect(|disk| disk.successor_starts());
        Ok(self.plan.spawn()?)
    }

    fn died(&mut self) -> Result<()> {
        self.load.tally().kills += 1;
        if let Some(disk) = self.disk.slow() {
            disk.daemon_died();
            check_landings(disk)?;
        }
        if self.series.end == End::Terminate {
            self.client.check_drained()?;
        }
        let taken = self.client.in_flight()?.into_iter().sum::<usize>();
        *self.load.tally().taken.get_or_insert(0) += taken as u64;
        self.load.outlive(self.disk.slow())
    }

    /// A successor that is killed somewhere between its start and its first requests.
    fn hasty_life(&mut self) -> Result<()> {
        self.pause();
        let daemon = self.successor()?;
        let after = Duration::from_micros(self.random.u64(1_000..60_000));
        let life = Life::of(daemon, End::Kill, Moment { after, into_burst: None })?;
        match self.client.take_over(self.plan.socket(), Some(life.ended()), &mut self.load) {
            Ok(()) => self.load.work(&life, self.disk.slow())?,
            // It was too hasty. What the driver has to say against it counts all the same.
            Err(Error::Driver(driver::Error::Wire(_) | driver::Error::System(..))) => {}
            Err(Error::System { .. }) => {}
            Err(other) => return Err(other),
        }
        life.join()?;
        self.load.tally().hasty += 1;
        self.died()
    }

    /// The last daemon's: everything is read through it, it ends, and the disk is looked at.
    fn last_life(&mut self) -> Result<()> {
        self.load.read_everything(self.disk.slow())?;
        if let Some(daemon) = self.daemon.take() {
            daemon.stop()?;
        }
        self.client.check_drained()?;
        self.load.check_disk(&self.disk.read()?)?;
        if let Some(disk) = self.disk.slow() {
            check_landings(disk)?;
            let landings = disk.landings();
            self.load.tally().landings = Some(landings);
        }
        self.check_strength()
    }

    /// Refuses a series whose daemons died without anything being at stake. (In memory requests
    /// take no time, so there it may happen.)
    fn check_strength(&mut self) -> Result<()> {
        let (medium, tally) = (self.series.medium, self.load.tally());
        if self.series.end == End::Terminate || tally.kills < ENOUGH {
            return Ok(());
        }
        if medium == Medium::Direct && tally.taken == Some(0) {
            return Err(Error::Idle("no daemon died while it was at work"));
        }
        match tally.landings {
            Some(Landings { late_writes: 0, .. }) => {
                Err(Error::Idle("no write landed after its daemon's death"))
            }
            _ => Ok(()),
        }
    }
}

fn check_landings(disk: &SlowDisk) -> Result<()> {
    match disk.landings().not_waited_for {
        0 => Ok(()),
        outstanding => Err(Error::DidNotWait { outstanding }),
    }
}
