//! Live migration: a guest with a disk of ours moves back and forth between two QEMUs.
//!
//! ```text
//!        QEMU ═══ migrate unix:… ═══▶ QEMU        a fresh one for each move
//!         │                            │
//!   outrigger-blk (side 0)       outrigger-blk (side 1)      both live on
//!         └────────── image ───────────┘          the lock goes from one to the other
//! ```
//! While the guest moves, the back-end that it moves away from has to mark each page of guest memory
//! that it writes in the dirty log (vhost-user, "Migration"): a page that is not marked is not moved
//! again, and holds something older on the other side. Then that back-end drains its rings and gives
//! up the image, and the other one goes on where the rings stand.

mod machine;
mod qmp;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::block::{FIRST, make_image};
use crate::console::Results;
use crate::daemon::{Plan, Programs};
use crate::error::{Error, Result};
use crate::guest::{Disk, Setup};
use crate::initrd;
use crate::job::Job;
use crate::kit::Kit;
use crate::place::{Place, RunDir};
use machine::{Frame, Machine, Side};

/// Mebibytes of guest memory whose content is watched.
const WATCHED: u32 = 32;
/// Bytes per second: enough to come to an end, and slow enough that much is written meanwhile.
const BANDWIDTH: u64 = 192 << 20;
/// Too slow to come to an end.
const CRAWL: u64 = 4 << 20;
/// For how long the guest may stand still, in milliseconds.
const DOWNTIME: u64 = 500;
/// For how long a move that is to be cancelled goes on.
const BEFORE_CANCEL: Duration = Duration::from_millis(300);
/// How often a move is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How long rings may take to start, once a guest runs.
const START: Duration = Duration::from_secs(10);

/// What is to move, and how.
#[derive(Debug)]
pub struct Migration<'kit> {
    /// Names the run and its logs.
    pub name: String,
    /// What to boot: [`Kind::NewQemu`](crate::Kind::NewQemu).
    pub kit: &'kit Kit,
    /// Where the daemon's program is.
    pub programs: Programs,
    /// Whether the daemons offer packed rings and the front-end asks for them.
    pub packed: bool,
    /// A disk of [`Migration::DISK`] bytes that is there already; else a file is made.
    pub disk: Option<PathBuf>,
    /// Threads that do verified I/O in the guest, up to eight.
    pub threads: u32,
    /// From power on to the last line.
    pub limit: Duration,
}

/// A guest on its way.
#[derive(Debug)]
pub struct Moving<'kit> {
    machine: Machine,
    /// The side that the guest is on.
    here: Side,
    /// The side that it moves to next.
    there: Side,
    frame: Frame<'kit>,
}

/// What one move was like.
#[derive(Debug, Clone, Copy)]
pub struct Leg {
    /// From the command to the end.
    pub took: Duration,
    /// For how long the guest stood still.
    pub downtime: Duration,
    /// How often QEMU has collected what was written since it looked the last time.
    pub passes: u64,
    /// Looks at the back-end during the move that found it logging.
    pub logging: u32,
}

impl<'kit> Migration<'kit> {
    /// The disk's size in bytes: most of it is for the threads, the end of it for the memory.
    pub const DISK: usize = 160 << 20;

    /// Split rings, two virtual CPUs and so two request queues, and five minutes for everything.
    #[must_use]
    pub fn new(name: &str, kit: &'kit Kit) -> Self {
        Self {
            name: name.to_owned(),
            kit,
            programs: Programs::on_demand(),
            packed: false,
            disk: None,
            threads: 8,
            limit: Duration::from_secs(300),
        }
    }

    /// Makes the image, starts both daemons, boots the guest, and waits until it is busy.
    ///
    /// # Errors
    /// When one of them does not come up.
    pub fn start(&self, place: &Place) -> Result<Moving<'kit>> {
        let run = RunDir::create(place, &self.name)?;
        let image = self.image(&run)?;
        let job = Job::new().describe(FIRST).busy(FIRST, self.threads, WATCHED);
        let side = |side: &str| self.side(place, side, &image, &job);
        let (here, there) = (side("a")?, side("b")?);
        let initrd = run.file("initrd");
        initrd::write(&initrd, self.kit, &["virtio_pci", "virtio_blk"], job.shell())?;
        let (log, until) = (run.log("guest")?, Instant::now() + self.limit);
        let mut frame = Frame { kit: self.kit, run, initrd, log, until, machines: 0 };
        let machine = frame.boot(&here)?;
        let mut moving = Moving { machine, here, there, frame };
        moving.await_checks()?;
        Ok(moving)
    }

    fn image(&self, run: &RunDir) -> Result<PathBuf> {
        if let Some(disk) = &self.disk {
            return Ok(disk.clone());
        }
        let image = run.file("disk.img");
        make_image(&image, Self::DISK as u64)?;
        Ok(image)
    }

    fn side(&self, place: &Place, side: &str, image: &Path, job: &Job) -> Result<Side> {
        let run = RunDir::create(place, &format!("{}-{side}", self.name))?;
        let file = format!("--blk-file={}", image.display());
        let mut arguments = vec![file.as_str()];
        arguments.extend(self.packed.then_some("--packed"));
        let plan = Plan::new(&run, &self.programs, "blk", &arguments)?;
        let socket = plan.socket().to_path_buf();
        let disk = Disk { socket, packed: self.packed, reconnect: false };
        let setup = Setup { disks: vec![disk], cpus: 2, ..Setup::new(job.clone(), self.limit) };
        Ok(Side { daemon: plan.start()?, setup, _run: run })
    }
}

