//! What belongs to each message: payload, file descriptors, feature, answer.

use crate::vhost_user::{
    BackendRequest, ConfigHeader, FrontendRequest, Inflight, IotlbMessage, Log, MemoryRegion,
    MemoryTableHeader, ProtocolFeatures, SingleMemoryRegion, TransferDeviceState, VringAddr,
    VringArea, VringFd, VringState,
};

/// The answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// None, unless an acknowledgement was asked for.
    None,
    /// A number.
    Number,
    /// Ring and base.
    Base,
    /// A part of the configuration.
    Config,
    /// The in-flight region, with a descriptor.
    Inflight,
    /// A number or nothing at all: programs differ.
    LogBase,
    /// A number that tells whether a descriptor comes with it.
    DeviceState,
    /// Of a kind that this observer does not look into.
    Other,
}

/// What a front-end must have seen or done before it sends a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// Nothing.
    Open,
    /// The back-end offered the feature bit for protocol features.
    ProtocolOffered,
    /// The front-end acknowledged that bit.
    ProtocolAcked,
    /// The back-end offered this protocol feature.
    Offered(ProtocolFeatures),
    /// The front-end set this protocol feature.
    Set(ProtocolFeatures),
}

/// The answer that a request has by itself. `log_shmfd`: the protocol feature is in force.
pub(super) fn answer(request: FrontendRequest, log_shmfd: bool) -> Answer {
    use FrontendRequest as R;
    match request {
        R::GetFeatures
        | R::GetProtocolFeatures
        | R::GetQueueNum
        | R::GetMaxMemSlots
        | R::GetStatus
        | R::CheckDeviceState
        | R::IotlbMsg
        | R::PostcopyEnd => Answer::Number,
        R::GetVringBase => Answer::Base,
        R::GetConfig => Answer::Config,
        R::GetInflightFd => Answer::Inflight,
        R::SetDeviceStateFd => Answer::DeviceState,
        R::SetLogBase if log_shmfd => Answer::LogBase,
        R::CreateCryptoSession | R::PostcopyAdvise | R::GetSharedObject | R::GetShmemConfig => {
            Answer::Other
        }
        _ => Answer::None,
    }
}

/// The gate that a request must pass.
pub(super) fn gate(request: FrontendRequest) -> Gate {
    use FrontendRequest as R;
    use ProtocolFeatures as P;
    match request {
        R::GetProtocolFeatures | R::SetProtocolFeatures => Gate::ProtocolOffered,
        R::SetVringEnable => Gate::ProtocolAcked,
        R::GetQueueNum => Gate::Offered(P::MQ),
        R::SendRarp => Gate::Offered(P::RARP),
        R::NetSetMtu => Gate::Offered(P::NET_MTU),
        R::SetBackendReqFd => Gate::Offered(P::BACKEND_REQ),
        R::ResetDevice => Gate::Offered(P::RESET_DEVICE),
        R::SetVringEndian => Gate::Set(P::CROSS_ENDIAN),
        R::GetConfig | R::SetConfig => Gate::Set(P::CONFIG),
        R::CreateCryptoSession | R::CloseCryptoSession => Gate::Set(P::CRYPTO_SESSION),
        R::PostcopyAdvise | R::PostcopyListen | R::PostcopyEnd => Gate::Set(P::PAGEFAULT),
        R::GetInflightFd | R::SetInflightFd => Gate::Set(P::INFLIGHT_SHMFD),
        R::VringKick => Gate::Set(P::INBAND_NOTIFICATIONS),
        R::GetMaxMemSlots | R::AddMemReg | R::RemMemReg => Gate::Set(P::CONFIGURE_MEM_SLOTS),
        R::SetStatus | R::GetStatus => Gate::Set(P::STATUS),
        R::GetSharedObject => Gate::Set(P::SHARED_OBJECT),
        R::SetDeviceStateFd | R::CheckDeviceState => Gate::Set(P::DEVICE_STATE),
        R::GetShmemConfig => Gate::Set(P::SHMEM_MAP),
        _ => Gate::Open,
    }
}

