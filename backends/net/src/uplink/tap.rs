//! Tap interfaces: making or opening one, and telling the kernel what the guest can take.
#![expect(unsafe_code, reason = "the ioctls of /dev/net/tun")]

use std::ffi::c_int;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use virtio_spec::net::Header;

use crate::error::{Error, Result};

/// The requests that are made after the set-up, for the sandbox.
pub const IOCTLS: [u32; 4] = [TUNSETOFFLOAD, TUNSETQUEUE, TUNSETVNETHDRSZ, TUNSETCARRIER];

const TUNSETIFF: u32 = 0x4004_54ca;
const TUNSETOFFLOAD: u32 = 0x4004_54d0;
const TUNGETIFF: u32 = 0x8004_54d2;
const TUNSETVNETHDRSZ: u32 = 0x4004_54d8;
const TUNSETQUEUE: u32 = 0x4004_54d9;
const TUNSETVNETLE: u32 = 0x4004_54dc;
const TUNSETCARRIER: u32 = 0x4004_54e2;

const SIOCGIFMTU: u32 = 0x8921;
const SIOCSIFMTU: u32 = 0x8922;

const IFF_TAP: u16 = 0x0002;
const IFF_MULTI_QUEUE: u16 = 0x0100;
const IFF_ATTACH_QUEUE: u16 = 0x0200;
const IFF_DETACH_QUEUE: u16 = 0x0400;
const IFF_NO_PI: u16 = 0x1000;
const IFF_VNET_HDR: u16 = 0x4000;

/// The most queues of an interface, in the kernel's own words MAX_TAP_QUEUES.
const QUEUES_MAX: u16 = 256;
/// How often, and at what intervals, an interface that is in use is tried.
const PATIENCE: (u32, Duration) = (50, Duration::from_millis(20));

bitflags::bitflags! {
    /// What may be in a packet that the kernel hands over (TUN_F_*).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Offloads: u32 {
        /// A checksum that is still to be made.
        const CSUM = 1;
        /// TCP over IPv4 that is still to be cut into segments.
        const TSO4 = 2;
        /// TCP over IPv6.
        const TSO6 = 4;
        /// Such TCP with the ECN bit set.
        const TSO_ECN = 8;
        /// UDP that is still to be cut into fragments.
        const UFO = 0x10;
        /// UDP over IPv4 that is still to be cut into datagrams.
        const USO4 = 0x20;
        /// UDP over IPv6.
        const USO6 = 0x40;
    }
}

impl Offloads {
    /// The combinations that kernels take, most first: USO since Linux 6.2.
    const LADDER: [Offloads; 4] = [
        Offloads::all(),
        Offloads::from_bits_retain(0x1f),
        Offloads::from_bits_retain(0x0f),
        Offloads::from_bits_retain(0x01),
    ];
}

/// A tap interface with its queues.
#[derive(Debug)]
pub struct Tap {
    name: String,
    queues: Vec<Arc<OwnedFd>>,
    possible: Offloads,
    /// Whether it was not there before.
    made: bool,
}

/// As the kernel has it: the name of an interface, and flags, or a number in their place.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; libc::IFNAMSIZ],
    flags: u16,
    rest: [u8; 22],
}

