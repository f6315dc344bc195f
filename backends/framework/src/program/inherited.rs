//! Descriptors that this process was started with: `--fd`, `--state-fd`, systemd's `LISTEN_FDS`.
//!
//! Such a descriptor is only a number until somebody owns it. A descriptor that came through `execve`
//! cannot have `FD_CLOEXEC` set, and all that this process opens itself has it set; so that flag tells
//! what is free to be claimed, and setting it marks the claim.
#![expect(unsafe_code, reason = "an inherited descriptor is a bare number until it is claimed")]

use std::{
    collections::VecDeque,
    env,
    os::fd::{FromRawFd, OwnedFd, RawFd},
    process,
    sync::{Mutex, PoisonError},
};

use rustix::{
    io::{FdFlags, fcntl_setfd},
    net::{
        AddressFamily, SocketType,
        sockopt::{socket_domain, socket_type},
    },
};

use crate::error::{Error, Result};

/// The first descriptor that systemd passes.
const LISTEN_FDS_START: RawFd = 3;
/// More descriptors than any back-end takes; systemd's own limit is far higher.
const LISTEN_FDS_MAX: RawFd = 64;

/// Makes testing and setting the flag one step for the threads of this process.
static CLAIMS: Mutex<()> = Mutex::new(());

/// Takes ownership of a descriptor that this process was started with, and keeps it from children.
///
/// # Errors
/// [`Error::InheritedFd`] if it is one of the standard streams, is not open, or was not inherited
/// (which includes: claimed before).
pub fn claim(fd: RawFd) -> Result<OwnedFd> {
    let refused = |reason| Error::InheritedFd { fd, reason };
    if fd <= libc::STDERR_FILENO {
        return Err(refused("is a standard stream, or negative"));
    }
    let _one_at_a_time = CLAIMS.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: F_GETFD reads a flag; for a number that is not open it returns EBADF.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    if flags < 0 {
        return Err(refused("is not open"));
    }
    if flags & libc::FD_CLOEXEC != 0 {
        return Err(refused("was not inherited, or is used already"));
    }
    // SAFETY: the descriptor is open, and nothing in this process owns it: it came through execve,
    // and a claim before this one would have set FD_CLOEXEC under the same lock.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    fcntl_setfd(&owned, FdFlags::CLOEXEC).map_err(|_| refused("cannot be kept from children"))?;
    Ok(owned)
}

/// The descriptors that systemd passed: activated sockets, and what the service put into the fd
/// store before it was restarted (sd_listen_fds(3)).
#[derive(Debug, Default)]
pub struct ListenFds {
    named: VecDeque<(String, OwnedFd)>,
}

impl ListenFds {
    /// Claims what the environment announces to this process; nothing if it announces nothing.
    ///
    /// # Errors
    /// [`Error::Activation`] if a variable cannot be understood, [`Error::InheritedFd`] if a descriptor
    /// is not there.
    pub fn from_env() -> Result<Self> {
        let announced = announced(|variable| env::var(variable).ok(), process::id())?;
        let mut named = VecDeque::with_capacity(announced.len());
        for (fd, name) in announced {
            named.push_back((name, claim(fd)?));
        }
        Ok(Self { named })
    }

    #[cfg(test)]
    pub(super) fn named(name: &str, fd: OwnedFd) -> Self {
        Self { named: VecDeque::from([(name.to_owned(), fd)]) }
    }

    /// Takes the first descriptor of that name (`FileDescriptorName=` of the socket unit, or `FDNAME=`
    /// of the fd store).
    pub fn take(&mut self, name: &str) -> Option<OwnedFd> {
        let position = self.named.iter().position(|(found, _)| found == name)?;
        self.named.remove(position).map(|(_, fd)| fd)
    }

    /// Takes the first Unix stream socket, whatever its name.
    pub fn take_socket(&mut self) -> Option<OwnedFd> {
        let position = self.named.iter().position(|(_, fd)| is_unix_stream(fd))?;
        self.named.remove(position).map(|(_, fd)| fd)
    }
}

/// Whether vhost-user can be spoken on this descriptor.
pub(crate) fn is_unix_stream(fd: &OwnedFd) -> bool {
    socket_domain(fd) == Ok(AddressFamily::UNIX) && socket_type(fd) == Ok(SocketType::STREAM)
}

