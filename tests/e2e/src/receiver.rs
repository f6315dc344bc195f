//! A receiver that computes every checksum itself: a raw socket on a link without offloads.

use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::net::sockopt::{Timeout, set_socket_recv_buffer_size, set_socket_timeout};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketType, recv, socket};

use crate::error::{Error, Result};
use crate::namespace::Namespace;

/// Frames of every type, in network order (ETH_P_ALL).
const EVERY: u32 = (3_u16.to_be()) as u32;
/// How often it looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(50);
/// Room for frames that have not been looked at yet, bytes.
const WAITING: usize = 8 << 20;
/// Ethernet's head, and where the type is in it.
const ETHERNET: usize = 14;
const IPV4: [u8; 2] = [8, 0];
const TCP: u8 = 6;
const UDP: u8 = 17;

/// What has arrived, by protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Whole TCP segments.
    pub tcp: u64,
    /// Whole UDP datagrams.
    pub udp: u64,
    /// Packets of which a checksum is wrong.
    pub wrong: u64,
}

/// Looks at every IPv4 packet for one address that arrives in a namespace.
#[derive(Debug)]
pub struct Receiver {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Seen>>,
}

impl Receiver {
    /// Starts to look.
    ///
    /// # Errors
    /// When the namespace cannot be entered, or raw sockets are not allowed.
    pub fn start(namespace: &Namespace, address: Ipv4Addr) -> Result<Self> {
        let socket = std::thread::scope(|scope| {
            let opened = scope.spawn(|| {
                namespace.enter()?;
                open()
            });
            opened.join().unwrap_or_else(|_| Err(failed("opening a raw socket", "it panicked")))
        })?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || look(&socket, address, &told));
        Ok(Self { stop, thread })
    }

    /// Stops, and says what it has seen.
    ///
    /// # Errors
    /// When it could not read on.
    pub fn finish(self) -> Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|_| Err(failed("receiving", "it panicked")))
    }
}

fn failed(what: &str, why: impl std::fmt::Display) -> Error {
    Error::Packages { context: what.into(), detail: why.to_string() }
}

fn open() -> Result<OwnedFd> {
    let every = NonZeroU32::new(EVERY).map(Protocol::from_raw);
    let open = || {
        let socket = socket(AddressFamily::PACKET, SocketType::RAW, every)?;
        set_socket_recv_buffer_size(&socket, WAITING)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(LOOK))?;
        Ok(socket)
    };
    open().map_err(|error: rustix::io::Errno| failed("opening a raw socket", error))
}

fn look(socket: &OwnedFd, address: Ipv4Addr, stop: &AtomicBool) -> Result<Seen> {
    let (mut seen, mut frame) = (Seen::default(), vec![0; 1 << 17]);
    loop {
        match recv(socket, frame.as_mut_slice(), RecvFlags::empty()) {
            Ok((length, _)) => count(frame.get(..length).unwrap_or_default(), address, &mut seen),
            // What was sent before it was told to stop has arrived by then.
            Err(rustix::io::Errno::AGAIN) if stop.load(Ordering::Relaxed) => return Ok(seen),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(error) => return Err(failed("receiving", error)),
        }
    }
}

/// Counts a frame, if it is for the address and not a piece of a fragmented packet.
fn count(frame: &[u8], address: Ipv4Addr, seen: &mut Seen) {
    let Some(packet) = packet(frame) else { return };
    let (head, payload, protocol) = packet;
    let for_us = head.get(16..20) == Some(&address.octets()[..]);
    let piece = matches!(head.get(6..8), Some([flags, rest]) if flags & 0x3f != 0 || *rest != 0);
    if !for_us || piece {
        return;
    }
    let length = u16::try_from(payload.len()).unwrap_or(u16::MAX).to_be_bytes();
    let pseudo = [head.get(12..20).unwrap_or_default(), &[0, protocol], &length].concat();
    let sums = [sum(head, 0), sum(payload, sum(&pseudo, 0))];
    match protocol {
        // A datagram may do without.
        UDP if payload.get(6..8) == Some(&[0, 0]) => {}
        _ if sums.iter().any(|sum| *sum != u16::MAX) => seen.wrong += 1,
        TCP => seen.tcp += 1,
        UDP => seen.udp += 1,
        _ => {}
    }
}

/// The head of an IPv4 packet, what it carries, and the protocol of that; of TCP and UDP only.
fn packet(frame: &[u8]) -> Option<(&[u8], &[u8], u8)> {
    if frame.get(ETHERNET - 2..ETHERNET)? != IPV4 {
        return None;
    }
    let packet = frame.get(ETHERNET..)?;
    let head = usize::from(packet.first()? & 15) * 4;
    let length = u16::from_be_bytes(packet.get(2..4)?.try_into().ok()?);
    let protocol = *packet.get(9)?;
    let payload = packet.get(head..length.into())?;
    matches!(protocol, TCP | UDP).then_some((packet.get(..head)?, payload, protocol))
}

/// The sum in ones' complement (RFC 1071): all bits set over data that has its checksum in it.
fn sum(bytes: &[u8], begin: u16) -> u16 {
    let word = |pair: &[u8]| match *pair {
        [high, low] => u16::from_be_bytes([high, low]),
        [high] => u16::from_be_bytes([high, 0]),
        _ => 0,
    };
    let words = bytes.chunks(2).map(|pair| u32::from(word(pair)));
    let mut sum = u32::from(begin) + words.sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    /// A datagram of three bytes with the given checksums.
    fn datagram(head_sum: u16, sum: u16) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend_from_slice(&IPV4);
        frame.extend_from_slice(&[0x45, 0, 0, 31, 0, 1, 0, 0, 64, UDP]);
        frame.extend_from_slice(&head_sum.to_be_bytes());
        frame.extend_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2, 0, 1, 0, 2, 0, 11]);
        frame.extend_from_slice(&sum.to_be_bytes());
        frame.extend_from_slice(&[1, 2, 3]);
        frame
    }

    fn seen(frame: &[u8]) -> Seen {
        let mut seen = Seen::default();
        count(frame, ADDRESS, &mut seen);
        seen
    }

    #[test]
    fn wrong_checksums_are_seen() {
        // By hand: the words of the head add up to 0x9934, those of datagram and pseudo-header to
        // 0x182f.
        let (head, sum) = (!0x9934_u16, !0x182f_u16);
        assert_eq!(seen(&datagram(head, sum)), Seen { udp: 1, ..Seen::default() });
        for frame in [datagram(head ^ 1, sum), datagram(head, sum ^ 0x100)] {
            assert_eq!(seen(&frame), Seen { wrong: 1, ..Seen::default() });
        }
    }

    #[test]
    fn what_is_cut_short_is_not_looked_at() {
        let frame = datagram(0, 0);
        for length in 0..frame.len() {
            assert_eq!(seen(&frame[..length]), Seen::default());
        }
    }
}