impl Tap {
    /// Opens the interface `name`, or makes it, with so many queues.
    ///
    /// # Errors
    /// When it is not to be had; the message says what to do.
    pub fn open(name: &str, queues: u16) -> Result<Self> {
        let valid = !name.is_empty()
            && name.len() < libc::IFNAMSIZ
            && !name.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control());
        if !valid {
            return Err(Error::InterfaceName { name: name.to_owned() });
        }
        let made = mtu_of(name).is_err();
        let several = queues > 1;
        let flags = if several { IFF_MULTI_QUEUE } else { 0 };
        let open_one = || -> Result<Arc<OwnedFd>> {
            let file = open_tun()?;
            let mut request = InterfaceRequest::named(name);
            request.flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | flags;
            claim_interface(&file, &mut request)
                .map_err(|errno| refused(name, queues, made, errno))?;
            Ok(Arc::new(file.into()))
        };
        let opened = (0..queues.max(1)).map(|_| open_one()).collect::<Result<Vec<_>>>()?;
        Ok(Tap { made, ..Self::with_queues(name, opened)? })
    }

    /// Takes over descriptors of one interface that somebody else has set up.
    ///
    /// # Errors
    /// When they are no such thing.
    pub fn from_fds(fds: Vec<OwnedFd>) -> Result<Self> {
        let mut name = String::new();
        for fd in &fds {
            let mut request = InterfaceRequest::named("");
            let wanted = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
            let asked = ioctl(fd, TUNGETIFF, &mut request);
            // A macvtap has no IFF_TAP to tell of in older kernels, but it passes headers.
            if asked.is_err() || request.flags & wanted & !IFF_TAP != wanted & !IFF_TAP {
                return Err(Error::NotATap { fd: fd.as_raw_fd() });
            }
            let flags = rustix::fs::fcntl_getfl(fd).unwrap_or(rustix::fs::OFlags::empty());
            let _ = rustix::fs::fcntl_setfl(fd, flags | rustix::fs::OFlags::NONBLOCK);
            name = request.name();
        }
        Self::with_queues(&name, fds.into_iter().map(Arc::new).collect())
    }

    fn with_queues(name: &str, queues: Vec<Arc<OwnedFd>>) -> Result<Self> {
        let refused = |action: &'static str| {
            let name = name.to_owned();
            move |errno: Errno| Error::Interface { action, name, source: errno.into() }
        };
        for queue in &queues {
            // Little-endian headers, as VERSION_1 has them; not every macvtap knows the request, and
            // here they are little-endian anyway.
            let mut little: c_int = 1;
            let _ = ioctl(queue, TUNSETVNETLE, &mut little);
        }
        let possible = Offloads::empty();
        let mut tap = Tap { name: name.to_owned(), queues, possible, made: false };
        tap.set_header_size(Header::SIZE).map_err(refused("set the size of packet headers on"))?;
        let takes = |offloads: &&Offloads| tap.set_offloads(**offloads).is_ok();
        tap.possible = Offloads::LADDER.iter().find(takes).copied().unwrap_or_default();
        tap.set_offloads(Offloads::empty()).map_err(refused("switch off offloads on"))?;
        // Packets come by the first queue alone until another is in use.
        for queue in 1..u16::try_from(tap.queues.len()).unwrap_or(u16::MAX) {
            tap.attach(queue, false).map_err(refused("detach a queue of"))?;
        }
        Ok(tap)
    }

    /// A tap that is not there: for tests, whose engine moves the packets itself.
    #[doc(hidden)]
    pub fn imaginary() -> Self {
        let (queues, possible) = (Vec::new(), Offloads::all());
        Tap { name: "none".into(), queues, possible, made: false }
    }

    /// A tap that does nothing that it is told.
    #[cfg(test)]
    pub(crate) fn deaf() -> Self {
        let queue = File::open("/dev/null").expect("every Unix has it");
        Tap { queues: vec![Arc::new(queue.into())], ..Tap::imaginary() }
    }

    /// The interface's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// One descriptor for each queue.
    pub fn queues(&self) -> &[Arc<OwnedFd>] {
        &self.queues
    }

    /// What the kernel could leave to the guest.
    pub fn possible(&self) -> Offloads {
        self.possible
    }

    /// What a switch can do for guests that do not take what the kernel leaves to them.
    pub(super) fn for_switch(&self) -> Offloads {
        let doable = Offloads::CSUM | Offloads::TSO4 | Offloads::TSO6 | Offloads::TSO_ECN;
        self.possible & doable
    }

    /// Says what the kernel may leave to the guest, from the next packet on.
    ///
    /// # Errors
    /// When the kernel cannot do that.
    pub fn set_offloads(&self, offloads: Offloads) -> Result<(), Errno> {
        let Some(queue) = self.queues.first() else { return Ok(()) };
        ioctl_value(queue, TUNSETOFFLOAD, offloads.bits())
    }

    /// Says how many bytes of header are before each packet, both ways.
    ///
    /// # Errors
    /// When the kernel cannot do that.
    pub fn set_header_size(&self, size: usize) -> Result<(), Errno> {
        let mut size = c_int::try_from(size).map_err(|_| Errno::INVAL)?;
        // Of a tap, all queues have one size; of a macvtap, each has its own. A queue that is detached
        // from its tap cannot be asked.
        let mut queues = self.queues.iter();
        if let Some(first) = queues.next() {
            ioctl(first, TUNSETVNETHDRSZ, &mut size)?;
        }
        for queue in queues {
            let _ = ioctl(queue, TUNSETVNETHDRSZ, &mut size);
        }
        Ok(())
    }

    /// Shows the host whether there is a link; not every kernel, and no macvtap, can do that.
    pub fn set_carrier(&self, up: bool) {
        let mut up = c_int::from(up);
        if let Some(queue) = self.queues.first() {
            let _ = ioctl(queue, TUNSETCARRIER, &mut up);
        }
    }

    /// Sends a frame of our own, behind a header of so many bytes that asks for nothing.
    ///
    /// # Errors
    /// When the kernel does not take it.
    pub fn send(&self, frame: &[u8], header: usize) -> Result<(), Errno> {
        let queue = self.queues.first().ok_or(Errno::NODEV)?;
        let packet = [&vec![0; header], frame].concat();
        rustix::io::write(queue, &packet).map(drop)
    }

    /// Lets the kernel hand packets to this queue, or to the others only.
    ///
    /// # Errors
    /// When the kernel refuses. A queue that is as it should be already is no error.
    pub fn attach(&self, queue: u16, attached: bool) -> Result<(), Errno> {
        let fd = self.queues.get(usize::from(queue)).ok_or(Errno::INVAL)?;
        let mut request = InterfaceRequest::named("");
        request.flags = if attached { IFF_ATTACH_QUEUE } else { IFF_DETACH_QUEUE };
        match ioctl(fd, TUNSETQUEUE, &mut request) {
            Err(Errno::INVAL) => Ok(()),
            result => result,
        }
    }

    /// Sees to it that the interface takes frames of this MTU, if it is of our own making. One of which
    /// nobody can tell is believed to.
    ///
    /// # Errors
    /// [`Error::MtuMismatch`], which says what to do.
    pub fn carries(&self, mtu: u16) -> Result<()> {
        let Ok(there) = mtu_of(&self.name) else { return Ok(()) };
        if there >= mtu.into() || (self.made && set_mtu_of(&self.name, mtu).is_ok()) {
            return Ok(());
        }
        Err(Error::MtuMismatch { name: self.name.clone(), mtu, there })
    }
}

