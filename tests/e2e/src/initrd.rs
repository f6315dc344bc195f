//! A guest's first and only root file system.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::cpio::Archive;
use crate::error::{Error, Result};
use crate::kit::Kit;
use crate::tools::add;

const INIT: &[u8] = include_bytes!("../guest/init.sh");
const BLOCK: &[u8] = include_bytes!("../guest/block.sh");
const BALLOON: &[u8] = include_bytes!("../guest/balloon.sh");
const CONSOLE: &[u8] = include_bytes!("../guest/console.sh");
const MIGRATION: &[u8] = include_bytes!("../guest/migration.sh");
const NET: &[u8] = include_bytes!("../guest/net.sh");
const VMM: &[u8] = include_bytes!("../guest/vmm.sh");
/// The folders of every guest.
pub(crate) const FOLDERS: [&str; 11] = [
    "bin",
    "dev",
    "lib",
    "lib/x86_64-linux-gnu",
    "lib64",
    "mnt",
    "modules",
    "proc",
    "programs",
    "sys",
    "tmp",
];

/// Writes an initrd whose init loads the modules in order and then does the job, a piece of shell
/// that calls the functions of `guest/block.sh`, `guest/balloon.sh`, `guest/console.sh`,
/// `guest/migration.sh`, `guest/net.sh` and `guest/vmm.sh`.
///
/// # Errors
/// When a module or tool is missing, or the file cannot be written.
pub(crate) fn write(path: &Path, kit: &Kit, modules: &[&str], job: &str) -> Result<()> {
    let mut archive = Archive::default();
    for folder in FOLDERS {
        archive.directory(folder);
    }
    archive.file("init", 0o755, INIT);
    archive.file("block.sh", 0o644, BLOCK);
    archive.file("balloon.sh", 0o644, BALLOON);
    archive.file("console.sh", 0o644, CONSOLE);
    archive.file("migration.sh", 0o644, MIGRATION);
    archive.file("net.sh", 0o644, NET);
    archive.file("vmm.sh", 0o644, VMM);
    archive.file("job", 0o644, job.as_bytes());
    add_modules(&mut archive, kit, modules)?;
    kit.tools.add_to(&mut archive)?;
    fs::write(path, archive.finish()).map_err(Error::file("write", path))
}

/// Puts kernel modules into an archive's folder `modules`, in the order to load them in.
pub(crate) fn add_modules(archive: &mut Archive, kit: &Kit, modules: &[&str]) -> Result<()> {
    for (number, module) in kit.modules.in_order(modules)?.iter().enumerate() {
        let content = fs::read(module).map_err(Error::file("read", module))?;
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        // Two digits, so that the shell's sorted expansion keeps the order.
        archive.file(&format!("modules/{number:02}-{name}"), 0o644, &content);
    }
    Ok(())
}

/// What measures a network inside a guest, by its place in the packages.
const MEASURING: &str = "usr/bin/iperf3";

/// Adds what measures a network to an initrd, with the shared libraries of it.
///
/// # Errors
/// When a program is missing, or the file cannot be written.
pub(crate) fn append_network(path: &Path, kit: &Kit) -> Result<()> {
    let (root, mut archive) = (kit.network(), Archive::default());
    let program = root.path(MEASURING);
    add(&mut archive, "programs", &program)?;
    for library in root.libraries(&program)? {
        add(&mut archive, "lib/x86_64-linux-gnu", &library)?;
    }
    let mut initrd = File::options().append(true).open(path).map_err(Error::file("open", path))?;
    initrd.write_all(&archive.finish()).map_err(Error::file("write", path))
}

/// An archive with a job alone. The kernel unpacks it over an initrd that it is appended to.
pub(crate) fn job(job: &str) -> Vec<u8> {
    let mut archive = Archive::default();
    archive.file("job", 0o644, job.as_bytes());
    archive.finish()
}
