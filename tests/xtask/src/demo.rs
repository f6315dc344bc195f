//! `cargo xtask demo`: real guests do real work on the devices that are served by the daemons.

mod balloon;
mod console;
pub(crate) mod net;
mod whole;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use e2e::{
    Contents, FIRST, Ground, Job, Kind, Kit, PROGRAMS, Place, Programs, Report, Scene, Site,
    VmSetup,
};

use crate::{cargo, provision, table};

/// Mebibytes of files that a guest writes and compares.
const FILES: u32 = 64;
/// The same where its CPUs are emulated twice over.
const FEWER_FILES: u32 = 16;
/// How long it writes at random, and with how many threads.
const RANDOM: (u32, u32) = (3, 8);
/// Bytes of its disk.
const DISK: u64 = 256 << 20;
/// From power on to the last line.
const LIMIT: Duration = Duration::from_secs(180);

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
    /// Outrigger's own VMM: on this machine's KVM if that runs kernels natively, else nested.
    Best,
    /// Outrigger's own VMM on this machine's KVM.
    Kvm,
    /// Outrigger's own VMM in a guest of QEMU, whose emulated CPU can virtualize.
    Nested,
    /// User Mode Linux: a kernel as an ordinary process, at native speed.
    Uml,
    /// Debian's kernel in QEMU, which emulates the CPU; with split and with packed rings.
    Qemu,
    /// One after the other, but for KVM of a machine that has none.
    All,
}

/// What boots a guest.
enum Front {
    /// Another front-end.
    Kit(Box<Kit>),
    /// Outrigger's, at a site, with a kernel of this version.
    Site(Box<Site>, String),
}

/// A guest and the kind of ring its driver uses.
struct Act<'front> {
    front: &'front Front,
    packed: bool,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let place = Place::of_workspace()?;
    let programs = match std::env::var_os(PROGRAMS) {
        Some(_) => Programs::on_demand(),
        None => {
            let packages = [&Contents::PROGRAMS[..], &[net::PROGRAM]].concat();
            Programs::built_in(cargo::build_release(&packages)?)
        }
    };
    let mut rows = Vec::new();
    for choice in choices(options.guest) {
        let front = front(&place, choice, &programs, options.no_install)?;
        for act in acts(&front) {
            println!("Booting {} ...", act.title());
            let report = act.play(&place, &programs).with_context(|| act.title())?;
            rows.push(act.row(&report)?);
        }
        if let Front::Site(site, version) = &front {
            let guest = format!("{}\nLinux {version}\nsplit rings", front.title());
            println!("Booting {} with all devices ...", front.title());
            rows.extend(whole::rows(site, &guest).context("a guest with all devices")?);
            println!("Booting {} with a balloon ...", front.title());
            rows.push(balloon::site_row(site, &guest).context("a guest with a balloon")?);
            println!("Booting {} with a console ...", front.title());
            rows.push(console::site_row(site, &guest).context("a guest with a console")?);
        }
        if choice == Choice::Qemu {
            // QEMU 7.2 itself ends with a segmentation fault when the driver starts the card.
            for kit in provision::provide(&place, &[Kind::NewQemu], options.no_install)? {
                println!("Booting {} with a network card ...", kit.kind().title());
                rows.push(net::row(&place, &kit, &programs).context("a network card of QEMU's")?);
            }
        }
        if let Some(kit) = front.with_card() {
            println!("Booting {} with a network card ...", kit.kind().title());
            rows.push(net::row(&place, kit, &programs).context("a guest with a network card")?);
            println!("Booting {} with a balloon ...", kit.kind().title());
            rows.push(balloon::row(&place, kit, &programs).context("a guest with a balloon")?);
            println!("Booting {} with a console ...", kit.kind().title());
            rows.push(console::row(&place, kit, &programs).context("a guest with a console")?);
        }
    }
    let header = ["device", "daemon", "guest", "features negotiated", "what was done", "figures"];
    println!("\n{}\nAll of it worked.", table::layout(&header, &rows));
    Ok(ExitCode::SUCCESS)
}

/// A choice of several is each of them.
fn choices(choice: Choice) -> Vec<Choice> {
    match choice {
        Choice::All => vec![Choice::Best, Choice::Uml, Choice::Qemu],
        choice => vec![choice],
    }
}

