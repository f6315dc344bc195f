//! `cargo xtask demo`: real guests do real work on the devices that are served by the daemons.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use e2e::{FIRST, Job, Kind, Kit, PROGRAMS, Place, Programs, Report, Scene};

use crate::{cargo, provision, table};

/// The daemons there are.
pub(crate) const DAEMONS: [&str; 1] = ["outrigger-blk"];
/// Mebibytes of files that a guest writes and compares.
const FILES: u32 = 64;
/// How long it writes at random, and with how many threads.
const RANDOM: (u32, u32) = (3, 8);

/// Fetch a guest, start the daemons, boot it with them, do real work in it, and print what happened.
///
/// Everything is fetched as Debian packages into target/guests, where it is kept. Exits with 0 only
/// if all of it worked.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The guest to boot.
    #[arg(long, value_enum, default_value_t = Choice::Best)]
    guest: Choice,
    /// Refuse to fetch packages; say which are missing instead.
    #[arg(long)]
    no_install: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Choice {
    /// The first of the others that this machine can run.
    Best,
    /// User Mode Linux: a kernel as an ordinary process, at native speed.
    Uml,
    /// Debian's kernel in QEMU, which emulates the CPU; with split and with packed rings.
    Qemu,
    /// One after the other.
    All,
}

/// A guest and the kind of ring its driver uses.
struct Act<'kit> {
    kit: &'kit Kit,
    packed: bool,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let place = Place::of_workspace()?;
    let programs = match std::env::var_os(PROGRAMS) {
        Some(_) => Programs::on_demand(),
        None => Programs::built_in(cargo::build_release(&DAEMONS)?),
    };
    let kits = kits(&place, options)?;
    let mut rows = Vec::new();
    for act in kits.iter().flat_map(acts) {
        println!("Booting {} ...", act.title());
        let report = act.play(&place, &programs).with_context(|| act.title())?;
        rows.push(act.row(&report)?);
    }
    let header = ["device", "daemon", "guest", "features negotiated", "what was done", "figures"];
    println!("\n{}\nAll of it worked.", table::layout(&header, &rows));
    Ok(ExitCode::SUCCESS)
}

fn kits(place: &Place, options: &Options) -> Result<Vec<Kit>> {
    let refuse = options.no_install;
    match options.guest {
        Choice::Uml => provision::provide(place, &[Kind::Uml], refuse),
        Choice::Qemu => provision::provide(place, &[Kind::Qemu], refuse),
        Choice::All => provision::provide(place, &[Kind::Uml, Kind::Qemu], refuse),
        Choice::Best => best(place, refuse),
    }
}

/// User Mode Linux is the fastest, and some machines cannot run it (no ptrace, a CPU it does not
/// know); that shows when it boots.
fn best(place: &Place, refuse: bool) -> Result<Vec<Kit>> {
    let uml = provision::provide(place, &[Kind::Uml], refuse)?;
    let Some(Err(error)) = uml.first().map(|kit| kit.try_out(place)) else { return Ok(uml) };
    println!("User Mode Linux does not run on this machine, QEMU is next: {error}");
    provision::provide(place, &[Kind::Qemu], refuse)
}

fn acts(kit: &Kit) -> Vec<Act<'_>> {
    match kit.kind() {
        Kind::Uml => vec![Act { kit, packed: false }],
        Kind::Qemu | Kind::NewQemu => vec![Act { kit, packed: false }, Act { kit, packed: true }],
    }
}

impl Act<'_> {
    fn ring(&self) -> &'static str {
        if self.packed { "packed" } else { "split" }
    }

    fn title(&self) -> String {
        let (guest, version) = (self.kit.kind().title(), self.kit.kernel_version());
        format!("{guest}, Linux {version}, with a disk on {} rings", self.ring())
    }

    fn play(&self, place: &Place, programs: &Programs) -> Result<Report> {
        let job = Job::new()
            .describe(FIRST)
            .discard(FIRST)
            .filesystem(FIRST, FILES)
            .stamped(FIRST, RANDOM.0, RANDOM.1);
        let name = format!("demo-{}-{}", self.kit.kind().name(), self.ring());
        let mut scene = Scene::new(&name, self.kit);
        scene.programs = programs.clone();
        scene.packed = self.packed;
        scene.limit = Duration::from_secs(180);
        let report = scene.play(place, job)?;
        if report.counted("errors") > 0 {
            bail!("the daemon counted {} failed requests", report.counted("errors"));
        }
        if self.packed && !report.features().iter().any(|name| name == "RING_PACKED") {
            bail!("packed rings were asked for and not negotiated");
        }
        Ok(report)
    }

    fn row(&self, report: &Report) -> Result<Vec<String>> {
        let (writes, reads) = (report.number("writes")?, report.number("reads")?);
        let done = format!(
            "mkfs, mount, {FILES} MiB of files with fsync, fsck, remount, SHA-256 compared\n\
             random I/O below the page cache, {} threads: {writes} writes, {reads} reads, {} \
             flushes, every byte compared",
            RANDOM.1,
            report.get("flushes"),
        );
        let figures = format!(
            "{} MiB, {} queue(s)\nserved {} requests with {} kicks, {} calls\nfiles: {} MB/s \
             written\nrandom: {} MB/s\nlongest request: {} ms",
            report.number("capacity")? >> 20,
            report.get("queues"),
            report.counted("chains"),
            report.counted("kicks"),
            report.counted("calls"),
            report.get("file_megabytes_per_second"),
            report.get("megabytes_per_second"),
            report.get("longest_ms"),
        );
        let guest = format!(
            "{}\nLinux {}\n{} rings",
            self.kit.kind().title(),
            report.get("kernel"),
            self.ring()
        );
        let features = report.features().join(" ");
        Ok(vec!["block".into(), "outrigger-blk".into(), guest, features, done, figures])
    }
}
