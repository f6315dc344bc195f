//! `cargo xtask kill`: daemons that are killed under load, and nothing lost.

use std::process::{Command, ExitCode};

use anyhow::Result;
use e2e::{Kind, PROGRAMS, Place, workspace_dir};

use crate::{cargo, provision};

/// What is killed, and what kills it.
const PACKAGES: [&str; 2] = ["outrigger-blk", "kill-campaign"];

/// Build release binaries and kill daemons under load; all arguments go to `kill-campaign`.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// How often (`--times`), which series (`--only`), and more; `--help` shows all
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    provision::provide(&Place::of_workspace()?, &[Kind::Qemu], false)?;
    let programs = cargo::build_release(&PACKAGES)?;
    let mut command = Command::new(programs.join("kill-campaign"));
    command.args(&options.arguments).current_dir(workspace_dir()).env(PROGRAMS, &programs);
    cargo::run(&mut command)?;
    Ok(ExitCode::SUCCESS)
}
