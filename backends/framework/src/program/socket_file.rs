//! A listening Unix socket with a file name.
//!
//! Theory of operation. Under a lock file beside it (`PATH.lock`, removed afterwards) the path is
//! probed by connecting to it: whoever accepts is in use, whoever refuses is the leftover of a process
//! that was killed and is removed. Then the socket is bound, gets its group and mode, and only then
//! starts to listen: before that nobody can connect. The lock keeps two starting daemons from taking
//! each other's fresh socket for a leftover. At the end the file is removed if it still is the one that
//! was made here; a successor's file has another inode.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::FileTypeExt, net::UnixListener},
    },
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::{
    fs::{AtFlags, FlockOperation, Mode, OFlags, flock, fstat, open, stat, statat, unlinkat},
    io::Errno,
    net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType},
};

use crate::error::{Error, Result};

/// The longest path that `sockaddr_un` holds, without its final zero byte.
pub const PATH_MAX: usize = 107;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 16;
/// How long another daemon may hold the lock file, and how often it is looked at.
const LOCK_TRIES: u32 = 200;
const LOCK_INTERVAL: Duration = Duration::from_millis(10);

/// Who may connect to a socket file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SocketAccess {
    /// The permission bits; what the umask leaves if not given.
    pub mode: Option<u32>,
    /// The group that the file belongs to; the process's own if not given.
    pub group: Option<u32>,
}

impl SocketAccess {
    /// Only the user that runs the daemon.
    pub const OWNER: Self = Self { mode: Some(0o600), group: None };
}

/// The file of a socket that this process listens on; dropping it removes the file.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    directory: OwnedFd,
    /// Device and inode, by which the file is known again.
    identity: (u64, u64),
}

