//! The file of a listening socket.
//!
//! Theory of operation. Under the path's lock a leftover is removed, and the socket is bound, protected,
//! and only then listens. At the end the file is removed, if it still is the one that was made here; after
//! a process that was killed, the supervisor removes it.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, chmod, open, statat, unlinkat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};
use supervisor::{Found, PathLock, remove_leftover};

use super::Error;

/// The longest path of a socket, in bytes.
pub const PATH_MAX: usize = 107;
const BACKLOG: i32 = 16;

/// A socket's file; dropping it removes the file.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// The directory, reachable even from within a sandbox.
    directory: OwnedFd,
    /// Device and inode, by which the file is known again.
    identity: (u64, u64),
}

impl SocketFile {
    /// Listens at a path, for the process's own user only. Accepting does not block.
    ///
    /// # Errors
    /// [`Error`], if the path cannot be used.
    pub fn listen(path: &Path) -> Result<(OwnedFd, Self), Error> {
        let failed = |action| move |errno| socket_error(action, path, errno);
        let address = address(path)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = open(directory_of(path), flags, Mode::empty())
            .map_err(failed("reach the directory of"))?;
        let lock = PathLock::take(path).map_err(failed("lock"))?;
        make_room(path)?;
        let socket = new_socket().map_err(failed("make a socket for"))?;
        bind(&socket, &address).map_err(failed("make"))?;
        // Nobody can connect before `listen`, so nobody slips in before the permissions are right.
        chmod(path, Mode::RUSR | Mode::WUSR).map_err(failed("protect"))?;
        let found = statat(&directory, name_of(path), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed("look at"))?;
        listen(&socket, BACKLOG).map_err(failed("listen at"))?;
        drop(lock);
        let identity = (found.st_dev, found.st_ino);
        Ok((socket, Self { path: path.to_owned(), directory, identity }))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory that it is removed from; a sandbox has to permit that.
    #[must_use]
    pub fn directory(&self) -> &Path {
        directory_of(&self.path)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let name = name_of(&self.path);
        let ours = statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|found| (found.st_dev, found.st_ino) == self.identity);
        if ours && let Err(error) = unlinkat(&self.directory, name, AtFlags::empty()) {
            tracing::debug!(path = %self.path.display(), %error, "the socket file stays");
        }
    }
}

/// The address of a path.
fn address(path: &Path) -> Result<SocketAddrUnix, Error> {
    let length = path.as_os_str().len();
    if length > PATH_MAX {
        return Err(Error::PathTooLong { path: path.to_owned(), length });
    }
    SocketAddrUnix::new(path).map_err(|errno| socket_error("name", path, errno))
}

fn new_socket() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

fn make_room(path: &Path) -> Result<(), Error> {
    let failed = |source| Error::Socket { action: "look at", path: path.to_owned(), source };
    match remove_leftover(path).map_err(failed)? {
        Found::Free => Ok(()),
        Found::InUse => Err(Error::InUse { path: path.to_owned() }),
        Found::Other => Err(Error::NotASocket { path: path.to_owned() }),
    }
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn name_of(path: &Path) -> &OsStr {
    path.file_name().unwrap_or(path.as_os_str())
}

fn socket_error(action: &'static str, path: &Path, errno: Errno) -> Error {
    Error::Socket { action, path: path.to_owned(), source: errno.into() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn only_its_user_may_connect_and_nothing_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let (_socket, file) = SocketFile::listen(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();
        drop(file);
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn a_leftover_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        let (_socket, _file) = SocketFile::listen(&path).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn what_is_in_use_or_something_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let (_socket, _file) = SocketFile::listen(&path).unwrap();
        assert!(matches!(SocketFile::listen(&path), Err(Error::InUse { .. })));
        let other = folder.path().join("f");
        std::fs::write(&other, "precious").unwrap();
        assert!(matches!(SocketFile::listen(&other), Err(Error::NotASocket { .. })));
        assert_eq!(std::fs::read(&other).unwrap(), b"precious");
    }

    #[test]
    fn a_successors_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let (_socket, file) = SocketFile::listen(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let _successor = UnixListener::bind(&path).unwrap();
        drop(file);
        assert!(path.exists());
    }

    #[test]
    fn mistakes_say_what_to_do() {
        let long = Path::new("/tmp").join("x".repeat(200));
        let error = SocketFile::listen(&long).unwrap_err().to_string();
        assert!(error.contains("205 bytes") && error.contains("shorter"), "{error}");
        let error = SocketFile::listen("/no/such/s".as_ref()).unwrap_err().to_string();
        assert!(error.contains("cannot reach the directory of /no/such/s"), "{error}");
    }
}
