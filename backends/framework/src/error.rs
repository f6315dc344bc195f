//! What can go wrong in a back-end's framework. Each variant names the action and its operand; each
//! message says what to do next.

use std::{io, os::fd::RawFd, path::PathBuf};

/// The result of the framework's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the framework.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A Unix socket's path does not fit into `sockaddr_un`.
    #[error(
        "the socket path {path:?} has {length} bytes, but a Unix socket takes 107 at most: \
         choose a shorter path, or a relative one"
    )]
    SocketPathTooLong {
        /// The path that was asked for.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
    /// Somebody accepts connections on the socket path.
    #[error(
        "the socket {path:?} is in use: another process accepts connections on it; \
         stop that process or choose another path"
    )]
    SocketInUse {
        /// The path that was asked for.
        path: PathBuf,
    },
    /// Something that is no socket has the socket's path.
    #[error("{path:?} exists and is not a socket: move it away or choose another path")]
    NotASocket {
        /// The path that was asked for.
        path: PathBuf,
    },
    /// Another daemon holds the lock of a socket path for too long.
    #[error("another process is setting up the socket {path:?} and holds {lock:?}: stop it")]
    SocketLocked {
        /// The path that was asked for.
        path: PathBuf,
        /// The lock file.
        lock: PathBuf,
    },
    /// The directory that a socket is to be in is missing.
    #[error(
        "there is no directory {folder:?} for the socket: make it with `mkdir -p`, or choose another path"
    )]
    NoSocketFolder {
        /// The directory.
        folder: PathBuf,
    },
    /// The directory that a socket is to be in may not be written to.
    #[error(
        "no permission to make a socket in {folder:?}: choose a directory of your own, such as \
         $XDG_RUNTIME_DIR, or have this one's owner permit it"
    )]
    SocketFolderForbidden {
        /// The directory.
        folder: PathBuf,
    },
    /// A step of setting up a socket failed.
    #[error("cannot {action} the socket {path:?}: {source}")]
    Socket {
        /// What was tried.
        action: &'static str,
        /// The socket's path.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A group that the system does not know.
    #[error("there is no group {name:?} in /etc/group: name one that is there, or give its number")]
    UnknownGroup {
        /// The name that was asked for.
        name: String,
    },
    /// A descriptor named on the command line is not usable.
    #[error(
        "file descriptor {fd} {reason}: the program that starts this one must open it, \
         and let it be inherited"
    )]
    InheritedFd {
        /// The number that was asked for.
        fd: RawFd,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// systemd's variables for socket activation cannot be understood.
    #[error("the environment variable {variable} is {value:?}, which systemd would not set")]
    Activation {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
    },
    /// Nothing says where the front-end is.
    #[error(
        "no socket: give one of --socket-path, --fd and --connect, or start this program by \
         systemd socket activation"
    )]
    NoEndpoint,
    /// There are more sockets than front-ends that can be served, or fewer.
    #[error(
        "--socket-path was given {given} times, but there are {count} devices to serve: give it once \
         for each"
    )]
    Endpoints {
        /// How many front-ends are served.
        count: usize,
        /// How many sockets there are.
        given: usize,
    },
    /// The state of several devices does not fit into one place.
    #[error(
        "several devices cannot keep their states in one file descriptor: give --state-path, to \
         which each device but the first adds its number"
    )]
    StateOfSeveral,
    /// Setting up signal handling failed.
    #[error("cannot {action}: {source}")]
    Signals {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The state file belongs to something else.
    #[error("the state kept in {place} is not usable: {reason}")]
    State {
        /// Where the state is kept.
        place: String,
        /// What is wrong with it, and what to do.
        reason: &'static str,
    },
    /// Reading or writing saved state failed.
    #[error("cannot {action} the state kept in {place}: {source}")]
    StateIo {
        /// What was tried.
        action: &'static str,
        /// Where the state is kept.
        place: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A blob of saved state is not one of this device's.
    #[error(transparent)]
    StateBlob(#[from] crate::program::state::BlobError),
    /// The log filter cannot be understood.
    #[error(
        "the log filter {filter:?} is not valid ({reason}): give error, warn, info, debug or \
         trace, or a list such as info,framework=debug"
    )]
    LogFilter {
        /// The filter that was asked for.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Confining the process failed.
    #[error(
        "cannot {action}: {source}; if this system does not allow it, --sandbox=off starts \
         the program unconfined"
    )]
    Confine {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A directory that is to stay reachable cannot be opened.
    #[error("cannot keep {path:?} reachable: {source}")]
    ConfinedPath {
        /// The directory.
        path: PathBuf,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The current thread cannot be moved to the CPUs that were asked for.
    #[error("cannot run on CPU {cpus}: {source}; see which CPUs `taskset -p $$` allows")]
    Pin {
        /// The CPUs that were asked for.
        cpus: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The control socket cannot be served.
    #[error("cannot wait for clients of the control socket: {source}")]
    Control {
        /// Why it failed.
        source: io::Error,
    },
    /// Shared memory of the front-end cannot be mapped.
    #[error("cannot map {len} bytes at offset {offset} of the front-end's memory: {why}")]
    Map {
        /// Bytes to map.
        len: u64,
        /// Where in the file.
        offset: u64,
        /// What is wrong.
        why: String,
    },
    /// A region's end is beyond the last address.
    #[error("a region of {size} bytes at {guest}, {user} wraps around the address space")]
    RegionWraps {
        /// Where the guest sees it.
        guest: crate::memory::GuestAddress,
        /// Where the front-end sees it.
        user: crate::memory::UserAddress,
        /// Its length in bytes.
        size: u64,
    },
    /// Two regions claim the same addresses.
    #[error("the regions at {first} and {second} overlap")]
    RegionsOverlap {
        /// One region.
        first: crate::memory::GuestAddress,
        /// The other.
        second: crate::memory::GuestAddress,
    },
    /// More regions than a table holds.
    #[error("{count} memory regions, but at most {most} are served")]
    TooManyRegions {
        /// How many there are.
        count: usize,
        /// How many there may be.
        most: usize,
    },
    /// A ring cannot be started.
    #[error("ring {queue} cannot be started: {fault}")]
    Ring {
        /// The queue's index.
        queue: u16,
        /// What is wrong with it.
        fault: crate::ring::RingFault,
    },
    /// A ring's kick cannot be watched.
    #[error(
        "the kick of ring {queue} cannot be watched: {source}; it must be an eventfd or a pipe"
    )]
    Kick {
        /// The queue's index.
        queue: u16,
        /// Why.
        source: io::Error,
    },
    /// A command names a queue that its worker does not serve.
    #[error("queue {queue} is not one of this worker's")]
    NoSuchQueue {
        /// The queue's index.
        queue: u16,
    },
    /// A request that belongs to another kind of device.
    #[error("{request} is not for this kind of device")]
    NotThisDevice {
        /// The vhost-user request.
        request: &'static str,
    },
    /// The device itself failed at something, or refused it.
    #[error(transparent)]
    Device(Box<dyn std::error::Error + Send + Sync>),
    // A connection's messages (`session`).
    /// A request came while the one before it was still being carried out.
    #[error("{request} came before the request ahead of it was answered")]
    RequestTooEarly {
        /// Its name.
        request: String,
    },
    /// A reply, though nothing was asked.
    #[error("the front-end sent a reply to request {code}, though nothing was asked of it")]
    UnaskedReply {
        /// The request's code.
        code: u32,
    },
    /// A request that no back-end here understands.
    #[error("{request} is not supported: the front-end must not send what was not offered")]
    UnknownRequest {
        /// Its name.
        request: String,
    },
    /// A request of an extension that was not negotiated.
    #[error("{request} needs the protocol feature {feature}, which was not negotiated")]
    NotNegotiated {
        /// Its name.
        request: String,
        /// The protocol feature.
        feature: &'static str,
    },
    /// SET_FEATURES with bits that were not offered.
    #[error("SET_FEATURES: {0}")]
    UnofferedFeatures(virtio_spec::UnofferedBits),
    /// SET_PROTOCOL_FEATURES with bits that were not offered.
    #[error("SET_PROTOCOL_FEATURES acknowledges bits {bits:#x}, which were never offered")]
    UnofferedProtocolFeatures {
        /// Those bits.
        bits: u64,
    },
    /// Protocol features without those that they stand on.
    #[error(
        "SET_PROTOCOL_FEATURES asks for bits {bits:#x} without the features that these need: \
         in-band notifications need BACKEND_REQ and REPLY_ACK"
    )]
    ProtocolFeaturesLacking {
        /// The bits that lack support.
        bits: u64,
    },
    /// Features change under running rings.
    #[error(
        "feature bits {changed:#x} change while rings run: stop them with GET_VRING_BASE first"
    )]
    FeaturesFrozen {
        /// The bits that would change.
        changed: u64,
    },
    /// Protocol features change under running rings.
    #[error("protocol features change while rings run: stop them with GET_VRING_BASE first")]
    ProtocolFeaturesFrozen,
    /// A message about a ring that there is not.
    #[error("ring {index} does not exist: the device has {count}")]
    NoSuchRing {
        /// Its index.
        index: u32,
        /// How many there are.
        count: u16,
    },
    /// A ring's set-up changes while it runs.
    #[error("the {what} of ring {queue} changes while it runs: stop it with GET_VRING_BASE first")]
    RingFrozen {
        /// The queue.
        queue: u16,
        /// What would change.
        what: &'static str,
    },
    /// A ring's size is out of range.
    #[error("ring {queue} cannot have {size} descriptors: 1 to {most} are possible")]
    RingSize {
        /// The queue.
        queue: u32,
        /// The size that was asked for.
        size: u32,
        /// The largest.
        most: u16,
    },
    /// A split ring's size is not a power of two.
    #[error("split ring {queue} has {size} descriptors, which is not a power of two")]
    RingSizeNotPowerOfTwo {
        /// The queue.
        queue: u16,
        /// Its size.
        size: u16,
    },
    /// A ring is started before its set-up is complete.
    #[error("ring {queue} is started without {what}")]
    RingNotSetUp {
        /// The queue.
        queue: u16,
        /// What is missing.
        what: &'static str,
    },
    /// The driver did not accept VERSION_1.
    #[error("ring {queue} is not served: its driver is a legacy one, without VERSION_1")]
    LegacyDriver {
        /// The queue.
        queue: u16,
    },
    /// A region to be removed is not there.
    #[error("there is no region of {size} bytes at {guest} to be removed")]
    NoSuchRegion {
        /// Where it would be.
        guest: crate::memory::GuestAddress,
        /// Its size.
        size: u64,
    },
    /// SET_LOG_BASE brought no descriptor.
    #[error("SET_LOG_BASE carries no file descriptor for the dirty log")]
    LogWithoutFd,
    /// Writes to a used ring are to be logged outside the log.
    #[error("the used ring of queue {queue} is to be logged past the end of the dirty log")]
    UsedLogRange {
        /// The queue.
        queue: u16,
    },
    /// An in-flight region of an impossible shape.
    #[error(
        "an in-flight region for {queues} queues of {size} is not possible: \
         1 to {count} queues of 1 to {most} are"
    )]
    InFlightShape {
        /// Queues asked for.
        queues: u16,
        /// Their size.
        size: u16,
        /// Queues that there are.
        count: u16,
        /// The largest size.
        most: u16,
    },
    /// An in-flight region that is smaller than what it should hold.
    #[error("the in-flight region has {size} bytes, and {needed} are needed")]
    InFlightTooSmall {
        /// Its size.
        size: u64,
        /// The size it should have.
        needed: u64,
    },
    /// The in-flight region changes while rings run.
    #[error("the in-flight region changes while rings run: stop them with GET_VRING_BASE first")]
    InFlightFrozen,
    /// A ring has no room in the in-flight region.
    #[error(
        "ring {queue} of {size} descriptors has no place in the in-flight region, which was made \
         for {queues} queues of {queue_size}: ask for a new one with GET_INFLIGHT_FD"
    )]
    InFlightMismatch {
        /// The queue.
        queue: u16,
        /// Its size.
        size: u16,
        /// Queues that the region is for.
        queues: u16,
        /// The size that they may have.
        queue_size: u16,
    },
    /// SET_CONFIG with unknown flags.
    #[error("SET_CONFIG has flags {flags:#x}: 0, a driver's write, and 1, a migration, are known")]
    ConfigFlags {
        /// The flags.
        flags: u32,
    },
    /// SET_CONFIG past the end.
    #[error("SET_CONFIG of {size} bytes at {offset}, but the config space has {length}")]
    ConfigRange {
        /// Where it would begin.
        offset: u32,
        /// How long it would be.
        size: u32,
        /// The length of the config space.
        length: usize,
    },
    /// A worker's thread cannot be started.
    #[error("worker {worker} cannot be started: {source}; see ulimit -u and ulimit -n")]
    WorkerThread {
        /// Its number.
        worker: u16,
        /// Why.
        source: io::Error,
    },
    /// The engine that was asked for is not to be had.
    #[error("no I/O engine: {source}")]
    NoEngine {
        /// Why.
        source: io::Error,
    },
    /// The event loop cannot go on.
    #[error("cannot {action}: {source}")]
    EventLoop {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A second signal came while requests in flight were being finished.
    #[error("ended at once by a second signal: requests in flight were left behind")]
    EndedAtOnce,
    /// The connection cannot go on.
    #[error("the connection has to end: {why}")]
    Broken {
        /// What happened.
        why: String,
    },
    /// A message could not be received, understood or sent.
    #[error(transparent)]
    Wire(#[from] wire::Error),
}

impl Error {
    /// Whether the front-end is beyond an answer that says no: the connection ends.
    #[must_use]
    pub fn ends_connection(&self) -> bool {
        matches!(
            self,
            Self::UnofferedFeatures(_)
                | Self::UnofferedProtocolFeatures { .. }
                | Self::ProtocolFeaturesLacking { .. }
                | Self::Broken { .. }
        )
    }

    /// Whether the command line is at fault, which makes the exit status 2 instead of 1.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::SocketPathTooLong { .. }
                | Self::UnknownGroup { .. }
                | Self::InheritedFd { .. }
                | Self::NoEndpoint
                | Self::Endpoints { .. }
                | Self::StateOfSeveral
                | Self::LogFilter { .. }
        )
    }
}