impl Moving<'_> {
    /// Moves the guest to the other side, and waits until it has looked at all of its memory there.
    ///
    /// # Errors
    /// When the move fails, when the guest finds something wrong, and when one of the back-ends is not
    /// in the state that it has to be in.
    pub fn migrate(&mut self) -> Result<Leg> {
        let (destination, address) = self.frame.await_guest(&self.there)?;
        let begun = Instant::now();
        self.begin(&address, BANDWIDTH)?;
        let mut logging = 0;
        let end = loop {
            logging += u32::from(self.here.is_logging()?);
            let state = self.state()?;
            match state.get("status").and_then(Value::as_str) {
                Some("completed") => break state,
                Some("failed" | "cancelled") => return Err(failed(format!("it ended: {state}"))),
                _ => std::thread::sleep(LOOK),
            }
        };
        let leg = leg(begun.elapsed(), logging, &end);
        self.arrive(destination)?;
        Ok(leg)
    }

    /// Begins to move the guest and thinks better of it; it goes on where it is.
    ///
    /// # Errors
    /// When something goes wrong with that, and when the back-end has not logged meanwhile or still
    /// does after it.
    pub fn cancel(&mut self) -> Result<()> {
        let (destination, address) = self.frame.await_guest(&self.there)?;
        self.begin(&address, CRAWL)?;
        std::thread::sleep(BEFORE_CANCEL);
        let logging = self.here.is_logging()?;
        self.machine.monitor.run("migrate_cancel", &json!({}))?;
        while self.state()?.get("status") != Some(&json!("cancelled")) {
            std::thread::sleep(LOOK);
        }
        drop(destination);
        match (logging, self.here.is_logging()?) {
            (true, false) => self.await_checks(),
            (false, _) => Err(failed("the back-end has not logged".into())),
            (true, true) => Err(failed("the back-end still logs after the end".into())),
        }
    }

    /// Tells the guest that it is enough, and returns all that it has said since it moved last.
    ///
    /// # Errors
    /// When the guest finds something wrong, and when a daemon does not end as it should.
    pub fn finish(self) -> Result<Results> {
        let mut guest = self.machine.guest;
        guest.tell("enough")?;
        let results = guest.finish()?;
        for side in [self.here, self.there] {
            side.daemon.stop()?;
        }
        Ok(results)
    }

    fn begin(&mut self, address: &str, bandwidth: u64) -> Result<()> {
        let parameters = json!({ "max-bandwidth": bandwidth, "downtime-limit": DOWNTIME });
        self.machine.monitor.run("migrate-set-parameters", &parameters)?;
        self.machine.monitor.run("migrate", &json!({ "uri": address })).map(drop)
    }

    fn state(&mut self) -> Result<Value> {
        if Instant::now() > self.frame.until {
            return Err(failed("the time is up".into()));
        }
        self.machine.monitor.run("query-migrate", &json!({}))
    }

    /// The guest has moved: the former machine's rings are stopped, and it ends; the new one's run.
    fn arrive(&mut self, destination: Machine) -> Result<()> {
        let rings = self.here.rings()?;
        if rings.is_empty() || rings.iter().any(|state| state != "stopped") {
            return Err(failed(format!("the rings that the guest has left are {rings:?}")));
        }
        std::mem::replace(&mut self.machine, destination).quit()?;
        std::mem::swap(&mut self.here, &mut self.there);
        let until = Instant::now() + START;
        while !self.machine.is_running()? || !self.is_served()? {
            if Instant::now() > until {
                let rings = self.here.rings()?;
                return Err(failed(format!("the guest does not go on; its rings are {rings:?}")));
            }
            std::thread::sleep(LOOK);
        }
        self.await_checks()
    }

    fn is_served(&self) -> Result<bool> {
        Ok(self.here.rings()?.iter().any(|state| state == "running"))
    }

    /// Waits until all of the watched memory was looked at once from beginning to end, and writes go
    /// on.
    fn await_checks(&mut self) -> Result<()> {
        let guest = &mut self.machine.guest;
        let writes = number(&guest.wait_for("progress")?);
        let scans = number(&guest.wait_for("memory_scans")?);
        while number(&guest.wait_for("memory_scans")?) < scans + 2 {}
        while number(&guest.wait_for("progress")?) <= writes {}
        Ok(())
    }
}

/// What the guest counts; a line that was cut when it moved counts little.
fn number(text: &str) -> u64 {
    text.parse().unwrap_or_default()
}

fn leg(took: Duration, logging: u32, end: &Value) -> Leg {
    let number = |value: Option<&Value>| value.and_then(Value::as_u64).unwrap_or_default();
    Leg {
        took,
        downtime: Duration::from_millis(number(end.get("downtime"))),
        passes: number(end.get("ram").and_then(|ram| ram.get("dirty-sync-count"))),
        logging,
    }
}

fn failed(detail: String) -> Error {
    Error::Monitor { command: "migrate".into(), detail }
}
