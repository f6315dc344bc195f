//! The lock that keeps two back-ends from one image.
//!
//! It is a lock of the *open file description* (OFD), and of the very one that I/O is done on. So it
//! outlives the process for as long as the kernel still works on requests of that process: a
//! successor that has the lock knows that nothing of its predecessor is still on its way to the disk.
#![expect(unsafe_code, reason = "fcntl with F_OFD_SETLK, for which there is no safe wrapper")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Whether the lock was to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locked {
    /// It is held now.
    Yes,
    /// Somebody else holds it.
    ByOthers,
}

/// Takes the lock, shared or exclusive, without waiting.
pub(super) fn try_lock(file: &OwnedFd, shared: bool) -> io::Result<Locked> {
    let kind = if shared { libc::F_RDLCK } else { libc::F_WRLCK };
    match set(file, kind) {
        Ok(()) => Ok(Locked::Yes),
        Err(error) => match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EACCES) => Ok(Locked::ByOthers),
            _ => Err(error),
        },
    }
}

/// Gives the lock back.
pub(super) fn unlock(file: &OwnedFd) -> io::Result<()> {
    set(file, libc::F_UNLCK)
}

fn set(file: &OwnedFd, kind: libc::c_int) -> io::Result<()> {
    let whole_file = libc::flock {
        l_type: libc::c_short::try_from(kind).map_err(io::Error::other)?,
        l_whence: 0, // SEEK_SET
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    // SAFETY: F_OFD_SETLK reads one `flock` from the pointer, which is alive during the call.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const whole_file) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn twice(path: &std::path::Path) -> [OwnedFd; 2] {
        let open = || File::options().read(true).write(true).open(path).unwrap().into();
        [open(), open()]
    }

    #[test]
    fn writers_exclude_each_other() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let [first, second] = twice(file.path());
        assert_eq!(try_lock(&first, false).unwrap(), Locked::Yes);
        assert_eq!(try_lock(&first, false).unwrap(), Locked::Yes);
        assert_eq!(try_lock(&second, false).unwrap(), Locked::ByOthers);
        assert_eq!(try_lock(&second, true).unwrap(), Locked::ByOthers);
        unlock(&first).unwrap();
        assert_eq!(try_lock(&second, false).unwrap(), Locked::Yes);
    }

    #[test]
    fn readers_share() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let [first, second] = twice(file.path());
        assert_eq!(try_lock(&first, true).unwrap(), Locked::Yes);
        assert_eq!(try_lock(&second, true).unwrap(), Locked::Yes);
        assert_eq!(try_lock(&second, false).unwrap(), Locked::ByOthers);
    }

    #[test]
    fn the_lock_lives_as_long_as_the_description() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let [first, second] = twice(file.path());
        assert_eq!(try_lock(&first, false).unwrap(), Locked::Yes);
        let duplicate = first.try_clone().unwrap();
        drop(first);
        assert_eq!(try_lock(&second, false).unwrap(), Locked::ByOthers);
        drop(duplicate);
        assert_eq!(try_lock(&second, false).unwrap(), Locked::Yes);
    }
}
