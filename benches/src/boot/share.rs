//! What the VMM itself costs on this machine, without nesting: its CPU time up to its guest's first
//! instruction, as it logs it.
//!
//! A KVM that does not run kernels natively starts one all the same, and what comes before is the same.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::vmm::MEMORY;

/// What stands before the figure in the log.
const FIGURE: &str = "cpu_us=";

/// Bytes of the initrd, about those of a distribution's smallest.
const INITRD: u64 = 10 << 20;

/// Starts a machine with this kernel, an initrd and one disk; returns milliseconds.
///
/// # Errors
/// When it does not start: its own words say why.
pub(super) fn measure(outrigger: &Path, kernel: &Path) -> Result<f64> {
    let [disk, initrd] = [file(64 << 20)?, file(INITRD)?];
    let mut vmm = Command::new(outrigger)
        .args(["run", "--cpus=1", "--serial=null", "--log=outrigger=debug"])
        .args([format!("--memory={MEMORY}M"), format!("--disk=path={}", disk.path().display())])
        .arg("--kernel")
        .arg(kernel)
        .arg("--initrd")
        .arg(initrd.path())
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start outrigger")?;
    let log = vmm.stderr.take().context("outrigger has no standard error")?;
    let mut words = String::new();
    let figure = BufReader::new(log).lines().map_while(Result::ok).find_map(|line| {
        let figure = line.split_whitespace().find_map(|word| word.strip_prefix(FIGURE));
        let figure = figure.and_then(|figure| figure.parse::<f64>().ok());
        words = line;
        figure
    });
    // It may have ended by itself.
    let _ = vmm.kill();
    vmm.wait().context("cannot wait for outrigger")?;
    Ok(figure.with_context(|| format!("outrigger did not start a guest: {words}"))? / 1e3)
}

/// A file of zeroes.
fn file(bytes: u64) -> Result<tempfile::NamedTempFile> {
    let file = tempfile::NamedTempFile::new().context("cannot make a file")?;
    file.as_file().set_len(bytes).context("cannot size a file")?;
    Ok(file)
}
