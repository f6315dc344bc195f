//! The nightly toolchain, which sanitizers, libFuzzer and Miri need.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};
use e2e::{target_dir, workspace_dir};

/// The target that is built for: sanitizers want it named, so that build scripts stay as they are.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-gnu";

/// A nightly cargo command, in the workspace's folder, with a folder of its own for what it builds.
pub(crate) fn cargo(arguments: &[&str], folder: &str) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo"]).args(arguments).current_dir(workspace_dir());
    // Those of the cargo that runs this program.
    command.env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN");
    command.env("CARGO_TARGET_DIR", own_folder(folder));
    command
}

/// A folder below the target folder.
pub(crate) fn own_folder(name: &str) -> PathBuf {
    target_dir().join(name)
}

/// Asks for a further subcommand of the nightly cargo.
///
/// # Errors
/// When it is not there: how to get it.
pub(crate) fn require(subcommand: &str, get: &str) -> Result<()> {
    let found = cargo(&[subcommand, "--version"], subcommand).output();
    ensure!(
        found.is_ok_and(|output| output.status.success()),
        "this needs the nightly toolchain (`rustup toolchain install nightly`) and `cargo \
         {subcommand}` (`{get}`)"
    );
    Ok(())
}
