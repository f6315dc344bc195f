//! Calls of cargo, in the workspace's folder.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use e2e::{target_dir, workspace_dir};

/// A cargo command; the same cargo that runs this program.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(workspace_dir());
    command
}

/// Builds release binaries of the packages and returns the folder they are in.
pub(crate) fn build_release(packages: &[&str]) -> Result<PathBuf> {
    build("release", packages)
}

/// Builds binaries of the packages with a profile and returns the folder they are in.
pub(crate) fn build(profile: &str, packages: &[&str]) -> Result<PathBuf> {
    let mut command = cargo(&["build", "--profile", profile]);
    for package in packages {
        command.args(["--package", package]);
    }
    run(&mut command)?;
    Ok(target_dir().join(profile))
}

/// Runs a command with this program's own input and output; it has to succeed.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("could not start {command:?}"))?;
    ensure!(status.success(), "{command:?} failed ({status})");
    Ok(())
}

/// Whether cargo has this further subcommand.
pub(crate) fn has(subcommand: &str) -> bool {
    let output = cargo(&[subcommand, "--version"]).output();
    output.is_ok_and(|output| output.status.success())
}
