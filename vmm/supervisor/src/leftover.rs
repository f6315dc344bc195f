//! Files that a killed process leaves behind: sockets that nobody listens at, and links to
//! pseudoterminals that are gone.
//!
//! Whoever makes a socket at a path, or removes one there, holds a lock file beside it (`PATH.lock`)
//! meanwhile. It keeps one process from taking for a leftover what another one is just making: a socket
//! that is bound but does not listen yet refuses connections too.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, Stat, flock, fstat, open, stat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

/// Held while a socket is made or removed at a path; dropping it removes the lock file.
#[derive(Debug)]
pub struct PathLock {
    lock: PathBuf,
    _file: OwnedFd,
}

impl PathLock {
    /// Waits for whoever holds it, which is a matter of microseconds.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn take(path: &Path) -> Result<Self, Errno> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let lock = PathBuf::from(name);
        loop {
            let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let file = open(&lock, flags, Mode::RUSR | Mode::WUSR)?;
            flock(&file, FlockOperation::LockExclusive)?;
            let held = fstat(&file)?;
            let same = |found: Stat| (held.st_dev, held.st_ino) == (found.st_dev, found.st_ino);
            // Otherwise its last holder has removed it, and it is a lock that nobody else sees.
            if stat(&lock).is_ok_and(same) {
                return Ok(Self { lock, _file: file });
            }
        }
    }
}

impl Drop for PathLock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.lock);
    }
}

/// What was found where a socket is to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing, or a leftover, which was removed.
    Free,
    /// A socket that somebody listens at.
    InUse,
    /// Something else.
    Other,
}

/// Removes a socket that nobody listens at. The path's [`PathLock`] is to be held.
///
/// # Errors
/// When the path cannot be looked at, or the socket not be removed.
pub fn remove_leftover(path: &Path) -> std::io::Result<Found> {
    match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Found::Free),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => return Ok(Found::Other),
        Ok(_) => {}
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&probe, &SocketAddrUnix::new(path)?) {
        Err(Errno::CONNREFUSED) => fs::remove_file(path).map(|()| Found::Free),
        // The queue of those who wait may be full, but somebody is there.
        Ok(()) | Err(Errno::AGAIN) => Ok(Found::InUse),
        Err(errno) => Err(errno.into()),
    }
}

/// Tidies up after a process that made these and was killed.
pub(crate) fn remove_all(paths: &[PathBuf]) {
    for path in paths {
        let removed = if path.is_symlink() {
            // To a pseudoterminal that is still there, or another process's by now: then it stays.
            if path.exists() { Ok(()) } else { fs::remove_file(path) }
        } else {
            PathLock::take(path)
                .map_err(std::io::Error::from)
                .and_then(|_lock| remove_leftover(path).map(drop))
        };
        if let Err(error) = removed {
            tracing::debug!(path = %path.display(), %error, "cannot be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_what_nobody_uses_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name| folder.path().join(name);
        drop(UnixListener::bind(path("stale")).unwrap());
        let _listener = UnixListener::bind(path("used")).unwrap();
        fs::write(path("file"), "precious").unwrap();
        symlink("/no/such/pty", path("dangling")).unwrap();
        symlink("/dev/null", path("link")).unwrap();
        let all = ["stale", "used", "file", "dangling", "link", "missing"].map(path);
        remove_all(&all);
        let mut left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["file", "link", "used"]);
        assert_eq!(remove_leftover(&path("used")).unwrap(), Found::InUse);
        assert_eq!(remove_leftover(&path("file")).unwrap(), Found::Other);
        assert_eq!(remove_leftover(&path("missing")).unwrap(), Found::Free);
    }

    #[test]
    fn a_lock_has_one_holder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let lock = PathLock::take(&path).unwrap();
        let other = path.clone();
        let waiting = std::thread::spawn(move || PathLock::take(&other).map(drop));
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(!waiting.is_finished());
        drop(lock);
        waiting.join().unwrap().unwrap();
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    }
}
