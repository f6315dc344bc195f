//! Directories below which ports that are added at run time may have their files.
//!
//! They are opened at the start. What is opened later is found from there, and a path that leads out of
//! them, by `..` or by a symbolic link, is refused by the kernel, sandbox or not.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};

use super::LogFile;
use crate::error::{Error, Result};

/// How paths are followed.
const WITHIN: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);
/// How a directory is opened from which others are.
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// All of them.
#[derive(Debug, Default)]
pub struct Directories {
    all: Vec<Directory>,
    /// What paths are relative to; the sandbox does not let anybody ask.
    here: PathBuf,
}

#[derive(Debug)]
struct Directory {
    path: PathBuf,
    fd: OwnedFd,
}

impl Directories {
    /// Opens directories that were named at the start.
    ///
    /// # Errors
    /// When there is no such directory.
    pub fn open(paths: &[PathBuf]) -> Result<Self> {
        let here = std::env::current_dir().unwrap_or_default();
        let opened = paths.iter().map(|path| {
            let fd = open(path, DIRECTORY, Mode::empty());
            let fd = fd.map_err(Error::open("open the directory", path.display()))?;
            Ok(Directory { path: here.join(path), fd })
        });
        Ok(Directories { all: opened.collect::<Result<_>>()?, here })
    }

    /// Opens or makes a file below one of them.
    ///
    /// # Errors
    /// When it is below none, or is not to be had.
    pub fn file(&self, path: &Path) -> Result<LogFile> {
        let outside = || Error::Outside { path: path.to_owned() };
        let from_root = self.here.join(path);
        let below = |directory: &&Directory| from_root.starts_with(&directory.path);
        let found = self.all.iter().find(below).ok_or_else(outside)?;
        let rest = from_root.strip_prefix(&found.path).unwrap_or(&from_root);
        let parent = rest.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        let directory = openat2(&found.fd, parent, DIRECTORY, Mode::empty(), WITHIN);
        LogFile::within(directory.map_err(Error::open("open", path.display()))?, path)
    }
}

/// Opens what has a name in a directory, and leads nowhere else.
pub(super) fn open_within(
    directory: impl AsFd,
    name: &std::ffi::OsStr,
    flags: OFlags,
    mode: Mode,
) -> rustix::io::Result<OwnedFd> {
    openat2(directory, name, flags, mode, WITHIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_below_what_was_named() {
        let (named, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir(named.path().join("sub")).unwrap();
        let directories = Directories::open(&[named.path().to_owned()]).unwrap();
        for path in ["log", "sub/log", "./sub/../log2"] {
            let mut file = directories.file(&named.path().join(path)).unwrap();
            assert_eq!(file.append(b"text"), 0);
            assert_eq!(std::fs::read(named.path().join(path)).unwrap(), b"text");
        }
        let refused = |path: PathBuf| {
            let error = directories.file(&path).unwrap_err().to_string();
            assert!(!other.path().join("log").exists(), "{path:?}");
            error
        };
        assert!(refused(other.path().join("log")).contains("--port-directory"));
        let escape = format!("../{}/log", other.path().file_name().unwrap().display());
        refused(named.path().join(escape));
        // A link to elsewhere, as a directory and as the file itself.
        std::os::unix::fs::symlink(other.path(), named.path().join("out")).unwrap();
        refused(named.path().join("out/log"));
        std::os::unix::fs::symlink(other.path().join("log"), named.path().join("away")).unwrap();
        refused(named.path().join("away"));
    }
}
