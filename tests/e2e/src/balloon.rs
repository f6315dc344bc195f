//! A balloon served to a guest, and what both sides say of its memory.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::block::make_image;
use crate::daemon::{Daemon, Plan, Programs};
use crate::error::{Error, Result};
use crate::guest::{Disk, Generic, Guest, Setup};
use crate::job::Job;
use crate::kit::Kit;
use crate::place::{Place, RunDir};

/// Bytes of the disk that is used all the while.
const DISK: u64 = 64 << 20;
/// Bytes of a page, in which the kernel counts swapping.
const PAGE: u64 = 4096;
/// How long a guest may take to follow.
const FOLLOW: Duration = Duration::from_secs(40);
/// Lines that may have been on their way already when somebody wants to know how things are now.
const STALE: u32 = 2;
/// A line that comes sooner was there before.
const AWAITED: Duration = Duration::from_millis(20);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// One guest with a balloon and a disk, and a daemon for each.
#[derive(Debug)]
pub struct BalloonScene<'kit> {
    /// Names the run and its logs.
    pub name: String,
    /// What to boot: User Mode Linux, or QEMU with its generic device.
    pub kit: &'kit Kit,
    /// Packed rings, where the front-end can (QEMU).
    pub packed: bool,
    /// Where the daemons' programs are.
    pub programs: Programs,
    /// Further arguments for the balloon's daemon.
    pub arguments: Vec<String>,
    /// From power on to the last line.
    pub limit: Duration,
}

/// A scene with everybody on stage. The guest is ended before the daemons are.
#[derive(Debug)]
pub struct BalloonStage {
    /// The guest.
    pub guest: Guest,
    /// The balloon.
    pub daemon: Daemon,
    /// How to start it again.
    pub plan: Plan,
    /// Where it keeps its state.
    pub state: PathBuf,
    _disk: Daemon,
    _run: RunDir,
}

/// What the guest's kernel says of its memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestMemory {
    /// `MemTotal`.
    pub total: u64,
    /// `MemAvailable`.
    pub available: u64,
    /// `MemFree`.
    pub free: u64,
}

/// What the guest's kernel has counted since it began (`/proc/vmstat`), and its page cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestEvents {
    /// Bytes swapped in and out.
    pub swapped: (u64, u64),
    /// Page faults that waited for a disk.
    pub major_faults: u64,
    /// Processes killed for want of memory.
    pub oom_kills: u64,
    /// Bytes in the page cache (`Cached` and `Buffers` of `/proc/meminfo`).
    pub cached: u64,
}

impl<'kit> BalloonScene<'kit> {
    /// A balloon with nothing in it, and two minutes for everything.
    #[must_use]
    pub fn new(name: &str, kit: &'kit Kit) -> Self {
        Self {
            name: name.to_owned(),
            kit,
            packed: false,
            programs: Programs::on_demand(),
            arguments: Vec::new(),
            limit: Duration::from_secs(120),
        }
    }

    /// Starts the daemons and boots the guest.
    ///
    /// # Errors
    /// When one of them does not come up.
    pub fn start(&self, place: &Place, job: Job) -> Result<BalloonStage> {
        let run = RunDir::create(place, &self.name)?;
        let image = run.file("disk.img");
        make_image(&image, DISK)?;
        let file = format!("--blk-file={}", image.display());
        let disk = Plan::new(&run, &self.programs, "blk", &[&file])?;
        let state = run.file("balloon.state");
        let path = format!("--state-path={}", state.display());
        let mut arguments = vec![path.as_str()];
        arguments.extend(self.arguments.iter().map(String::as_str));
        arguments.extend(self.packed.then_some("--packed"));
        let plan = Plan::new(&run, &self.programs, "balloon", &arguments)?;
        let (disk_daemon, daemon) = (disk.start()?, plan.start()?);
        let setup = Setup {
            disks: vec![Disk {
                socket: disk.socket().to_path_buf(),
                packed: false,
                reconnect: false,
            }],
            devices: vec![Generic {
                packed: self.packed,
                ..Generic::balloon(plan.socket().to_path_buf())
            }],
            ..Setup::new(job, self.limit)
        };
        let guest = Guest::boot(&run, self.kit, &setup)?;
        Ok(BalloonStage { guest, daemon, plan, state, _disk: disk_daemon, _run: run })
    }
}

