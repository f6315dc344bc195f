//! A socket that peers connect to. Whoever finds no room waits until somebody has left.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use framework::program::socket_file::{SocketAccess, SocketFile};
use rustix::net::sockopt::{set_socket_keepalive, set_tcp_keepidle, set_tcp_nodelay};
use rustix::net::{SocketFlags, accept_with};

use super::{Peer, new_id};
use crate::error::{Error, Result};

/// A daemon that was killed leaves its sockets to its io_uring, which the kernel takes down a moment
/// after the process: for so long the socket seems to be in use.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// How long nothing comes from another machine before it is asked whether it is there.
const IDLE: Duration = Duration::from_secs(60);

/// A listening socket.
#[derive(Debug)]
pub struct Socket {
    pub(super) id: u64,
    pub(super) fd: Arc<OwnedFd>,
    file: Option<SocketFile>,
}

impl Socket {
    /// A Unix socket; a file that nobody listens on any more is replaced.
    pub(super) fn unix(path: &Path) -> Result<Self, framework::Error> {
        let mut tries = 0;
        let (socket, file) = loop {
            match SocketFile::listen(path, SocketAccess::default()) {
                Err(framework::Error::SocketInUse { .. }) if tries < TRIES => {
                    tries += 1;
                    std::thread::sleep(PAUSE);
                }
                outcome => break outcome?,
            }
        };
        Ok(Socket { id: new_id(), fd: Arc::new(socket.into()), file: Some(file) })
    }

    /// A TCP socket, on the loopback interface unless an address is given. `remote`: other machines may
    /// be let in.
    pub(super) fn tcp(text: &str, remote: bool) -> Result<Self> {
        let address = address(text)?;
        if !remote && !address.ip().to_canonical().is_loopback() {
            return Err(Error::Remote { address });
        }
        let failed = || Error::open("listen on", address);
        let socket = TcpListener::bind(address).map_err(failed())?;
        socket.set_nonblocking(true).map_err(failed())?;
        // Whoever connects inherits this: a key's echo does not wait for an answer to the one before, and
        // a machine that has vanished does not occupy the port for ever.
        set_tcp_nodelay(&socket, true)
            .and_then(|()| set_socket_keepalive(&socket, true))
            .and_then(|()| set_tcp_keepidle(&socket, IDLE))
            .map_err(Error::open("set up", address))?;
        Ok(Self::listening(socket.into()))
    }

    /// A socket that listens already and is non-blocking.
    pub fn listening(fd: OwnedFd) -> Self {
        Socket { id: new_id(), fd: Arc::new(fd), file: None }
    }

    pub(super) fn accept(&self) -> Option<Peer> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        accept_with(&self.fd, flags).ok().map(Peer::stream)
    }

    pub(super) fn directory(&self) -> Option<PathBuf> {
        self.file.as_ref().map(|file| file.directory().to_owned())
    }
}

fn address(text: &str) -> Result<SocketAddr> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    text.parse().map_err(|_| Error::Address { address: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_port_is_for_this_machine_alone() {
        assert_eq!(address("4000").unwrap().to_string(), "127.0.0.1:4000");
        assert_eq!(address("[::]:4000").unwrap().to_string(), "[::]:4000");
        assert!(address("host").is_err());
        for open in ["0.0.0.0:0", "[::]:0", "[::ffff:0.0.0.0]:0"] {
            assert!(matches!(Socket::tcp(open, false), Err(Error::Remote { .. })), "{open}");
        }
        assert!(Socket::tcp("0", false).is_ok());
        assert!(Socket::tcp("0.0.0.0:0", true).is_ok());
    }
}
