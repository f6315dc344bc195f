//! A file that all output of a port is appended to, whoever else reads it.
//!
//! It grows up to a size, if one is given; then it becomes `PATH.1`, what that was becomes `PATH.2`, and
//! so on, and a new one is begun. Lines are not torn apart by that, unless one is longer than a file may
//! be. Who rotates it otherwise has it opened anew afterwards.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use framework::program::rate_limit::{self, RateLimit};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fstat, openat, renameat, unlinkat};

use super::directory::open_within;
use super::directory_of;
use crate::backlog::mark;
use crate::error::{Error, Result};
use crate::port_spec::Rotation;

/// How it is opened, each time. It may be a pipe or a terminal, which must not make anybody wait.
const FLAGS: OFlags = OFlags::WRONLY
    .union(OFlags::APPEND)
    .union(OFlags::CREATE)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOCTTY)
    .union(OFlags::NONBLOCK);

/// A file that output is appended to.
#[derive(Debug)]
pub struct LogFile {
    file: OwnedFd,
    place: Option<Place>,
    /// Bytes in it.
    size: u64,
    rotation: Option<Rotation>,
    /// Bytes that it did not take, of which its readers have not been told.
    untold: u64,
}

/// Where it is.
#[derive(Debug)]
struct Place {
    directory: OwnedFd,
    path: PathBuf,
    name: OsString,
    /// Whether the name may lead elsewhere.
    follows_links: bool,
}

impl LogFile {
    /// Opens or makes a file.
    ///
    /// # Errors
    /// When it is not to be had.
    pub fn open(path: &Path, rotation: Option<Rotation>) -> Result<Self> {
        let failed = || Error::open("open", path.display());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(CWD, directory_of(path), flags, Mode::empty()).map_err(failed())?;
        let place = Place::new(directory, path, true)?;
        let file = place.open().map_err(failed())?;
        Ok(LogFile { place: Some(place), rotation, ..Self::passed(file)? })
    }

    /// Opens or makes the file with this path's name in a directory, and nowhere else.
    ///
    /// # Errors
    /// When it is not to be had.
    pub(super) fn within(directory: OwnedFd, path: &Path) -> Result<Self> {
        let place = Place::new(directory, path, false)?;
        let file = place.open().map_err(Error::open("open", path.display()))?;
        Ok(LogFile { place: Some(place), ..Self::passed(file)? })
    }

    /// A file that was passed to us.
    ///
    /// # Errors
    /// When nothing can be known of it.
    pub fn passed(file: OwnedFd) -> Result<Self> {
        let found = fstat(&file).map_err(Error::open("use", "the file that was passed"))?;
        let size = u64::try_from(found.st_size).unwrap_or(0);
        Ok(LogFile { file, place: None, size, rotation: None, untold: 0 })
    }

    /// Whether that is what a descriptor is.
    pub fn is_file(fd: &OwnedFd) -> bool {
        fstat(fd).is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::RegularFile)
    }

    /// Appends bytes. Returns how many were lost, because the file does not take them.
    pub fn append(&mut self, mut bytes: &[u8]) -> u64 {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at_checked(self.room_for(bytes)).unwrap_or((bytes, &[]));
            if now.is_empty() {
                self.rotate();
                continue;
            }
            if let Err(errno) = self.tell_gap().and_then(|()| self.write(now)) {
                complain("write to", &errno);
                self.untold += bytes.len() as u64;
                return bytes.len() as u64;
            }
            bytes = later;
        }
        0
    }

    /// Bytes that it does not get: its readers are told with the next ones.
    pub fn skip(&mut self, count: u64) {
        self.untold += count;
    }

    /// How many of these bytes belong into this file: up to a line's end, if not all of them. Zero: it is
    /// to be rotated first.
    fn room_for(&self, bytes: &[u8]) -> usize {
        let Some(rotation) = self.rotation else { return bytes.len() };
        let room = rotation.size.saturating_sub(self.size);
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let Some(fits) = bytes.get(..room) else { return bytes.len() };
        match fits.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => end + 1,
            // The line begins in this file; the next one has more of it at least.
            None if self.size > 0 => 0,
            None => fits.len(),
        }
    }

    /// Says in the file how much is missing from it.
    fn tell_gap(&mut self) -> rustix::io::Result<()> {
        if self.untold > 0 {
            self.write(mark(self.untold).as_bytes())?;
            self.untold = 0;
        }
        Ok(())
    }

    fn write(&mut self, mut bytes: &[u8]) -> rustix::io::Result<()> {
        while !bytes.is_empty() {
            let count = rustix::io::retry_on_intr(|| rustix::io::write(&self.file, bytes))?;
            self.size += count as u64;
            bytes = bytes.get(count..).unwrap_or(&[]);
        }
        Ok(())
    }

    /// Begins a new file. If that cannot be done, the one that there is may grow once more.
    fn rotate(&mut self) {
        let (Some(place), Some(rotation)) = (&self.place, self.rotation) else { return };
        self.size = 0;
        match place.rotate(rotation.keep).and_then(|()| place.open()) {
            Ok(file) => self.file = file,
            Err(errno) => complain("rotate", &errno),
        }
    }

    /// Opens it once more where it was opened: somebody has moved it away.
    ///
    /// # Errors
    /// When its place is not known, or out of reach.
    pub fn reopen(&mut self) -> Result<()> {
        let Some(place) = &self.place else { return Err(Error::NoPath) };
        let failed = || Error::open("open once more", place.path.display());
        let new = Self::passed(place.open().map_err(failed())?)?;
        (self.file, self.size) = (new.file, new.size);
        Ok(())
    }

    /// Goes on with another file, at no place that is known.
    pub fn replace(&mut self, other: LogFile) {
        *self = LogFile { untold: self.untold, ..other };
    }

    /// The directory in which it is rotated.
    pub fn rotated_in(&self) -> Option<&Path> {
        self.rotation?;
        self.place.as_ref().map(|place| directory_of(&place.path))
    }
}

