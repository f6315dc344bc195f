//! The steps that the observer is shown.

use super::block::BlockRequest;
use crate::features::Offered;
use crate::packed::{self, EventSuppress, Position};
use crate::split::{self, UsedElem};
use crate::status::Status;
use crate::vhost_user::{BackendRequest, FrontendRequest, MessageFlags};

/// One step of a driver, a device, a front-end or a back-end.
#[derive(Debug, Clone, Copy)]
pub enum Step<'a> {
    /// Features, device status, configuration.
    Device(DeviceStep<'a>),
    /// Something about the ring with this index.
    Ring(u16, RingStep<'a>),
    /// A vhost-user message, or the connection's start.
    Message(Message<'a>),
    /// A request to a block device that was completed.
    Block(BlockRequest<'a>),
    /// Nothing moves any more: the device had all the time it needs, and what it signalled or sent
    /// was shown. What is still owed now is missing.
    Quiesce,
}

impl<'a> From<DeviceStep<'a>> for Step<'a> {
    fn from(step: DeviceStep<'a>) -> Self {
        Self::Device(step)
    }
}

impl<'a> From<Message<'a>> for Step<'a> {
    fn from(message: Message<'a>) -> Self {
        Self::Message(message)
    }
}

impl<'a> From<BlockRequest<'a>> for Step<'a> {
    fn from(request: BlockRequest<'a>) -> Self {
        Self::Block(request)
    }
}

impl<'a> From<(u16, RingStep<'a>)> for Step<'a> {
    fn from((ring, step): (u16, RingStep<'a>)) -> Self {
        Self::Ring(ring, step)
    }
}

/// Steps in the life of a device.
#[derive(Debug, Clone, Copy)]
pub enum DeviceStep<'a> {
    /// The driver read what the device offers.
    FeaturesOffered(Offered),
    /// The driver wrote what it accepts.
    FeaturesAcked(u64),
    /// The driver wrote the device status; [`Status::RESET`] begins a reset.
    StatusWritten(Status),
    /// The driver read the device status. Zero completes a reset.
    StatusRead(Status),
    /// The driver read its configuration from `offset` on.
    ConfigRead {
        /// First byte.
        offset: usize,
        /// What was read.
        data: &'a [u8],
    },
    /// The driver wrote its configuration from `offset` on.
    ConfigWritten {
        /// First byte.
        offset: usize,
        /// What was written.
        data: &'a [u8],
    },
    /// The driver saw a configuration change notification.
    ConfigChanged,
}

/// A queue as the driver sets it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingSetup {
    /// Number of entries.
    pub size: u16,
    /// Guest addresses of descriptor area, driver area and device area.
    pub areas: [u64; 3],
    /// The kind of ring, and where both sides start.
    pub start: RingStart,
}

/// Where both sides start in a new ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RingStart {
    /// A split ring whose available and used index are this.
    Split(u16),
    /// A packed ring.
    Packed(Position),
}

/// Steps on one ring.
#[derive(Debug, Clone, Copy)]
pub enum RingStep<'a> {
    /// The driver set the ring up anew; nothing is in it. Features must have been negotiated.
    Configured(RingSetup),
    /// The device confirmed that it has reset this queue (`RING_RESET`).
    Reset,
    /// Split: the driver filled an entry of the available ring; the index does not cover it yet.
    SplitAvailable(SplitBuffer<'a>),
    /// Split: the driver advanced the available index to this.
    AvailIdx(u16),
    /// Packed: the driver made a list available, its first descriptor last.
    PackedAvailable(PackedBuffer<'a>),
    /// Split: the driver read the used index, whether it moved or not.
    UsedIdx(u16),
    /// Split: the driver read the next entry of the used ring.
    Used(UsedElem),
    /// Packed: the driver read the descriptor at the place where the next used one will be,
    /// whether it is used or not.
    PackedNext(packed::Descriptor),
    /// The driver read an entry or descriptor again that it had seen used, `back` entries ago:
    /// 0 is the last.
    UsedAgain {
        /// How many used buffers ago.
        back: u16,
        /// Its id and length now (for packed rings the descriptor's).
        elem: UsedElem,
    },
    /// The driver wrote how it wants to be called.
    DriverSuppress(Suppress),
    /// The driver read how the device wants to be kicked, before it decides whether to kick.
    DeviceSuppress(Suppress),
    /// The driver kicked.
    Kicked,
    /// The driver was called: the call eventfd was readable, or a call message came.
    Called,
    /// The driver compared memory with what it was, and found that the device wrote to it.
    Changed(Area),
    /// The ring's part of the in-flight region, read while nothing moves.
    InflightRegion(&'a [u8]),
}

/// Memory that a device should have left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Area {
    /// A buffer for the device to read, of the buffer with this id.
    ReadOnlyBuffer(u16),
    /// A descriptor table, an indirect table, or a packed descriptor that is not used.
    Descriptors,
    /// The available ring, or the driver's event suppression.
    DriverArea,
    /// Memory that is no part of a ring or of a buffer.
    Elsewhere,
}

/// How one side wants to be notified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suppress {
    /// `flags` and `used_event` or `avail_event` of a split ring.
    Split {
        /// The flags.
        flags: u16,
        /// The event index; of no meaning without `EVENT_IDX`.
        event: u16,
    },
    /// An event suppression structure of a packed ring.
    Packed(EventSuppress),
}

/// A chain that the driver put into a split ring.
#[derive(Debug, Clone, Copy)]
pub struct SplitBuffer<'a> {
    /// The free-running index of the available ring's entry.
    pub position: u16,
    /// Index of the first descriptor: the entry's value.
    pub head: u16,
    /// The chain's descriptors, each with its index in the table.
    pub descriptors: &'a [(u16, split::Descriptor)],
    /// The table that the last descriptor refers to, if it does.
    pub table: &'a [split::Descriptor],
}

/// A list that the driver put into a packed ring.
#[derive(Debug, Clone, Copy)]
pub struct PackedBuffer<'a> {
    /// Where the first descriptor is.
    pub position: Position,
    /// The buffer's id.
    pub id: u16,
    /// The list's descriptors.
    pub descriptors: &'a [packed::Descriptor],
    /// The table that the descriptor refers to, if it does.
    pub table: &'a [packed::Descriptor],
}

/// Steps on a vhost-user connection, as the front-end sees them.
#[derive(Debug, Clone, Copy)]
pub enum Message<'a> {
    /// A new connection: every ring is stopped and disabled, nothing is negotiated. Buffers in the
    /// rings stay where they are.
    Connected,
    /// The front-end sent a request.
    Request {
        /// Its number.
        request: FrontendRequest,
        /// Its flags.
        flags: MessageFlags,
        /// Its payload.
        payload: &'a [u8],
        /// Number of file descriptors.
        fds: usize,
    },
    /// The front-end received an answer.
    Reply {
        /// The request's number.
        request: u32,
        /// Its flags.
        flags: MessageFlags,
        /// Its payload.
        payload: &'a [u8],
        /// Number of file descriptors.
        fds: usize,
    },
    /// The front-end received a request of the back-end.
    BackendRequest {
        /// Its number.
        request: BackendRequest,
        /// Its flags.
        flags: MessageFlags,
        /// Its payload.
        payload: &'a [u8],
        /// Number of file descriptors.
        fds: usize,
    },
    /// The front-end answered the last request of the back-end.
    BackendReply {
        /// Its payload.
        payload: &'a [u8],
    },
    /// The connection ended. Nothing is owed any more.
    Closed,
}
