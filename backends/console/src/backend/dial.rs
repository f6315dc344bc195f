//! A Unix socket at which somebody else listens: it is connected to, again after each loss.
//!
//! Nobody says when the other side is there, so it is tried from time to time; less often the longer it
//! is away.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::{Peer, directory_of};
use crate::error::{Error, Result};

/// How long after a loss it is tried first.
const FIRST: Duration = Duration::from_millis(50);
/// How often at least while nobody is there.
const LAST: Duration = Duration::from_secs(2);

/// The way to whoever listens.
#[derive(Debug)]
pub struct Dial {
    path: PathBuf,
    address: SocketAddrUnix,
    /// When it is tried next.
    at: Duration,
    delay: Duration,
}

impl Dial {
    pub(super) fn new(path: &Path) -> Result<Self> {
        let address = SocketAddrUnix::new(path).map_err(Error::open("use", path.display()))?;
        Ok(Dial { path: path.to_owned(), address, at: Duration::ZERO, delay: FIRST })
    }

    /// When [`Dial::attempt`] has something to do.
    pub fn due(&self) -> Duration {
        self.at
    }

    /// Connects, if it is time and somebody is there.
    pub fn attempt(&mut self, now: Duration) -> Option<Peer> {
        if now < self.at {
            return None;
        }
        let socket = self.connect().ok();
        // One that takes us and turns us out at once is not to be asked again at once.
        self.delay = if socket.is_some() { FIRST } else { (2 * self.delay).min(LAST) };
        self.at = now + self.delay;
        socket.map(Peer::stream)
    }

    fn connect(&self) -> rustix::io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &self.address)?;
        Ok(socket)
    }

    pub(super) fn directory(&self) -> PathBuf {
        directory_of(&self.path).to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn it_is_tried_less_and_less_often_until_somebody_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let mut dial = Dial::new(&path).unwrap();
        let mut now = Duration::ZERO;
        for _ in 0..20 {
            assert!(dial.attempt(now).is_none());
            assert!(dial.due() > now && dial.due() <= now + LAST);
            now = dial.due();
        }
        let _listener = UnixListener::bind(&path).unwrap();
        assert!(dial.attempt(now).is_some());
        assert!(dial.attempt(now).is_none(), "not twice in a moment");
        assert_eq!(dial.due(), now + FIRST);
    }
}