impl BalloonStage {
    /// Asks the guest for so many bytes.
    ///
    /// # Errors
    /// When the daemon refuses.
    pub fn target(&self, bytes: u64) -> Result<()> {
        self.daemon.control(&json!({"cmd": "target", "bytes": bytes})).map(drop)
    }

    /// What the daemon says under this key.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn says(&self, key: &str) -> Result<Value> {
        let stats = self.daemon.control(&json!({"cmd": "stats"}))?;
        Ok(stats
            .get("device_stats")
            .and_then(|device| device.get(key))
            .cloned()
            .unwrap_or_default())
    }

    /// A number of bytes that the daemon says.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn bytes(&self, key: &str) -> Result<u64> {
        self.says(key).map(|value| value.as_u64().unwrap_or_default())
    }

    /// Waits until a number that the daemon says is as wanted.
    ///
    /// # Errors
    /// When it does not come to that in time.
    pub fn until(&self, key: &str, wanted: impl Fn(u64) -> bool) -> Result<u64> {
        let until = Instant::now() + FOLLOW;
        loop {
            let value = self.bytes(key)?;
            if wanted(value) {
                return Ok(value);
            }
            if Instant::now() > until {
                return Err(Error::Daemon {
                    daemon: "outrigger-balloon".into(),
                    detail: format!("`{key}` stays at {value}"),
                });
            }
            std::thread::sleep(LOOK);
        }
    }

    /// What the guest says of its memory from now on (see [`Job::report_memory`]).
    ///
    /// # Errors
    /// When it does not speak, or something has gone wrong in it.
    pub fn memory(&mut self) -> Result<GuestMemory> {
        now(|| self.guest.wait_for("memory")).map(|line| GuestMemory::read(&line))
    }

    /// What the guest says of its events from now on (see [`Job::report_events`]).
    ///
    /// # Errors
    /// When it does not speak, or something has gone wrong in it.
    pub fn events(&mut self) -> Result<GuestEvents> {
        let line = now(|| self.guest.wait_for("events"))?;
        let mut numbers = numbers(&line);
        let mut next = || numbers.next().unwrap_or_default();
        Ok(GuestEvents {
            swapped: (next() * PAGE, next() * PAGE),
            major_faults: next(),
            oom_kills: next(),
            cached: next() << 10,
        })
    }

    /// Waits until the guest has found once more that its memory and its disk are as they should be (see
    /// [`Job::watched_memory`], [`Job::verified_io`]).
    ///
    /// # Errors
    /// When it finds a wrong byte.
    pub fn verify(&mut self) -> Result<()> {
        for sign in ["watched", "progress"] {
            now(|| self.guest.wait_for(sign))?;
        }
        Ok(())
    }

    /// Has the guest send its statistics, and returns them by name.
    ///
    /// # Errors
    /// When they do not come.
    pub fn new_statistics(&self) -> Result<Value> {
        let before = self.bytes("statistics")?;
        self.daemon.control(&json!({"cmd": "refresh"}))?;
        self.until("statistics", |count| count > before)?;
        Ok(self.says("guest")?.get("values").cloned().unwrap_or_default())
    }
}

/// What a guest that says something again and again says from now on.
pub(crate) fn now(mut next: impl FnMut() -> Result<String>) -> Result<String> {
    let mut awaited = 0;
    loop {
        let start = Instant::now();
        let line = next()?;
        awaited += u32::from(start.elapsed() >= AWAITED);
        if awaited > STALE {
            return Ok(line);
        }
    }
}

impl GuestMemory {
    /// Reads a line that the guest has said.
    pub(crate) fn read(line: &str) -> Self {
        let mut kib = numbers(line);
        let mut next = || kib.next().unwrap_or_default() << 10;
        Self { total: next(), available: next(), free: next() }
    }
}

fn numbers(line: &str) -> impl Iterator<Item = u64> {
    line.split(' ').map(|word| word.parse().unwrap_or_default())
}
