//! `cargo xtask bench`: back-ends side by side, measured by an independent client.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use anyhow::Result;
use e2e::{Kind, Kit, Place, workspace_dir};

use crate::{cargo, provision};

/// What takes part in a comparison, and what measures it.
const PACKAGES: [&str; 7] = [
    "bench",
    "outrigger",
    "outrigger-balloon",
    "outrigger-blk",
    "outrigger-console",
    "outrigger-net",
    "reference-blk",
];
/// A peer that comes from Debian.
const PEER: &str = "qemu-storage-daemon";

/// Build release binaries and measure them; all arguments go to the `bench` program.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// What to measure (`balloon`, `blk`, `boot`, `console`, `net`) and how; `--help` shows the choices.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let programs = cargo::build_release(&PACKAGES)?;
    let mut command = Command::new(programs.join("bench"));
    command.args(&options.arguments).current_dir(workspace_dir()).env("PATH", path()?);
    cargo::run(&mut command)?;
    Ok(ExitCode::SUCCESS)
}

/// The search path, at its end a folder with the peer if the machine does not have it.
fn path() -> Result<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<_> = std::env::split_paths(&path).collect();
    if !folders.iter().any(|folder| folder.join(PEER).exists()) {
        let place = Place::of_workspace()?;
        provision::provide(&place, &[Kind::Qemu], false)?;
        folders.push(Kit::peers(&place)?);
    }
    Ok(std::env::join_paths(folders)?)
}
