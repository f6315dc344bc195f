//! What can go wrong in `outrigger-net` outside the data path. Each message says what to do next.

use std::io;
use std::path::PathBuf;

/// An error of the network back-end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no tun driver.
    #[error(
        "cannot open /dev/net/tun: {source}: load the driver with `modprobe tun`, and give this \
         user access to the device"
    )]
    NoTun {
        /// Why it failed.
        source: io::Error,
    },
    /// The name is no interface name.
    #[error(
        "{name:?} is no name for an interface: it has 1 to 15 bytes, and neither `/` nor blanks"
    )]
    InterfaceName {
        /// The name that was asked for.
        name: String,
    },
    /// There is no such interface, and this user may make none.
    #[error(
        "there is no interface {name}, and this user may not make one: make it first, as root, with \
         `ip tuntap add dev {name} mode tap user $USER{flags} && ip link set {name} up`"
    )]
    Missing {
        /// The interface.
        name: String,
        /// What else `ip tuntap` is to be told.
        flags: &'static str,
    },
    /// This user may not use the interface.
    #[error(
        "no permission to use the interface {name}: it is another user's: as root, remove it with \
         `ip link delete {name}`, and make it anew with `ip tuntap add dev {name} mode tap user \
         $USER{flags} && ip link set {name} up`"
    )]
    NoPermission {
        /// The interface.
        name: String,
        /// What else `ip tuntap` is to be told.
        flags: &'static str,
    },
    /// Somebody else has the interface open.
    #[error(
        "the interface {name} is in use: end the process that has it open, or choose another name"
    )]
    InUse {
        /// The interface.
        name: String,
    },
    /// The interface is of another kind.
    #[error(
        "the interface {name} is there, but not as {wanted}: remove it with `ip link delete \
         {name}`, or make it anew with `ip tuntap add dev {name} mode tap{flags}`"
    )]
    OtherKind {
        /// The interface.
        name: String,
        /// What it should be.
        wanted: &'static str,
        /// What else `ip tuntap` is to be told.
        flags: &'static str,
    },
    /// The descriptor given is no tap.
    #[error(
        "file descriptor {fd} is not a tap that passes packet headers: open /dev/net/tun (or \
         /dev/tapN of a macvtap) and set it up with TUNSETIFF, flags IFF_TAP, IFF_NO_PI and \
         IFF_VNET_HDR"
    )]
    NotATap {
        /// The descriptor.
        fd: i32,
    },
    /// The kernel refused something about the interface.
    #[error("cannot {action} the interface {name}: {source}")]
    Interface {
        /// What was tried.
        action: &'static str,
        /// The interface.
        name: String,
        /// Why it failed.
        source: io::Error,
    },
    /// An MTU that cannot be.
    #[error("an MTU of {mtu} cannot be served: choose one from {min} to {max}")]
    Mtu {
        /// The MTU that was asked for.
        mtu: u64,
        /// The smallest.
        min: u16,
        /// The largest.
        max: u16,
    },
    /// Somebody wrote to the config space.
    #[error(
        "a write of {length} bytes at offset {offset} of the config space was refused: a driver \
         that has negotiated VERSION_1 has no field there to write"
    )]
    ConfigWrite {
        /// Where the write began, bytes.
        offset: usize,
        /// Its length, bytes.
        length: usize,
    },
    /// A link is either up or down.
    #[error("say {{\"cmd\":\"link\",\"state\":\"up\"}} or \"down\"")]
    LinkState,
    /// A switch needs descriptors.
    #[error("cannot make a switch: {source}: raise the limit of open files (ulimit -n)")]
    Switch {
        /// Why it failed.
        source: io::Error,
    },
    /// The engine that was asked for is not to be had.
    #[error("the switch's uplink has no I/O engine: {source}: choose another with --engine")]
    Engine {
        /// Why it failed.
        source: io::Error,
    },
    /// The file of a capture cannot be opened.
    #[error("cannot write the capture to {}: {source}: choose a file in a directory that is there, and yours", path.display())]
    Capture {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A limit is a direction and numbers.
    #[error(
        "say {{\"cmd\":\"rate\",\"direction\":\"tx\"}} (or \"rx\") with \"bytes_per_second\" or \
         \"packets_per_second\", whole numbers above 0; what is left out is unlimited: {what}"
    )]
    Rate {
        /// What was wrong.
        what: String,
    },
    /// Rules of a switch, and no switch.
    #[error(
        "--isolate and --flood-limit are for the ports of a switch: add --switch, or leave them out"
    )]
    NotASwitch,
    /// A port that the switch does not have.
    #[error(
        "--isolate names port {port}, but there are {ports}, counted from 0: give a --socket-path for \
         each"
    )]
    NoSuchPort {
        /// The port.
        port: usize,
        /// How many there are.
        ports: usize,
    },
    /// More queue pairs than the uplink can fill.
    #[error(
        "{uplink} is one stream of frames: leave out --queue-pairs, or put a --switch before it"
    )]
    OnePair {
        /// The uplink.
        uplink: String,
    },
    /// The kernel has no more queues for the interface.
    #[error(
        "the interface {name} has no room for {queues} queues: the kernel has at most {most} for each, \
         and those that other processes hold count: choose a smaller number with --queue-pairs"
    )]
    TooManyQueues {
        /// The interface.
        name: String,
        /// How many were wanted.
        queues: u16,
        /// How many there can be.
        most: u16,
    },
    /// The interface drops what the guest may send.
    #[error(
        "--mtu {mtu} is more than the interface {name} takes, which is {there}: say `ip link set dev \
         {name} mtu {mtu}`, or choose an --mtu of at most {there}"
    )]
    MtuMismatch {
        /// The interface.
        name: String,
        /// The MTU that the driver was to be told.
        mtu: u16,
        /// The interface's own.
        there: u32,
    },
    /// Nobody has said what the card's address is.
    #[error(
        "the card's address is not known: give it with --mac, or let the driver announce itself"
    )]
    UnknownMac,
    /// The announcement was not taken.
    #[error("the uplink did not take the announcement: {source}: is the interface up?")]
    Announcement {
        /// Why it failed.
        source: io::Error,
    },
    /// The saved state is not one of a network card.
    #[error("the saved state is not a network card's (version {version:?}): remove it")]
    State {
        /// Its first byte.
        version: Option<u8>,
    },
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;
