//! Programs that were built on this machine, made ready for a guest.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Result, output_of};

/// A program without its debugging symbols, which are most of it; the program itself where there is
/// nothing to take them away with.
pub(super) fn stripped(program: &Path, into: &Path) -> PathBuf {
    let copy = into.with_extension("stripped");
    let mut strip = Command::new("strip");
    strip.arg("--strip-debug").arg("-o").arg(&copy).arg(program);
    if output_of(&mut strip).is_ok() { copy } else { program.to_path_buf() }
}

/// The shared libraries that a program of this machine loads, the loader among them.
///
/// # Errors
/// When ldd(1) cannot be run.
pub(super) fn of(program: &Path) -> Result<Vec<PathBuf>> {
    let listed = output_of(Command::new("ldd").arg(program))?;
    Ok(listed.lines().filter_map(path).collect())
}

/// `libc.so.6 => /lib/libc.so.6 (0x7f…)`, or `/lib64/ld-linux-x86-64.so.2 (0x7f…)`.
fn path(line: &str) -> Option<PathBuf> {
    let words = line.split_once(" => ").map_or(line, |(_, path)| path);
    let path = words.split_whitespace().next()?;
    path.starts_with('/').then(|| PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_the_loader_have_paths() {
        assert_eq!(path("\tlibc.so.6 => /lib/libc.so.6 (0x1)"), Some("/lib/libc.so.6".into()));
        assert_eq!(path("\t/lib64/ld.so.2 (0x1)"), Some("/lib64/ld.so.2".into()));
        assert_eq!(path("\tlinux-vdso.so.1 (0x1)"), None);
    }

    #[test]
    fn this_program_has_libraries() {
        let own = std::env::current_exe().unwrap();
        assert!(of(&own).unwrap().iter().all(|path| path.exists()));
    }
}
