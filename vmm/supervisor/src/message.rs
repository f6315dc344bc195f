//! What the VMM and the supervisor say to each other: one JSON value a packet.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// No message is longer.
const LENGTH_MAX: usize = 1024;
/// No message has more descriptors.
const FDS_MAX: usize = 2;
/// Texts in messages are cut to this many characters, so that the message fits even if each is escaped.
const TEXT_MAX: usize = 150;

/// From the VMM, for the daemon of this link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Request {
    /// Start it, and send a socket that is connected to it. One that runs is ended first.
    Connect,
    /// Kill it.
    Kill,
    /// Tell it that the terminal may have another size.
    WindowChange,
}

/// From the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Report {
    /// The daemon runs; its sockets come with this message: that of its device, and that for commands if
    /// it takes any.
    Connected {
        /// Its process number.
        pid: u32,
    },
    /// It could not be started.
    Failed {
        /// Why.
        reason: String,
    },
    /// It ended.
    Exited {
        /// Its process number.
        pid: u32,
        /// How.
        status: String,
    },
}

/// What a packet was.
#[derive(Debug)]
pub(crate) enum Received<T> {
    /// A message, and the descriptors that came with it.
    Message(T, Vec<OwnedFd>),
    /// There is none now.
    Nothing,
    /// The other side is gone, or talks nonsense.
    Closed,
}

/// A fresh pair of sockets for one daemon.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .map_err(|errno| Error::System { action: "make a socket pair", source: errno.into() })
}

/// Cuts a text down to what fits into a message.
pub(crate) fn short(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

/// Sends a message without waiting. One that does not fit is lost.
pub(crate) fn send(
    socket: impl AsFd,
    message: &impl Serialize,
    fds: &[BorrowedFd<'_>],
) -> Result<(), Errno> {
    let bytes = serde_json::to_vec(message).map_err(|_| Errno::INVAL)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, flags).map(drop)
}

/// Receives a message without waiting.
pub(crate) fn receive<T: DeserializeOwned>(socket: impl AsFd) -> Received<T> {
    let mut bytes = [0; LENGTH_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let length = match recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags) {
        Ok(received) => received.bytes,
        Err(Errno::AGAIN | Errno::INTR) => return Received::Nothing,
        Err(_) => return Received::Closed,
    };
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let fds = rights.flatten().collect();
    // Nothing at all is the end; it is no message either.
    match bytes.get(..length).map(serde_json::from_slice) {
        Some(Ok(message)) => Received::Message(message, fds),
        _ => Received::Closed,
    }
}

/// The time left as `poll` wants it.
pub(crate) fn timeout(deadline: Instant) -> Timespec {
    let left = deadline.saturating_duration_since(Instant::now());
    // Beyond this it does not matter.
    let left = left.min(Duration::from_secs(1 << 30));
    Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 0, tv_nsec: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_descriptors_cross() {
        let (ours, theirs) = pair().unwrap();
        assert!(matches!(receive::<Report>(&ours), Received::Nothing));
        let (fd, _write) = std::io::pipe().unwrap();
        let report = Report::Connected { pid: 7 };
        send(&theirs, &report, &[fd.as_fd()]).unwrap();
        let exited = Report::Exited { pid: 7, status: short(&"\u{1}".repeat(999)) };
        send(&theirs, &exited, &[]).unwrap();
        match receive::<Report>(&ours) {
            Received::Message(found, fds) => assert_eq!((found, fds.len()), (report, 1)),
            other => panic!("{other:?}"),
        }
        match receive::<Report>(&ours) {
            Received::Message(found, fds) => assert_eq!((found, fds.len()), (exited, 0)),
            other => panic!("{other:?}"),
        }
        drop(theirs);
        assert!(matches!(receive::<Report>(&ours), Received::Closed));
    }

    #[test]
    fn nonsense_closes() {
        let (ours, theirs) = pair().unwrap();
        send(&theirs, &"dance", &[]).unwrap();
        assert!(matches!(receive::<Request>(&ours), Received::Closed));
    }
}
