//! `cargo xtask miri`: what runs without system calls, in an interpreter that sees undefined
//! behaviour.

use std::process::ExitCode;

use anyhow::Result;

use crate::{cargo, nightly};

/// Run rings, in-flight regions, the block device and layouts under Miri.
///
/// That is all fuzz targets that make no system calls, on a few inputs each: they drive split and
/// packed rings, and the block device on a simulated disk, in memory that Miri watches.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only tests whose names contain this
    #[arg(default_value = "")]
    filter: String,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    nightly::require("miri", "rustup component add --toolchain nightly miri rust-src")?;
    let layouts = ["miri", "test", "--package", "virtio-spec", "--lib", "--", "layout"];
    let targets =
        ["miri", "test", "--package", "fuzz-targets", "--test", "fixed", "--", &options.filter];
    let mut command = nightly::cargo(&targets, "miri");
    // Guest memory is handed out as addresses, as a guest sees it.
    command.env("MIRIFLAGS", "-Zmiri-permissive-provenance -Zmiri-symbolic-alignment-check");
    cargo::run(&mut command)?;
    if options.filter.is_empty() {
        cargo::run(&mut nightly::cargo(&layouts, "miri"))?;
    }
    Ok(ExitCode::SUCCESS)
}
