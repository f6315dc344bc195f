//! A guest's first and only root file system.

use std::fs;
use std::path::Path;

use crate::cpio::Archive;
use crate::error::{Error, Result};
use crate::kit::Kit;

const INIT: &[u8] = include_bytes!("../guest/init.sh");
const BLOCK: &[u8] = include_bytes!("../guest/block.sh");
const MIGRATION: &[u8] = include_bytes!("../guest/migration.sh");
const FOLDERS: [&str; 11] = [
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
/// that calls the functions of `guest/block.sh` and `guest/migration.sh`.
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
    archive.file("migration.sh", 0o644, MIGRATION);
    archive.file("job", 0o644, job.as_bytes());
    for (number, module) in kit.modules.in_order(modules)?.iter().enumerate() {
        let content = fs::read(module).map_err(Error::file("read", module))?;
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        // Two digits, so that the shell's sorted expansion is the order to load them in.
        archive.file(&format!("modules/{number:02}-{name}"), 0o644, &content);
    }
    kit.tools.add_to(&mut archive)?;
    fs::write(path, archive.finish()).map_err(Error::file("write", path))
}
