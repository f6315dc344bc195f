//! The same guest in the same QEMU, with this balloon's daemon and with QEMU's own balloon.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use e2e::{Daemon, Generic, Guest, Job, Kit, Place, Plan, Programs, RunDir, Setup};
use rustix::process::Pid;
use serde_json::{Value, json};

use super::cell::{Sample, What, Who};
use crate::accounting::cpu_time;

/// MiB of the guest, as the kit boots it.
const MEMORY: u64 = 512;
/// MiB that the guest writes and frees, and that it is asked for then.
const USED: u32 = 300;
/// From power on to the end.
const LIMIT: Duration = Duration::from_secs(120);
/// How long the guest may take to follow.
const FOLLOW: Duration = Duration::from_secs(60);
/// How often is looked at the memory's file.
const LOOK: Duration = Duration::from_millis(5);
/// How often is asked what is in the balloon, which costs who answers a little each time.
const ASK: Duration = Duration::from_millis(50);

/// Boots twice: once without reporting, to inflate and deflate, and once with it.
pub(super) fn measure(
    place: &Place,
    kit: &Kit,
    programs: &Programs,
    who: Who,
) -> Vec<(What, Result<Sample>)> {
    let start = |reporting| Scene::start(place, kit, programs, who, reporting);
    let both = start(false).and_then(|mut scene| {
        let inflated = scene.resize(u64::from(USED) << 20)?;
        Ok((inflated, scene.resize(0)?))
    });
    let reported = start(true).and_then(|mut scene| scene.report());
    let mut samples = vec![(What::Report, reported)];
    match both {
        Ok((inflated, deflated)) => {
            samples.extend([(What::Inflate, Ok(inflated)), (What::Deflate, Ok(deflated))]);
        }
        Err(error) => samples.push((What::Inflate, Err(error))),
    }
    samples
}

/// One guest and who gives its memory back.
struct Scene {
    guest: Guest,
    balloon: Balloon,
    memory: PathBuf,
    _run: RunDir,
}

/// Who does.
enum Balloon {
    /// A daemon of ours.
    Daemon(Daemon),
    /// QEMU, asked through its monitor.
    Monitor(BufReader<UnixStream>),
}

impl Scene {
    fn start(
        place: &Place,
        kit: &Kit,
        programs: &Programs,
        who: Who,
        reporting: bool,
    ) -> Result<Self> {
        let run = RunDir::create(place, "bench-balloon")?;
        let (mut setup, plan) = (
            Setup::new(Job::new().fill_and_free(USED).for_ever(), LIMIT),
            plan(&run, programs, reporting)?,
        );
        let monitor = run.socket("monitor");
        let daemon = if who == Who::Outrigger {
            setup.devices = vec![Generic::balloon(plan.socket().to_path_buf())];
            Some(plan.start()?)
        } else {
            let on = if reporting { "on" } else { "off" };
            setup.arguments = vec![
                "-device".into(),
                format!("virtio-balloon-pci,id=own,free-page-reporting={on}"),
                "-qmp".into(),
                format!("unix:{},server=on,wait=off", monitor.display()),
            ];
            None
        };
        let mut guest = Guest::boot(&run, kit, &setup)?;
        guest.wait_for("filled")?;
        let memory = memory_of(number(guest.pid()))?;
        let balloon = match daemon {
            Some(daemon) => Balloon::Daemon(daemon),
            None => Balloon::Monitor(connect(&monitor)?),
        };
        guest.wait_for("freed")?;
        Ok(Self { guest, balloon, memory, _run: run })
    }

    /// Waits until what was freed is back.
    fn report(&mut self) -> Result<Sample> {
        let freed = Instant::now();
        let cpu = self.cpu()?;
        let before = self.allocated()?;
        let wanted = u64::from(USED) << 20;
        let mut first = None;
        let until = freed + FOLLOW;
        while before.saturating_sub(self.allocated()?) < wanted / 10 * 9 {
            if first.is_none() && self.allocated()? < before {
                first = Some(Instant::now());
            }
            ensure!(Instant::now() < until, "what was freed does not come back");
            std::thread::sleep(LOOK);
        }
        let took = first.map_or(freed.elapsed(), |first| first.elapsed());
        let returned = before.saturating_sub(self.allocated()?);
        let mut sample = Sample::of(returned, took.max(LOOK), self.cpu()?.saturating_sub(cpu));
        sample.back_s = Some(freed.elapsed().as_secs_f64());
        Ok(sample)
    }

