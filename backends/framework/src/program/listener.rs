//! Where the front-end is: a socket that this back-end listens on, a connection it was started with, or
//! a socket that the front-end listens on (vhost-user, "Back-end program conventions").

use std::{
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{self, SocketAddrUnix, SocketFlags, sockopt::socket_acceptconn},
};

use super::{
    inherited::{self, ListenFds},
    options::CommonOptions,
    socket_file::{self, SocketAccess, SocketFile, address, group_number, new_socket},
};
use crate::error::{Error, Result};

/// The way to the front-end.
#[derive(Debug)]
pub enum Endpoint {
    /// Front-ends connect to this back-end.
    Listening(Listener),
    /// This process was started with a connection. When that ends, no other comes.
    Connected(UnixStream),
    /// The front-end listens; this back-end connects, again after each loss.
    Connecting(Connector),
}

impl Endpoint {
    /// Opens what the command line names, or the first socket that systemd passed.
    ///
    /// # Errors
    /// [`Error::NoEndpoint`] if neither names one; those of [`Listener::bind`], [`Endpoint::from_fd`]
    /// and [`Connector::new`].
    pub fn open(options: &CommonOptions, passed: &mut ListenFds) -> Result<Self> {
        if let Some(path) = options.socket_path.first() {
            return Self::listen(options, path);
        }
        if let Some(fd) = options.fd {
            let refused = |reason| Error::InheritedFd { fd, reason };
            let socket = inherited::claim(fd)?;
            if !inherited::is_unix_stream(&socket) {
                return Err(refused("is not a Unix stream socket"));
            }
            return Self::from_fd(socket).map_err(|_| refused("cannot be made non-blocking"));
        }
        if let Some(path) = &options.connect {
            return Connector::new(path).map(Self::Connecting);
        }
        let socket = passed.take_socket().ok_or(Error::NoEndpoint)?;
        Self::from_fd(socket).map_err(|source| Error::Socket {
            action: "use",
            path: "(passed by systemd)".into(),
            source,
        })
    }

    /// Opens the ways to so many front-ends: for several, each has its own `--socket-path`.
    ///
    /// # Errors
    /// [`Error::Endpoints`] if there are fewer or more; else as [`Endpoint::open`].
    pub fn open_all(
        options: &CommonOptions,
        passed: &mut ListenFds,
        count: usize,
    ) -> Result<Vec<Self>> {
        let paths = &options.socket_path;
        if count == 1 && paths.len() <= 1 {
            return Ok(vec![Self::open(options, passed)?]);
        }
        if paths.len() != count {
            return Err(Error::Endpoints { count, given: paths.len() });
        }
        paths.iter().map(|path| Self::listen(options, path)).collect()
    }

    fn listen(options: &CommonOptions, path: &Path) -> Result<Self> {
        let group = options.socket_group.as_deref().map(group_number).transpose()?;
        let access = SocketAccess { mode: options.socket_mode, group };
        Listener::bind(path, access).map(Self::Listening)
    }

    /// A listening or a connected Unix stream socket; the kernel tells which.
    ///
    /// # Errors
    /// The system's, if it is no socket.
    pub fn from_fd(socket: OwnedFd) -> std::io::Result<Self> {
        if socket_acceptconn(&socket)? {
            let socket = UnixListener::from(socket);
            socket.set_nonblocking(true)?;
            return Ok(Self::Listening(Listener { socket, file: None }));
        }
        let socket = UnixStream::from(socket);
        socket.set_nonblocking(true)?;
        Ok(Self::Connected(socket))
    }
}

/// A socket that clients connect to. Dropping it closes the socket and removes its file, if it was made
/// here.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    file: Option<SocketFile>,
}

impl Listener {
    /// Makes a socket file and listens on it.
    ///
    /// # Errors
    /// Those of [`SocketFile::listen`].
    pub fn bind(path: &Path, access: SocketAccess) -> Result<Self> {
        let (socket, file) = SocketFile::listen(path, access)?;
        Ok(Self { socket, file: Some(file) })
    }