/// Numbers and names of the descriptors that the environment announces to process `pid`.
fn announced(variable: impl Fn(&str) -> Option<String>, pid: u32) -> Result<Vec<(RawFd, String)>> {
    let (Some(target), Some(count)) = (variable("LISTEN_PID"), variable("LISTEN_FDS")) else {
        return Ok(Vec::new());
    };
    // Variables that a parent left behind are not for us.
    if target.parse() != Ok(pid) {
        return Ok(Vec::new());
    }
    let count: RawFd = match count.parse() {
        Ok(count) if (0..=LISTEN_FDS_MAX).contains(&count) => count,
        _ => return Err(Error::Activation { variable: "LISTEN_FDS", value: count }),
    };
    let names = variable("LISTEN_FDNAMES").unwrap_or_default();
    let names = names.split(':').map(str::to_owned).chain(std::iter::repeat(String::new()));
    Ok((LISTEN_FDS_START..LISTEN_FDS_START + count).zip(names).collect())
}

#[cfg(test)]
mod tests {
    use std::{
        os::{
            fd::{AsRawFd, IntoRawFd},
            unix::net::{UnixDatagram, UnixListener},
        },
        str::FromStr,
    };

    use rustix::io::fcntl_getfd;

    use super::*;

    /// A descriptor as it looks after `execve`: open, owned by nobody, without `FD_CLOEXEC`.
    fn inherited(fd: impl Into<OwnedFd>) -> RawFd {
        let fd = fd.into();
        fcntl_setfd(&fd, FdFlags::empty()).unwrap();
        fd.into_raw_fd()
    }

    #[test]
    fn a_descriptor_is_claimed_once() {
        let (read, _write) = std::io::pipe().unwrap();
        let number = inherited(read);
        let owned = claim(number).unwrap();
        assert_eq!(owned.as_raw_fd(), number);
        assert_eq!(fcntl_getfd(&owned), Ok(FdFlags::CLOEXEC));
        let error = claim(number).unwrap_err();
        assert!(error.to_string().contains("is used already"), "{error}");
    }

    #[test]
    fn what_was_not_inherited_is_refused() {
        let (own, _write) = std::io::pipe().unwrap();
        for (fd, complaint) in [
            (-1, "standard stream"),
            (0, "standard stream"),
            (2, "standard stream"),
            (1_000_000, "is not open"),
            (own.as_raw_fd(), "was not inherited"),
        ] {
            let error = claim(fd).unwrap_err();
            assert!(error.to_string().contains(complaint), "{fd}: {error}");
        }
    }

    fn listen(
        pid: Option<&str>,
        count: Option<&str>,
        names: Option<&str>,
    ) -> Result<Vec<(RawFd, String)>> {
        let value = |name: &str| match name {
            "LISTEN_PID" => pid,
            "LISTEN_FDS" => count,
            _ => names,
        };
        announced(|name| value(name).and_then(|value| String::from_str(value).ok()), 42)
    }

    #[test]
    fn only_what_is_announced_to_this_process_is_taken() {
        assert_eq!(listen(None, None, None).unwrap(), []);
        assert_eq!(listen(Some("41"), Some("1"), None).unwrap(), []);
        assert_eq!(listen(Some("42"), None, None).unwrap(), []);
        assert_eq!(
            listen(Some("42"), Some("2"), Some("vhost:control")).unwrap(),
            [(3, "vhost".to_owned()), (4, "control".to_owned())]
        );
        assert_eq!(
            listen(Some("42"), Some("2"), Some("vhost")).unwrap(),
            [(3, "vhost".to_owned()), (4, String::new())]
        );
        for count in ["-1", "x", "65", "99999999999"] {
            let error = listen(Some("42"), Some(count), None).unwrap_err();
            assert!(error.to_string().contains("LISTEN_FDS"), "{error}");
        }
    }

    #[test]
    fn descriptors_are_taken_by_name_or_kind() {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixListener::bind(folder.path().join("s")).unwrap();
        let number = socket.as_raw_fd();
        let mut fds = ListenFds {
            named: VecDeque::from([
                ("state".to_owned(), std::io::pipe().unwrap().0.into()),
                ("datagram".to_owned(), UnixDatagram::unbound().unwrap().into()),
                ("vhost".to_owned(), socket.into()),
            ]),
        };
        assert!(fds.take("control").is_none());
        assert_eq!(fds.take_socket().unwrap().as_raw_fd(), number);
        assert!(fds.take_socket().is_none());
        assert!(fds.take("state").is_some());
        assert!(fds.take("state").is_none());
    }
}
