//! Where connections to a back-end come from.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, connect, socket_with,
};

/// A way to the back-end. A new connection is asked for only after the last one was closed.
pub trait Source: Send {
    /// Makes one attempt to connect, waiting no longer than to the deadline.
    ///
    /// # Errors
    /// When there is no back-end now. It is asked again, however often.
    fn connect(&mut self, deadline: Instant) -> io::Result<OwnedFd>;

    /// The back-end of the last connection hung or broke the protocol. Whoever owns the process
    /// kills it, and says whether it did. Until the process is gone, and its side of the connection
    /// closed with it, or some seconds have passed, the driver's reset is not over.
    fn give_up(&mut self) -> bool {
        false
    }

    /// What is connected to, for messages.
    fn describe(&self) -> String;
}

/// Connects to a back-end that listens on a socket file.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
}

impl Socket {
    /// The socket file at `path`, which need not exist yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

impl Source for Socket {
    /// Never waits: a back-end that accepts nothing has a full queue at some time, and then
    /// connecting would block.
    fn connect(&mut self, _deadline: Instant) -> io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &SocketAddrUnix::new(&self.path)?)?;
        Ok(socket)
    }

    fn describe(&self) -> String {
        self.path.display().to_string()
    }
}

/// Waits for a back-end that connects to a socket of ours.
#[derive(Debug)]
pub struct Listen {
    listener: OwnedFd,
    path: PathBuf,
}

impl Listen {
    /// A socket that listens, and does not block in accepting. `path` is what messages call it; the file
    /// belongs to whoever made it.
    #[must_use]
    pub fn on(listener: OwnedFd, path: impl Into<PathBuf>) -> Self {
        Self { listener, path: path.into() }
    }
}

impl Source for Listen {
    fn connect(&mut self, deadline: Instant) -> io::Result<OwnedFd> {
        wait_readable(&self.listener, deadline)?;
        Ok(accept_with(&self.listener, SocketFlags::CLOEXEC)?)
    }

    fn describe(&self) -> String {
        format!("{} (waiting for the back-end to connect)", self.path.display())
    }
}

fn wait_readable(fd: &impl AsFd, deadline: Instant) -> io::Result<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(fd, PollFlags::IN)];
        match poll(&mut fds, Some(&timespec(left))) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// For `poll`.
pub(crate) fn timespec(duration: Duration) -> Timespec {
    Timespec::try_from(duration).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(20)
    }

    #[test]
    fn a_socket_is_connected_to_once_somebody_listens() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let mut source = Socket::new(&path);
        assert_eq!(source.connect(soon()).unwrap_err().kind(), io::ErrorKind::NotFound);
        let _listener = UnixListener::bind(&path).unwrap();
        source.connect(soon()).unwrap();
    }

    #[test]
    fn a_full_queue_does_not_block() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let _listener = UnixListener::bind(&path).unwrap();
        let mut source = Socket::new(&path);
        let mut connections = Vec::new();
        let error = loop {
            match source.connect(soon()) {
                Ok(connection) => connections.push(connection),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_back_end_that_connects_is_accepted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut source = Listen::on(listener.into(), &path);
        assert_eq!(source.connect(soon()).unwrap_err().kind(), io::ErrorKind::TimedOut);
        let _back_end = UnixStream::connect(&path).unwrap();
        source.connect(soon()).unwrap();
    }
}