    /// Accepts one connection, non-blocking; `None` if nobody waits any more.
    ///
    /// # Errors
    /// The system's; running out of descriptors is one that passes.
    pub fn accept(&self) -> std::io::Result<Option<UnixStream>> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        match net::accept_with(&self.socket, flags) {
            Ok(socket) => Ok(Some(socket.into())),
            Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The directory that the socket file will be removed from at the end, if there is one.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        self.file.as_ref().map(SocketFile::directory)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Connects to a front-end that listens, and tries again while it does not.
///
/// It keeps no clock: whoever drives it waits for [`Connector::delay`] between attempts.
#[derive(Debug)]
pub struct Connector {
    path: PathBuf,
    address: SocketAddrUnix,
    delay: Duration,
}

impl Connector {
    const FIRST_DELAY: Duration = Duration::from_millis(20);
    const LONGEST_DELAY: Duration = Duration::from_secs(1);

    /// A connector that has not tried yet.
    ///
    /// # Errors
    /// [`Error::SocketPathTooLong`].
    pub fn new(path: &Path) -> Result<Self> {
        let address = address(path)?;
        Ok(Self { path: path.to_owned(), address, delay: Self::FIRST_DELAY })
    }

    /// Tries to connect, without waiting; `None` if nobody listens there yet. Each attempt in vain
    /// doubles the delay up to a second, a successful one sets it back.
    ///
    /// # Errors
    /// [`Error::Socket`] if trying again would not help, such as a lack of permission.
    pub fn attempt(&mut self) -> Result<Option<UnixStream>> {
        let failed = |errno| socket_file::socket_error("connect to", &self.path, errno);
        let socket = new_socket().map_err(failed)?;
        match net::connect(&socket, &self.address) {
            Ok(()) => {
                self.delay = Self::FIRST_DELAY;
                Ok(Some(socket.into()))
            }
            // Not there, not listening, or its queue of connections is full.
            Err(Errno::NOENT | Errno::CONNREFUSED | Errno::AGAIN | Errno::INTR) => {
                self.delay = (self.delay * 2).min(Self::LONGEST_DELAY);
                Ok(None)
            }
            Err(errno) => Err(failed(errno)),
        }
    }

    /// How long to wait until the next attempt.
    #[must_use]
    pub fn delay(&self) -> Duration {
        self.delay
    }

    /// The front-end's socket; a sandbox has to permit connecting to it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        os::fd::{AsRawFd, IntoRawFd},
    };

    use clap::Parser;
    use rustix::io::{FdFlags, fcntl_setfd};

    use super::*;

    #[derive(Parser)]
    struct Options {
        #[command(flatten)]
        common: CommonOptions,
    }

    fn open(arguments: &[&str]) -> Result<Endpoint> {
        let arguments = std::iter::once(&"test").chain(arguments);
        let options = Options::try_parse_from(arguments).unwrap();
        Endpoint::open(&options.common, &mut ListenFds::default())
    }

    /// The number of a descriptor as it looks after `execve`.
    fn inherited(fd: impl Into<OwnedFd>) -> String {
        let fd = fd.into();
        fcntl_setfd(&fd, FdFlags::empty()).unwrap();
        format!("--fd={}", fd.into_raw_fd())
    }

    #[test]
    fn the_kernel_tells_a_listening_descriptor_from_a_connected_one() {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("s")).unwrap();
        let Endpoint::Listening(listener) = open(&[&inherited(listener)]).unwrap() else {
            panic!("a listening socket");
        };
        assert!(listener.accept().unwrap().is_none(), "must not block");
        assert!(listener.directory().is_none());

        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let Endpoint::Connected(mut ours) = open(&[&inherited(ours)]).unwrap() else {
            panic!("a connected socket");
        };
        theirs.write_all(b"x").unwrap();
        ours.read_exact(&mut [0]).unwrap();
        assert_eq!(ours.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_descriptor_that_is_no_unix_stream_socket_is_refused() {
        let (pipe, _write) = std::io::pipe().unwrap();
        let error = open(&[&inherited(pipe)]).unwrap_err();
        assert!(error.to_string().contains("not a Unix stream socket"), "{error}");
        let (datagram, _peer) = std::os::unix::net::UnixDatagram::pair().unwrap();
        assert!(open(&[&inherited(datagram)]).unwrap_err().is_usage());
    }

    #[test]
    fn a_socket_path_is_bound_with_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let endpoint =
            open(&["--socket-path", path.to_str().unwrap(), "--socket-mode=660"]).unwrap();
        let Endpoint::Listening(listener) = endpoint else { panic!("a listening socket") };
        assert!(listener.accept().unwrap().is_none());
        let _client = UnixStream::connect(&path).unwrap();
        let accepted = listener.accept().unwrap().unwrap();
        assert!(accepted.as_raw_fd() > 2);
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn several_front_ends_have_a_socket_each() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| format!("--socket-path={}", folder.path().join(name).display());
        let open = |paths: &[String], count| {
            let arguments = std::iter::once("test").chain(paths.iter().map(String::as_str));
            let options = Options::try_parse_from(arguments).unwrap().common;
            Endpoint::open_all(&options, &mut ListenFds::default(), count)
        };
        assert_eq!(open(&[path("a"), path("b")], 2).unwrap().len(), 2);
        for (given, count) in [(2, 1), (1, 2), (2, 3), (0, 2)] {
            let error = open(&[path("a"), path("b")][..given], count).unwrap_err();
            assert!(error.is_usage() && error.to_string().contains("once for each"), "{error}");
        }
        assert_eq!(open(&[path("a")], 1).unwrap().len(), 1);
    }

    #[test]
    fn without_any_socket_the_options_are_named() {
        let error = open(&[]).unwrap_err();
        assert!(error.is_usage());
        assert!(error.to_string().contains("--socket-path, --fd and --connect"), "{error}");
    }

    #[test]
    fn a_connector_waits_longer_until_the_front_end_listens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("front.sock");
        let Endpoint::Connecting(mut connector) =
            open(&["--connect", path.to_str().unwrap()]).unwrap()
        else {
            panic!("a connector");
        };
        let mut delays = Vec::new();
        for _ in 0..8 {
            assert!(connector.attempt().unwrap().is_none());
            delays.push(connector.delay());
        }
        assert!(delays.is_sorted());
        assert_eq!(delays.last(), Some(&Connector::LONGEST_DELAY));

        let _front_end = UnixListener::bind(&path).unwrap();
        assert!(connector.attempt().unwrap().is_some());
        assert_eq!(connector.delay(), Connector::FIRST_DELAY);
    }
}
