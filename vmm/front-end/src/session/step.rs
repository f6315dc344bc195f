//! One request to the back-end, its answer, and what follows from it.

use virtio_spec::vhost_user::{FrontendRequest as Code, MemoryRegion, ProtocolFeatures};

/// A request, as far as it can be said without file descriptors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// GET_FEATURES.
    GetFeatures,
    /// GET_PROTOCOL_FEATURES.
    GetProtocolFeatures,
    /// SET_PROTOCOL_FEATURES.
    SetProtocolFeatures(ProtocolFeatures),
    /// SET_OWNER.
    SetOwner,
    /// GET_QUEUE_NUM.
    GetQueueNum,
    /// GET_MAX_MEM_SLOTS.
    GetMaxMemSlots,
    /// SET_BACKEND_REQ_FD with a new socket.
    OpenChannel,
    /// GET_CONFIG of so many bytes from the start.
    GetConfig(u32),
    /// SET_CONFIG on the driver's behalf.
    SetConfig {
        /// Bytes from the start.
        offset: u32,
        /// What is written there.
        data: Vec<u8>,
    },
    /// SET_FEATURES.
    SetFeatures(u64),
    /// SET_MEM_TABLE with these regions.
    SetMemTable(Vec<MemoryRegion>),
    /// ADD_MEM_REG.
    AddRegion(MemoryRegion),
    /// REM_MEM_REG.
    RemoveRegion(MemoryRegion),
    /// NET_SET_MTU.
    SetMtu(u16),
    /// SEND_RARP.
    Announce([u8; 6]),
    /// GET_INFLIGHT_FD: a new region.
    GetInFlight {
        /// For so many queues,
        queues: u16,
        /// of this size.
        size: u16,
    },
    /// SET_INFLIGHT_FD: the region that there is.
    SetInFlight {
        /// Queues that were reset since, whose parts are cleared before.
        clear: Vec<u16>,
        /// Whether the parts are those of packed rings.
        packed: bool,
    },
    /// SET_LOG_BASE with the log of this number.
    SetLog(u64),
    /// SET_STATUS.
    SetStatus(u8),
    /// GET_STATUS.
    GetStatus,
    /// SET_VRING_NUM, entries.
    RingSize(u16, u16),
    /// SET_VRING_BASE.
    RingBase(u16, Base),
    /// SET_VRING_ADDR.
    RingAddress(RingAddress),
    /// SET_VRING_ERR.
    RingError(u16),
    /// SET_VRING_CALL.
    RingCall(u16),
    /// SET_VRING_KICK, which starts the ring.
    RingKick(u16),
    /// SET_VRING_ENABLE.
    RingEnable(u16, bool),
    /// GET_VRING_BASE, which stops the ring.
    StopRing(u16),
    /// RESET_DEVICE.
    ResetDevice,
}

/// Where a ring is to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// There, as SET_VRING_BASE has it for this kind of ring.
    At(u32),
    /// Where the used ring at this guest address ends: its last back-end died.
    UsedIndex(u64),
}

/// SET_VRING_ADDR's content: user addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingAddress {
    /// The queue.
    pub queue: u16,
    /// Descriptor area.
    pub descriptors: u64,
    /// Driver area.
    pub driver: u64,
    /// Device area.
    pub device: u64,
    /// Guest address of the device area, when writes to it are to be logged.
    pub log: Option<u64>,
}

/// What the back-end answered, as far as it can be said without file descriptors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Success, or no answer because none was asked for.
    Done,
    /// Failure, with the value that says so.
    Refused(u64),
    /// A number.
    Number(u64),
    /// The configuration space's first bytes.
    Config(Vec<u8>),
    /// Where a ring has stopped.
    Base(u32),
}

/// What is to be done besides messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Kick the queue once, in case that nobody has since its ring was started.
    Kick(u16),
    /// Call the driver once, in case that the last back-end died before it did.
    Call(u16),
    /// Tell the driver that the configuration space changed.
    ConfigChanged,
    /// Tell the driver that the device needs a reset.
    NeedsReset,
}

impl Step {
    /// Whether the answer waits for what is in flight.
    pub(crate) fn drains(&self) -> bool {
        matches!(
            self,
            Self::StopRing(_) | Self::ResetDevice | Self::RemoveRegion(_) | Self::SetStatus(0)
        )
    }

    /// Whether it serves the driver that is at work now, whose reset has to wait for its answer.
    pub(super) fn is_for_driver(&self) -> bool {
        let device = matches!(
            self,
            Self::SetFeatures(_)
                | Self::SetMtu(_)
                | Self::GetInFlight { .. }
                | Self::SetInFlight { .. }
                | Self::SetStatus(_)
                | Self::ResetDevice
        );
        device || self.queue().is_some()
    }

    /// The queue that it is about.
    pub(super) fn queue(&self) -> Option<u16> {
        match self {
            Self::RingAddress(address) => Some(address.queue),
            Self::RingSize(queue, _)
            | Self::RingBase(queue, _)
            | Self::RingError(queue)
            | Self::RingCall(queue)
            | Self::RingKick(queue)
            | Self::RingEnable(queue, _)
            | Self::StopRing(queue) => Some(*queue),
            _ => None,
        }
    }

    /// The request's name, as in the specification.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.code().name()
    }

    /// The request's number.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::GetFeatures => Code::GetFeatures,
            Self::GetProtocolFeatures => Code::GetProtocolFeatures,
            Self::SetProtocolFeatures(_) => Code::SetProtocolFeatures,
            Self::SetOwner => Code::SetOwner,
            Self::GetQueueNum => Code::GetQueueNum,
            Self::GetMaxMemSlots => Code::GetMaxMemSlots,
            Self::OpenChannel => Code::SetBackendReqFd,
            Self::GetConfig(_) => Code::GetConfig,
            Self::SetConfig { .. } => Code::SetConfig,
            Self::SetFeatures(_) => Code::SetFeatures,
            Self::SetMemTable(_) => Code::SetMemTable,
            Self::AddRegion(_) => Code::AddMemReg,
            Self::RemoveRegion(_) => Code::RemMemReg,
            Self::SetMtu(_) => Code::NetSetMtu,
            Self::Announce(_) => Code::SendRarp,
            Self::GetInFlight { .. } => Code::GetInflightFd,
            Self::SetInFlight { .. } => Code::SetInflightFd,
            Self::SetLog(_) => Code::SetLogBase,
            Self::SetStatus(_) => Code::SetStatus,
            Self::GetStatus => Code::GetStatus,
            Self::RingSize(..) => Code::SetVringNum,
            Self::RingBase(..) => Code::SetVringBase,
            Self::RingAddress(_) => Code::SetVringAddr,
            Self::RingError(_) => Code::SetVringErr,
            Self::RingCall(_) => Code::SetVringCall,
            Self::RingKick(_) => Code::SetVringKick,
            Self::RingEnable(..) => Code::SetVringEnable,
            Self::StopRing(_) => Code::GetVringBase,
            Self::ResetDevice => Code::ResetDevice,
        }
    }
}