impl Place {
    fn new(directory: OwnedFd, path: &Path, follows_links: bool) -> Result<Self> {
        let name = path.file_name().ok_or(rustix::io::Errno::ISDIR);
        let name = name.map_err(Error::open("open", path.display()))?.to_owned();
        Ok(Place { directory, path: path.to_owned(), name, follows_links })
    }

    fn open(&self) -> rustix::io::Result<OwnedFd> {
        let mode = Mode::from_raw_mode(0o640);
        if self.follows_links {
            return openat(&self.directory, &self.name, FLAGS, mode);
        }
        open_within(&self.directory, &self.name, FLAGS, mode)
    }

    /// Moves the files up by one; the oldest goes.
    fn rotate(&self, keep: u32) -> rustix::io::Result<()> {
        if keep == 0 {
            return unlinkat(&self.directory, &self.name, AtFlags::empty());
        }
        for number in (1..keep).rev() {
            let (from, to) = (self.numbered(number), self.numbered(number + 1));
            // There may be no such file yet.
            let _ = renameat(&self.directory, &from, &self.directory, &to);
        }
        renameat(&self.directory, &self.name, &self.directory, self.numbered(1))
    }

    fn numbered(&self, number: u32) -> OsString {
        let mut name = self.name.clone();
        name.push(format!(".{number}"));
        name
    }
}

fn complain(what: &str, errno: &rustix::io::Errno) {
    static REPORTS: RateLimit = RateLimit::new(1, Duration::from_secs(60));
    if let Some(suppressed) = REPORTS.admit(rate_limit::now()) {
        tracing::warn!(%errno, suppressed, "cannot {what} a port's file");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(folder: &Path) -> Vec<(String, String)> {
        let mut all: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                (name, std::fs::read_to_string(path).unwrap())
            })
            .collect();
        all.sort();
        all
    }

    fn named(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn it_is_rotated_between_lines() {
        let folder = tempfile::tempdir().unwrap();
        let rotation = Some(Rotation { size: 10, keep: 2 });
        let mut log = LogFile::open(&folder.path().join("log"), rotation).unwrap();
        for number in 0..7 {
            assert_eq!(log.append(format!("line{number}\n").as_bytes()), 0);
        }
        let expected = [("log", "line6\n"), ("log.1", "line5\n"), ("log.2", "line4\n")];
        assert_eq!(all(folder.path()), named(&expected));
        // Several lines at once, and one that no file has room for.
        log.append(b"1\n2\n3\n4\nlong long line\n");
        let expected = [("log", "line\n"), ("log.1", "long long "), ("log.2", "3\n4\n")];
        assert_eq!(all(folder.path()), named(&expected));
    }

    #[test]
    fn it_goes_on_elsewhere_when_it_was_moved() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = LogFile::open(&path, None).unwrap();
        log.append(b"one");
        std::fs::rename(&path, folder.path().join("old")).unwrap();
        log.append(b"two");
        log.reopen().unwrap();
        log.append(b"three");
        assert_eq!(all(folder.path()), named(&[("log", "three"), ("old", "onetwo")]));
    }

    #[test]
    fn what_it_does_not_take_is_counted_and_marked() {
        let full = rustix::fs::open("/dev/full", OFlags::WRONLY, Mode::empty()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = LogFile::passed(full).unwrap();
        assert_eq!(log.append(b"lost"), 4);
        log.replace(LogFile::open(&path, None).unwrap());
        assert_eq!(log.append(b"kept"), 0);
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains("4 bytes were dropped") && text.ends_with("kept"), "{text}");
    }

    #[test]
    fn without_older_files_it_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let rotation = Some(Rotation { size: 4, keep: 0 });
        let mut log = LogFile::open(&folder.path().join("log"), rotation).unwrap();
        log.append(b"ab\ncd\nef\n");
        assert_eq!(all(folder.path()), named(&[("log", "ef\n")]));
    }
}
