//! `cargo xtask sanitize`: the suite of the fake driver under the address sanitizer.

use std::process::ExitCode;

use anyhow::Result;

use crate::{cargo, nightly};

/// Their test programs, but for those that start daemons: these confine themselves, and the leak
/// detection at their end may do nothing any more.
const TESTS: [&str; 4] = ["hostile", "device", "image", "fixed"];

/// Tests that are left out: the sanitizer makes system calls that a confined process may not.
const LEFT_OUT: &str = "sandbox::";

/// The crates with unsafe code, and those whose tests drive them.
const PACKAGES: [&str; 4] = ["framework", "outrigger-blk", "driver", "fuzz-targets"];

/// Run the tests of framework, block device, fake driver and fuzz targets under the address sanitizer.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only tests whose names contain this
    #[arg(default_value = "")]
    filter: String,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let mut command = nightly::cargo(&["test", "--target", nightly::TARGET], "sanitize");
    for package in PACKAGES {
        command.args(["--package", package]);
    }
    command.arg("--lib");
    for test in TESTS {
        command.args(["--test", test]);
    }
    command.args(["--", "--skip", LEFT_OUT, &options.filter]);
    command.env("RUSTFLAGS", "-Zsanitizer=address");
    cargo::run(&mut command)?;
    Ok(ExitCode::SUCCESS)
}