/// Whether a request's payload has a size that belongs to it.
pub(super) fn payload_fits(request: FrontendRequest, payload: &[u8], log_shmfd: bool) -> bool {
    use FrontendRequest as R;
    let is = |size: usize| payload.len() == size;
    match request {
        R::SetFeatures
        | R::SetProtocolFeatures
        | R::SetVringKick
        | R::SetVringCall
        | R::SetVringErr
        | R::SendRarp
        | R::NetSetMtu
        | R::SetStatus
        | R::CloseCryptoSession => is(size_of::<u64>()),
        R::SetVringNum
        | R::SetVringBase
        | R::GetVringBase
        | R::SetVringEnable
        | R::SetVringEndian
        | R::VringKick => is(VringState::SIZE),
        R::SetVringAddr => is(VringAddr::SIZE),
        // A front-end may send the unused entries of its table too.
        R::SetMemTable => MemoryTableHeader::from_prefix(payload).is_some_and(|header| {
            let regions = payload.len() - MemoryTableHeader::SIZE;
            regions.is_multiple_of(MemoryRegion::SIZE)
                && regions / MemoryRegion::SIZE >= header.num_regions as usize
        }),
        R::SetLogBase => is(if log_shmfd { Log::SIZE } else { size_of::<u64>() }),
        R::AddMemReg | R::RemMemReg => is(SingleMemoryRegion::SIZE),
        R::IotlbMsg => is(IotlbMessage::SIZE),
        // The room for the answer may be left out.
        R::GetConfig => ConfigHeader::from_prefix(payload).is_some_and(|header| {
            is(ConfigHeader::SIZE) || is(ConfigHeader::SIZE + header.size as usize)
        }),
        R::SetConfig => ConfigHeader::from_prefix(payload)
            .is_some_and(|header| is(ConfigHeader::SIZE + header.size as usize)),
        R::GetInflightFd | R::SetInflightFd => is(Inflight::SIZE) || is(Inflight::UNPADDED_SIZE),
        R::SetDeviceStateFd => is(TransferDeviceState::SIZE),
        R::CreateCryptoSession | R::GetSharedObject => true,
        _ => payload.is_empty(),
    }
}

/// Whether a request carries the file descriptors that belong to it.
pub(super) fn fds_fit(
    request: FrontendRequest,
    payload: &[u8],
    fds: usize,
    log_shmfd: bool,
) -> bool {
    use FrontendRequest as R;
    match request {
        R::SetMemTable => MemoryTableHeader::from_prefix(payload)
            .is_some_and(|header| fds == header.num_regions as usize),
        R::SetVringKick | R::SetVringCall | R::SetVringErr => {
            fds == usize::from(vring_fd(payload).is_some_and(|fd| !fd.contains(VringFd::NO_FD)))
        }
        R::SetLogBase => fds == usize::from(log_shmfd),
        R::AddMemReg
        | R::SetLogFd
        | R::SetBackendReqFd
        | R::SetInflightFd
        | R::SetDeviceStateFd
        | R::GpuSetSocket => fds == 1,
        // Some front-ends send the region's descriptor; back-ends close it.
        R::RemMemReg => fds <= 1,
        _ => fds == 0,
    }
}

/// The payload of a message about a ring's descriptors.
pub(super) fn vring_fd(payload: &[u8]) -> Option<VringFd> {
    number(payload).map(VringFd::from_bits_retain)
}

/// A payload that is a number.
pub(super) fn number(payload: &[u8]) -> Option<u64> {
    payload.try_into().ok().map(u64::from_le_bytes)
}

/// The ring that a request is about.
pub(super) fn ring_index(request: FrontendRequest, payload: &[u8]) -> Option<u32> {
    use FrontendRequest as R;
    match request {
        R::SetVringKick | R::SetVringCall | R::SetVringErr => {
            vring_fd(payload).map(|fd| u32::from(fd.index()))
        }
        R::SetVringNum
        | R::SetVringBase
        | R::GetVringBase
        | R::SetVringEnable
        | R::SetVringEndian
        | R::VringKick => VringState::from_prefix(payload).map(|state| state.index),
        R::SetVringAddr => VringAddr::from_prefix(payload).map(|addr| addr.index),
        _ => None,
    }
}

/// The protocol feature that a back-end's request belongs to; `None` for the IOTLB's, which
/// belongs to a feature bit.
pub(super) fn backend_gate(request: BackendRequest) -> Option<ProtocolFeatures> {
    use BackendRequest as R;
    use ProtocolFeatures as P;
    match request {
        R::IotlbMsg => None,
        R::ConfigChangeMsg => Some(P::CONFIG),
        R::VringHostNotifierMsg => Some(P::HOST_NOTIFIER),
        R::VringCall | R::VringErr => Some(P::INBAND_NOTIFICATIONS),
        R::SharedObjectAdd | R::SharedObjectRemove | R::SharedObjectLookup => {
            Some(P::SHARED_OBJECT)
        }
        R::ShmemMap | R::ShmemUnmap => Some(P::SHMEM_MAP),
    }
}

/// Whether a back-end's request has the payload and the descriptors that belong to it.
pub(super) fn backend_payload_fits(request: BackendRequest, payload: &[u8], fds: usize) -> bool {
    use BackendRequest as R;
    /// Bytes of a UUID.
    const UUID_SIZE: usize = 16;
    /// Bytes of a description of shared memory to map.
    const MMAP_SIZE: usize = 40;
    let (size, most_fds) = match request {
        R::IotlbMsg => (IotlbMessage::SIZE, 0),
        R::ConfigChangeMsg => (0, 0),
        R::VringHostNotifierMsg => (VringArea::SIZE, 1),
        R::VringCall | R::VringErr => {
            let reserved = VringState::from_prefix(payload).is_some_and(|state| state.num != 0);
            return !reserved && payload.len() == VringState::SIZE && fds == 0;
        }
        R::SharedObjectAdd | R::SharedObjectRemove | R::SharedObjectLookup => (UUID_SIZE, 0),
        R::ShmemMap => (MMAP_SIZE, 1),
        R::ShmemUnmap => (MMAP_SIZE, 0),
    };
    payload.len() == size && fds <= most_fds
}
