//! `cargo xtask nested`: a command where the VMM has a KVM that runs kernels, on any machine.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use e2e::{Contents, Ground, Job, Kind, Place, Programs, Site, target_dir};

use crate::{cargo, provision};

/// Run a shell command in a guest of QEMU that has KVM, with `outrigger` and its daemons in it.
///
/// The command finds in `$KERNEL` and `$INITRD` a kernel that can be booted there and an initrd for
/// it, and works in a folder of its own. What it prints comes out here, and so does its exit status.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// What the guest of the guest does: functions of tests/e2e/guest/block.sh, one a line.
    #[arg(long, default_value = "")]
    job: String,
    /// A further program of this machine to have there.
    #[arg(long)]
    program: Vec<PathBuf>,
    /// Programs of QEMU's packages to have there, as qemu-storage-daemon.
    #[arg(long)]
    peer: Vec<String>,
    /// The folder with the built programs; else target/debug, where they are built first.
    #[arg(long)]
    programs: Option<PathBuf>,
    /// Use this machine's own KVM instead.
    #[arg(long)]
    native: bool,
    /// How many seconds it may take.
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// The command, for a shell.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let place = Place::of_workspace()?;
    let programs = match &options.programs {
        Some(folder) => folder.canonicalize()?,
        None => {
            let packages = Contents::PROGRAMS.map(|name| ["--package", name]);
            cargo::run(cargo::cargo(&["build"]).args(packages.iter().flatten()))?;
            target_dir().join("debug")
        }
    };
    let kits = provision::provide(&place, &[Kind::Qemu], false)?;
    let Some(kit) = kits.first() else { return Ok(ExitCode::FAILURE) };
    let mut contents = Contents::new();
    for program in &options.program {
        contents = contents.with_program(program.canonicalize()?);
    }
    let peers: Vec<String> = options.peer.iter().map(|name| format!("usr/bin/{name}")).collect();
    let peers: Vec<&str> = peers.iter().map(String::as_str).collect();
    if !peers.is_empty() {
        contents = contents.with_peers(kit.root(), &peers);
    }
    let ground = if options.native { Ground::Native } else { Ground::Nested };
    let programs = Programs::built_in(programs);
    let site = Site::open(&place, "nested", ground, kit, (&programs, &contents))?;
    let initrd = site.initrd("nested", &Job::of_shell(&options.job))?;
    // A script, because a command of several lines is not one to the agent.
    site.put("script", options.command.join(" ").as_bytes())?;
    let command = format!("KERNEL={} INITRD={initrd} sh script", site.kernel());
    let mut running = site.start("run", &command, Duration::from_secs(options.seconds))?;
    let status = running.status_with(|line| println!("{line}"))?;
    Ok(ExitCode::from(u8::try_from(status).unwrap_or(1)))
}