impl SocketFile {
    /// Binds a socket to the path and listens on it, non-blocking.
    ///
    /// # Errors
    /// [`Error::SocketPathTooLong`], [`Error::NoSocketFolder`], [`Error::SocketFolderForbidden`],
    /// [`Error::SocketInUse`], [`Error::NotASocket`], [`Error::SocketLocked`], or [`Error::Socket`] with the step that failed.
    pub fn listen(path: &Path, access: SocketAccess) -> Result<(UnixListener, Self)> {
        let address = address(path)?;
        let _lock = Lock::take(path)?;
        remove_leftover(path, &address)?;
        let failed = |action| move |errno: Errno| socket_error(action, path, errno);
        let socket = new_socket().map_err(failed("create"))?;
        net::bind(&socket, &address).map_err(failed("bind"))?;
        let file = Self::of(path).inspect_err(|_| {
            let _ = std::fs::remove_file(path);
        })?;
        set_access(path, access)?;
        net::listen(&socket, BACKLOG).map_err(failed("listen on"))?;
        Ok((socket.into(), file))
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory that the file is removed from at the end; a sandbox has to permit that.
    #[must_use]
    pub fn directory(&self) -> &Path {
        directory_of(&self.path)
    }

    fn of(path: &Path) -> Result<Self> {
        let failed = |errno: Errno| socket_error("look at", path, errno);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = open(directory_of(path), flags, Mode::empty()).map_err(failed)?;
        let found = statat(&directory, name_of(path), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        Ok(Self { path: path.to_owned(), directory, identity: (found.st_dev, found.st_ino) })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let name = name_of(&self.path);
        let ours = statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|found| (found.st_dev, found.st_ino) == self.identity);
        if ours && let Err(errno) = unlinkat(&self.directory, name, AtFlags::empty()) {
            tracing::debug!(path = ?self.path, %errno, "the socket file stays");
        }
    }
}

/// The socket address of a path.
///
/// # Errors
/// [`Error::SocketPathTooLong`] beyond [`PATH_MAX`] bytes; [`Error::Socket`] for an empty path or one
/// with a zero byte.
pub fn address(path: &Path) -> Result<SocketAddrUnix> {
    let length = path.as_os_str().len();
    if length > PATH_MAX {
        return Err(Error::SocketPathTooLong { path: path.to_owned(), length });
    }
    if length == 0 {
        return Err(socket_error("name", path, Errno::INVAL));
    }
    SocketAddrUnix::new(path).map_err(|errno| socket_error("name", path, errno))
}

/// A non-blocking Unix stream socket.
pub(super) fn new_socket() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

pub(super) fn socket_error(action: &'static str, path: &Path, errno: Errno) -> Error {
    Error::Socket { action, path: path.to_owned(), source: errno.into() }
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn name_of(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
}

/// Removes a socket file that nobody listens on any more.
fn remove_leftover(path: &Path, address: &SocketAddrUnix) -> Result<()> {
    let failed = |source: io::Error| Error::Socket { action: "look at", path: path.into(), source };
    match path.symlink_metadata() {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(Error::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    }
    let probe = new_socket().map_err(|errno| socket_error("create", path, errno))?;
    match net::connect(&probe, address) {
        Err(Errno::CONNREFUSED) => {
            tracing::info!(?path, "removing a socket file that nobody listens on");
            std::fs::remove_file(path).map_err(failed)
        }
        Err(Errno::NOENT) => Ok(()),
        // AGAIN: its queue of connections is full. PROTOTYPE: a socket of another type.
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => {
            Err(Error::SocketInUse { path: path.to_owned() })
        }
        Err(errno) => Err(socket_error("probe", path, errno)),
    }
}

fn set_access(path: &Path, access: SocketAccess) -> Result<()> {
    if let Some(group) = access.group {
        std::os::unix::fs::chown(path, None, Some(group)).map_err(|source| Error::Socket {
            action: "set the group of",
            path: path.to_owned(),
            source,
        })?;
    }
    if let Some(mode) = access.mode {
        rustix::fs::chmod(path, Mode::from_raw_mode(mode))
            .map_err(|errno| socket_error("set the mode of", path, errno))?;
    }
    Ok(())
}

/// The lock file beside a socket, held while the socket is set up.
struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    fn take(socket: &Path) -> Result<Self> {
        let mut name = socket.as_os_str().to_owned();
        name.push(".lock");
        let path = PathBuf::from(name);
        for _ in 0..LOCK_TRIES {
            if let Some(file) = try_lock(&path).map_err(|errno| refused(socket, errno))? {
                return Ok(Self { path, _file: file });
            }
            thread::sleep(LOCK_INTERVAL);
        }
        Err(Error::SocketLocked { path: socket.to_owned(), lock: path })
    }
}

/// Why there is no lock file beside the socket, which is mostly a matter of the directory.
fn refused(socket: &Path, errno: Errno) -> Error {
    let folder = directory_of(socket).to_owned();
    match errno {
        Errno::NOENT | Errno::NOTDIR => Error::NoSocketFolder { folder },
        Errno::ACCESS | Errno::PERM | Errno::ROFS => Error::SocketFolderForbidden { folder },
        _ => socket_error("create the lock file beside", socket, errno),
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed before it is unlocked: whoever waits for it sees that the file is gone and makes a
        // new one.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Locks the file; `None` if somebody else has it, or removed it meanwhile.
fn try_lock(path: &Path) -> rustix::io::Result<Option<File>> {
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = open(path, flags, Mode::from_raw_mode(0o600))?;
    match flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => return Ok(None),
        locked => locked?,
    }
    let ours = fstat(&file)?;
    match stat(path) {
        Ok(named) if (named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino) => {
            Ok(Some(file.into()))
        }
        Ok(_) | Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The number of a group that is named, or numbered, on the command line.
///
/// Only `/etc/group` is looked at: a daemon this small does not load the system's name services.
///
/// # Errors
/// [`Error::UnknownGroup`].
pub fn group_number(name: &str) -> Result<u32> {
    let known = std::fs::read("/etc/group").unwrap_or_default();
    name.parse()
        .ok()
        .or_else(|| find_group(&known, name))
        .ok_or_else(|| Error::UnknownGroup { name: name.to_owned() })
}

/// Finds `name:password:number:members` in the text of `/etc/group`.
fn find_group(known: &[u8], name: &str) -> Option<u32> {
    known.split(|&byte| byte == b'\n').find_map(|line| {
        let mut fields = line.split(|&byte| byte == b':');
        if fields.next()? != OsStr::new(name).as_bytes() {
            return None;
        }
        str::from_utf8(fields.nth(1)?).ok()?.parse().ok()
    })
}

#[cfg(test)]
#[path = "socket_file_test.rs"]
mod tests;
