//! Talking to the service manager (sd_notify(3)): readiness, and descriptors kept over a restart.
//!
//! The socket is connected once, before the sandbox closes: from then on nothing can be opened or
//! connected, but what is open can be written to.

use std::{
    env,
    ffi::OsStr,
    io::IoSlice,
    mem::MaybeUninit,
    os::fd::{BorrowedFd, OwnedFd},
    os::unix::ffi::OsStrExt,
};

use rustix::net::{
    self, AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType,
};

/// The connection to the service manager, if there is one. Without one all calls do nothing.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<OwnedFd>,
}

impl Notifier {
    /// Connects to the socket that `NOTIFY_SOCKET` names. A manager that cannot be reached is logged;
    /// the daemon can do without.
    #[must_use]
    pub fn from_env() -> Self {
        let Some(address) = env::var_os("NOTIFY_SOCKET") else {
            return Self::default();
        };
        Self::connected_to(&address)
    }

    pub(super) fn connected_to(address: &OsStr) -> Self {
        match connect(address) {
            Ok(socket) => Self { socket: Some(socket) },
            Err(errno) => {
                tracing::warn!(?address, %errno, "the service manager cannot be reached");
                Self::default()
            }
        }
    }

    /// Whether a service manager listens.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.socket.is_some()
    }

    /// The daemon serves: whoever waits for it may go on.
    pub fn ready(&self) {
        self.send("READY=1\n", None);
    }

    /// The daemon is draining and will exit.
    pub fn stopping(&self) {
        self.send("STOPPING=1\n", None);
    }

    /// A line for people, shown by `systemctl status`.
    pub fn status(&self, text: &str) {
        self.send(&format!("STATUS={}\n", text.replace('\n', " ")), None);
    }

    /// Gives the manager a descriptor to keep while the daemon is restarted. The next start gets it
    /// back under that name by [`super::inherited::ListenFds::take`], if the unit's
    /// `FileDescriptorStoreMax=` permits it.
    pub fn store_fd(&self, name: &str, fd: BorrowedFd<'_>) {
        self.send(&format!("FDSTORE=1\nFDNAME={name}\n"), Some(fd));
    }

    fn send(&self, message: &str, fd: Option<BorrowedFd<'_>>) {
        let Some(socket) = &self.socket else { return };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = fd.as_slice();
        // The space is made for exactly this.
        let fits = fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(fds));
        let data = [IoSlice::new(message.as_bytes())];
        // A manager that does not read must not stop the daemon.
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match net::sendmsg(socket, &data, &mut control, flags) {
            Ok(_) if fits => {}
            Ok(_) => tracing::warn!(message, "sent without its descriptor"),
            Err(errno) => tracing::warn!(message, %errno, "the service manager was not told"),
        }
    }
}

/// Connects to a path, or to an abstract socket if the address begins with `@`.
fn connect(address: &OsStr) -> rustix::io::Result<OwnedFd> {
    let address = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddrUnix::new_abstract_name(name)?,
        path => SocketAddrUnix::new(path)?,
    };
    let socket =
        net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    net::connect(&socket, &address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{IoSliceMut, Write},
        os::{
            fd::AsFd,
            linux::net::SocketAddrExt,
            unix::net::{SocketAddr, UnixDatagram},
        },
    };

    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

    use super::*;

    fn next(manager: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn states_are_told_in_the_managers_words() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::connected_to(path.as_os_str());
        assert!(notifier.is_active());
        notifier.ready();
        assert_eq!(next(&manager), "READY=1\n");
        notifier.status("serving\n2 queues");
        assert_eq!(next(&manager), "STATUS=serving 2 queues\n");
        notifier.stopping();
        assert_eq!(next(&manager), "STOPPING=1\n");
    }

    #[test]
    fn an_abstract_address_begins_with_an_at_sign() {
        let name = format!("outrigger-notify-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        Notifier::connected_to(OsStr::new(&format!("@{name}"))).ready();
        assert_eq!(next(&manager), "READY=1\n");
    }

    #[test]
    fn a_stored_descriptor_travels_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let (read, mut write) = std::io::pipe().unwrap();
        Notifier::connected_to(path.as_os_str()).store_fd("outrigger-state", read.as_fd());

        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut text = [0; 256];
        let mut data = [IoSliceMut::new(&mut text)];
        let received =
            net::recvmsg(&manager, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
        assert_eq!(&text[..received.bytes], b"FDSTORE=1\nFDNAME=outrigger-state\n");
        let Some(RecvAncillaryMessage::ScmRights(mut fds)) = control.drain().next() else {
            panic!("a descriptor");
        };
        let stored = fds.next().unwrap();
        write.write_all(b"kept").unwrap();
        let mut kept = [0; 4];
        rustix::io::read(&stored, &mut kept).unwrap();
        assert_eq!(&kept, b"kept");
    }

    #[test]
    fn without_a_manager_nothing_happens() {
        let notifier = Notifier::default();
        assert!(!notifier.is_active());
        notifier.ready();
        assert!(!Notifier::connected_to(OsStr::new("/nonexistent/notify")).is_active());
    }

    #[test]
    fn a_manager_that_does_not_read_stops_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let _manager = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::connected_to(path.as_os_str());
        (0..10_000).for_each(|_| notifier.ready());
    }
}