fn front(place: &Place, choice: Choice, programs: &Programs, refuse: bool) -> Result<Front> {
    let kind = if choice == Choice::Uml { Kind::Uml } else { Kind::Qemu };
    let kit = provision::provide(place, &[kind], refuse)?.pop();
    let kit = kit.context("this is a bug: what was asked for was not provided")?;
    let ground = match choice {
        Choice::Uml | Choice::Qemu => return Ok(Front::Kit(Box::new(kit))),
        Choice::Kvm => Ground::Native,
        Choice::Nested => Ground::Nested,
        Choice::Best | Choice::All => Ground::best(programs),
    };
    println!("Preparing {} ...", name_of(ground));
    let contents = Contents::new().with_network().with_peers(kit.network(), &["usr/bin/iperf3"]);
    let site = Site::open(place, "demo", ground, &kit, (programs, &contents))?;
    Ok(Front::Site(Box::new(site), kit.kernel_version().to_owned()))
}

const fn name_of(ground: Ground) -> &'static str {
    match ground {
        Ground::Native => "Outrigger on KVM",
        Ground::Nested => "Outrigger on KVM nested in QEMU",
    }
}

/// User Mode Linux has only split rings.
fn acts(front: &Front) -> Vec<Act<'_>> {
    let split = Act { front, packed: false };
    match front {
        Front::Kit(kit) if kit.kind() == Kind::Uml => vec![split],
        _ => vec![split, Act { front, packed: true }],
    }
}

impl Front {
    fn title(&self) -> &'static str {
        match self {
            Front::Kit(kit) => kit.kind().title(),
            Front::Site(site, _) => name_of(site.ground()),
        }
    }

    /// What a guest with a network card, and one with a balloon, is booted with.
    fn with_card(&self) -> Option<&Kit> {
        match self {
            Front::Kit(kit) if kit.kind() == Kind::Uml => Some(kit),
            Front::Kit(_) | Front::Site(..) => None,
        }
    }

    fn kernel_version(&self) -> &str {
        match self {
            Front::Kit(kit) => kit.kernel_version(),
            Front::Site(_, version) => version,
        }
    }

    fn files(&self) -> u32 {
        match self {
            Front::Site(site, _) if site.ground() == Ground::Nested => FEWER_FILES,
            _ => FILES,
        }
    }
}

impl Act<'_> {
    fn ring(&self) -> &'static str {
        if self.packed { "packed" } else { "split" }
    }

    fn title(&self) -> String {
        let (guest, version) = (self.front.title(), self.front.kernel_version());
        format!("{guest}, Linux {version}, with a disk on {} rings", self.ring())
    }

    fn play(&self, place: &Place, programs: &Programs) -> Result<Report> {
        let job = Job::new()
            .describe(FIRST)
            .discard(FIRST)
            .filesystem(FIRST, self.front.files())
            .stamped(FIRST, RANDOM.0, RANDOM.1);
        let report = match self.front {
            Front::Kit(kit) => self.scene(kit, programs).play(place, job)?,
            Front::Site(site, _) => {
                let setup = VmSetup { limit: LIMIT, ..VmSetup::new(self.ring(), job) };
                site.play(setup, DISK, self.packed)?
            }
        };
        if report.counted("errors") > 0 {
            bail!("the daemon counted {} failed requests", report.counted("errors"));
        }
        if self.packed && !report.features().iter().any(|name| name == "RING_PACKED") {
            bail!("packed rings were asked for and not negotiated");
        }
        Ok(report)
    }

    fn scene<'kit>(&self, kit: &'kit Kit, programs: &Programs) -> Scene<'kit> {
        let name = format!("demo-{}-{}", kit.kind().name(), self.ring());
        let mut scene = Scene::new(&name, kit);
        scene.programs = programs.clone();
        (scene.packed, scene.size, scene.limit) = (self.packed, DISK, LIMIT);
        scene
    }

    fn row(&self, report: &Report) -> Result<Vec<String>> {
        let (writes, reads) = (report.number("writes")?, report.number("reads")?);
        let done = format!(
            "mkfs, mount, {} MiB of files with fsync, fsck, remount, SHA-256 compared\n\
             random I/O below the page cache, {} threads: {writes} writes, {reads} reads, {} \
             flushes, every byte compared",
            self.front.files(),
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
            self.front.title(),
            report.get("kernel"),
            self.ring()
        );
        let features = report.features().join(" ");
        Ok(vec!["block".into(), "outrigger-blk".into(), guest, features, done, figures])
    }
}