    /// Has so many bytes in the balloon.
    fn resize(&mut self, bytes: u64) -> Result<Sample> {
        let before = self.balloon.actual()?;
        let (start, cpu) = (Instant::now(), self.cpu()?);
        self.balloon.ask(bytes)?;
        while self.balloon.actual()? != bytes {
            ensure!(start.elapsed() < FOLLOW, "the guest does not follow");
            std::thread::sleep(ASK);
        }
        let (took, cpu) = (start.elapsed(), self.cpu()?.saturating_sub(cpu));
        Ok(Sample::of(before.abs_diff(bytes), took, cpu))
    }

    /// CPU time of whoever gives back: of QEMU without the threads that are the guest's CPUs.
    fn cpu(&self) -> Result<Duration> {
        match &self.balloon {
            Balloon::Daemon(daemon) => cpu_time(number(daemon.pid())),
            Balloon::Monitor(_) => without_guest(number(self.guest.pid())),
        }
    }

    /// Bytes of the guest's memory on the host.
    fn allocated(&self) -> Result<u64> {
        super::limit::allocated(fs::File::open(&self.memory)?)
    }
}

impl Balloon {
    fn ask(&mut self, bytes: u64) -> Result<()> {
        match self {
            Self::Daemon(daemon) => {
                daemon.control(&json!({ "cmd": "target", "bytes": bytes }))?;
            }
            Self::Monitor(monitor) => {
                let value = (MEMORY << 20) - bytes;
                run(monitor, "balloon", &json!({ "value": value }))?;
            }
        }
        Ok(())
    }

    /// Bytes that the driver says are in it.
    fn actual(&mut self) -> Result<u64> {
        let bytes = |value: Option<&Value>| value.and_then(Value::as_u64).context("no number");
        match self {
            Self::Daemon(daemon) => {
                let stats = daemon.control(&json!({ "cmd": "stats" }))?;
                bytes(stats.pointer("/device_stats/actual_bytes"))
            }
            Self::Monitor(monitor) => {
                let answer = run(monitor, "query-balloon", &json!({}))?;
                Ok((MEMORY << 20).saturating_sub(bytes(answer.get("actual"))?))
            }
        }
    }
}

fn number(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().unsigned_abs()
}

fn plan(run: &RunDir, programs: &Programs, reporting: bool) -> Result<Plan> {
    let arguments: &[&str] = if reporting { &[] } else { &["--no-reporting"] };
    Ok(Plan::new(run, programs, "balloon", arguments)?)
}

/// The file behind the guest's memory, which QEMU has open.
fn memory_of(pid: u32) -> Result<PathBuf> {
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let path = entry?.path();
        let target = fs::read_link(&path).unwrap_or_default();
        if target.to_string_lossy().contains("memfd:memory-backend-memfd") {
            return Ok(path);
        }
    }
    bail!("QEMU has no memfd")
}

/// CPU time of QEMU's threads that are not the guest's CPUs.
fn without_guest(pid: u32) -> Result<Duration> {
    let mut time = Duration::ZERO;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?.path();
        if !fs::read_to_string(task.join("comm"))?.starts_with("CPU ") {
            time += thread_time(&task)?;
        }
    }
    Ok(time)
}

fn thread_time(task: &Path) -> Result<Duration> {
    let text = fs::read_to_string(task.join("schedstat"))?;
    let nanoseconds = text.split(' ').next().and_then(|word| word.parse().ok());
    Ok(Duration::from_nanos(nanoseconds.context("the kernel does not count a thread's time")?))
}

fn connect(socket: &Path) -> Result<BufReader<UnixStream>> {
    let mut monitor = BufReader::new(UnixStream::connect(socket)?);
    monitor.get_ref().set_read_timeout(Some(FOLLOW))?;
    monitor.read_line(&mut String::new())?;
    run(&mut monitor, "qmp_capabilities", &json!({}))?;
    Ok(monitor)
}

/// Runs a command of QEMU's monitor. Events come at any time, and are of no interest here.
fn run(monitor: &mut BufReader<UnixStream>, command: &str, arguments: &Value) -> Result<Value> {
    let line = format!("{}\n", json!({ "execute": command, "arguments": arguments }));
    monitor.get_mut().write_all(line.as_bytes())?;
    loop {
        let mut line = String::new();
        ensure!(monitor.read_line(&mut line)? > 0, "QEMU's monitor has ended");
        let mut answer: Value = serde_json::from_str(&line)?;
        if let Some(result) = answer.get_mut("return") {
            return Ok(result.take());
        }
        if let Some(error) = answer.get("error") {
            bail!("QEMU refuses {command}: {error}");
        }
    }
}