/// The MTU of an interface of this network.
fn mtu_of(name: &str) -> Result<u32, Errno> {
    let mut request = InterfaceRequest::named(name);
    ioctl(&any_socket()?, SIOCGIFMTU, &mut request)?;
    Ok(request.number())
}

fn set_mtu_of(name: &str, mtu: u16) -> Result<(), Errno> {
    let mut request = InterfaceRequest::named(name);
    request.flags = mtu;
    ioctl(&any_socket()?, SIOCSIFMTU, &mut request)
}

/// Any socket does for questions about interfaces.
fn any_socket() -> Result<OwnedFd, Errno> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
}

impl InterfaceRequest {
    fn named(name: &str) -> Self {
        let mut request = InterfaceRequest { name: [0; libc::IFNAMSIZ], flags: 0, rest: [0; 22] };
        for (to, from) in request.name.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
            *to = from;
        }
        request
    }

    /// The number in the place of the flags.
    fn number(&self) -> u32 {
        let [low, high] = self.flags.to_ne_bytes();
        let [third, fourth, ..] = self.rest;
        u32::from_ne_bytes([low, high, third, fourth])
    }

    fn name(&self) -> String {
        let bytes = self.name.split(|byte| *byte == 0).next().unwrap_or(&[]);
        String::from_utf8_lossy(bytes).into_owned()
    }
}

fn open_tun() -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open("/dev/net/tun")
        .map_err(|source| Error::NoTun { source })
}

/// Attaches a descriptor to its interface. A predecessor that was just killed may hold it a moment
/// longer, until the kernel has wound up its io_uring.
fn claim_interface(file: &File, request: &mut InterfaceRequest) -> Result<(), Errno> {
    let (tries, interval) = PATIENCE;
    for _ in 0..tries {
        match ioctl(file, TUNSETIFF, request) {
            Err(Errno::BUSY) => std::thread::sleep(interval),
            result => return result,
        }
    }
    Err(Errno::BUSY)
}

fn refused(name: &str, queues: u16, missing: bool, errno: Errno) -> Error {
    let (name, several) = (name.to_owned(), queues > 1);
    let flags = if several { " multi_queue vnet_hdr" } else { " vnet_hdr" };
    match errno {
        Errno::PERM | Errno::ACCESS if missing => Error::Missing { name, flags },
        Errno::PERM | Errno::ACCESS => Error::NoPermission { name, flags },
        Errno::BUSY => Error::InUse { name },
        Errno::TOOBIG => Error::TooManyQueues { name, queues, most: QUEUES_MAX },
        Errno::INVAL => {
            let wanted = if several { "a tap with several queues" } else { "a tap with one queue" };
            Error::OtherKind { name, wanted, flags }
        }
        errno => Error::Interface { action: "open", name, source: errno.into() },
    }
}

fn ioctl<T>(fd: &impl AsRawFd, request: u32, argument: &mut T) -> Result<(), Errno> {
    // SAFETY: each request of this file reads and writes at most what `argument` is: an
    // InterfaceRequest, which has the size of an ifreq, or a c_int.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request.into(), argument) };
    outcome(result)
}

fn ioctl_value(fd: &impl AsRawFd, request: u32, value: u32) -> Result<(), Errno> {
    // SAFETY: the argument is a number.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request.into(), libc::c_ulong::from(value)) };
    outcome(result)
}

fn outcome(result: c_int) -> Result<(), Errno> {
    if result >= 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
}

/// Descriptors by number, as `--tap-fd` names them.
///
/// # Errors
/// [`Error::NotATap`] for one that is not open.
pub fn claim(numbers: &[RawFd]) -> Result<Vec<OwnedFd>, framework::Error> {
    numbers.iter().map(|number| framework::program::inherited::claim(*number)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_as_large_as_the_kernels() {
        assert_eq!(size_of::<InterfaceRequest>(), size_of::<libc::ifreq>());
    }

    #[test]
    fn bad_names_are_refused_before_anybody_is_asked() {
        for name in ["", "a/b", "a b", "sixteen-letters-x"] {
            assert!(matches!(Tap::open(name, 1), Err(Error::InterfaceName { .. })), "{name:?}");
        }
    }

    #[test]
    fn what_is_no_tap_is_refused() {
        let fd = File::open("/dev/null").unwrap().into();
        assert!(matches!(Tap::from_fds(vec![fd]), Err(Error::NotATap { .. })));
    }
}
