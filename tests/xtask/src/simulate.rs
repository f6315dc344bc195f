//! `cargo xtask simulate`: the whole system from a seed, replayed or hunted.

use std::process::{Command, ExitCode};

use anyhow::Result;
use e2e::workspace_dir;

use crate::cargo;

/// Build the simulation, optimised, and run it; all arguments go to it.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// `--seed S` replays one, `--minutes N` hunts; `--help` shows the rest.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let programs = cargo::build("simulation", &["simulation"])?;
    let mut command = Command::new(programs.join("simulation"));
    command.args(&options.arguments).current_dir(workspace_dir());
    cargo::run(&mut command)?;
    Ok(ExitCode::SUCCESS)
}
