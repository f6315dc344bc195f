//! The crate `vhost-device-console`, built where nothing of it is committed.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use e2e::target_dir;

/// The package, and the version that the comparison is with.
pub(super) const PACKAGE: (&str, &str) = ("vhost-device-console", "0.1.0");

/// Its program, which is built if it is not there yet.
///
/// # Errors
/// It cannot be fetched or built.
pub(super) fn program() -> Result<PathBuf> {
    let folder = target_dir().join("peers");
    let (name, version) = PACKAGE;
    let program = folder.join("bin").join(name);
    if !program.is_file() {
        eprintln!("building {name} {version} into {} ...", folder.display());
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["install", name, "--locked", "--quiet", "--version", version]);
        let status = cargo.arg("--root").arg(&folder).status().context("cannot run cargo")?;
        if !status.success() {
            bail!("cargo install {name}: {status}");
        }
    }
    Ok(program)
}
