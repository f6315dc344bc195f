//! What a front-end asks of a back-end.

use std::os::fd::OwnedFd;

use virtio_spec::vhost_user::{
    ConfigHeader, FrontendRequest as Code, Inflight, Log, MAX_PAYLOAD_SIZE, MemoryRegion,
    MemoryTableHeader, SingleMemoryRegion, TransferDeviceState, TransferDirection, VringAddr,
    VringFd, VringState,
};

use crate::{Frame, Result};

mod decode;

/// A front-end's request with everything that belongs to it.
///
/// Sizes, counts and descriptors were checked; addresses, indices and sizes inside are as the
/// front-end sent them (vhost-user, "Front-end message types").
#[derive(Debug)]
pub enum Request {
    /// Which virtio features does the back-end have?
    GetFeatures,
    /// Use these virtio features, bit 30 among them if protocol features are in use.
    SetFeatures(u64),
    /// A session starts.
    SetOwner,
    /// Deprecated; to be ignored, or to disable all rings.
    ResetOwner,
    /// Replace all of guest memory by these regions, each with its file.
    SetMemTable(Vec<(MemoryRegion, OwnedFd)>),
    /// Log dirty pages here. The file comes only with LOG_SHMFD.
    SetLogBase(Log, Option<OwnedFd>),
    /// Signal this when the log was written.
    SetLogFd(OwnedFd),
    /// Size of a ring, in descriptors.
    SetVringNum(VringState),
    /// Where a ring's parts are.
    SetVringAddr(VringAddr),
    /// Where in a ring to go on.
    SetVringBase(VringState),
    /// Stop a ring and tell where to go on.
    GetVringBase {
        /// The ring.
        index: u32,
    },
    /// Start a ring, and its kick eventfd; without one the ring is polled.
    SetVringKick {
        /// The ring.
        index: u8,
        /// The eventfd (or pipe).
        fd: Option<OwnedFd>,
    },
    /// A ring's call eventfd; without one the driver polls.
    SetVringCall {
        /// The ring.
        index: u8,
        /// The eventfd (or pipe).
        fd: Option<OwnedFd>,
    },
    /// A ring's error eventfd.
    SetVringErr {
        /// The ring.
        index: u8,
        /// The eventfd (or pipe).
        fd: Option<OwnedFd>,
    },
    /// Which protocol features does the back-end have?
    GetProtocolFeatures,
    /// Use these protocol features.
    SetProtocolFeatures(u64),
    /// How many rings can there be? (MQ)
    GetQueueNum,
    /// Enable or disable a ring.
    SetVringEnable {
        /// The ring.
        index: u32,
        /// Enable it, or disable it.
        enable: bool,
    },
    /// Announce the guest's MAC address after a migration. (RARP)
    SendRarp([u8; 6]),
    /// The MTU that the guest was given. (MTU)
    NetSetMtu(u64),
    /// The socket for requests of the back-end's own. (BACKEND_REQ)
    SetBackendReqFd(OwnedFd),
    /// Read the configuration space. (CONFIG)
    GetConfig(ConfigHeader),
    /// Write the configuration space; `data` has the access's size. (CONFIG)
    SetConfig {
        /// Where, and on whose behalf.
        access: ConfigHeader,
        /// The bytes to write.
        data: Vec<u8>,
    },
    /// Make an in-flight region for so many rings of such a size. (INFLIGHT_SHMFD)
    GetInflightFd(Inflight),
    /// Use this in-flight region, which a predecessor may have left behind. (INFLIGHT_SHMFD)
    SetInflightFd(Inflight, OwnedFd),
    /// The driver reset the device. (RESET_DEVICE)
    ResetDevice,
    /// Buffers were made available in a ring. (INBAND_NOTIFICATIONS)
    VringKick {
        /// The ring.
        index: u32,
    },
    /// How many regions of memory can there be? (CONFIGURE_MEM_SLOTS)
    GetMaxMemSlots,
    /// Add a region. (CONFIGURE_MEM_SLOTS)
    AddMemReg(MemoryRegion, OwnedFd),
    /// Remove the region with this guest address, user address and size. (CONFIGURE_MEM_SLOTS)
    RemMemReg(MemoryRegion),
    /// The device status as the driver wrote it. (STATUS)
    SetStatus(u8),
    /// What is the device status? (STATUS)
    GetStatus,
    /// Save the device's state into, or load it from, this file. (DEVICE_STATE)
    SetDeviceStateFd {
        /// Save or load.
        direction: TransferDirection,
        /// Migration phase; 0, all stopped, is the only one so far.
        phase: u32,
        /// Where the state goes to or comes from.
        fd: OwnedFd,
    },
    /// Was the state saved or loaded well? (DEVICE_STATE)
    CheckDeviceState,
    /// A request that this crate does not know or no back-end here supports.
    Unknown {
        /// Its code.
        code: u32,
    },
}

impl Request {
    /// Reads a request. Descriptors that it should not carry are closed.
    ///
    /// # Errors
    /// A wrong size, missing descriptors or a bad field. The message is consumed either way, so
    /// that the connection may go on after a refusal.
    pub fn decode(frame: Frame) -> Result<Self> {
        decode::request(frame)
    }

    /// The request as a message.
    #[must_use]
    pub fn encode(self) -> Frame {
        let code = self.code();
        let (payload, fds) = self.into_parts();
        Frame::request(code, payload).with_fds(fds)
    }

    /// The request's code.
    #[must_use]
    pub fn code(&self) -> u32 {
        self.known_code().map_or_else(
            || match self {
                Self::Unknown { code } => *code,
                _ => 0,
            },
            Code::number,
        )
    }

    /// The request's name, as in the specification.
    #[must_use]
    pub fn name(&self) -> String {
        name(self.code())
    }

    /// Whether the back-end answers this without being asked to by the need_reply flag.
    #[must_use]
    pub fn has_reply(&self) -> bool {
        matches!(
            self,
            Self::GetFeatures
                | Self::GetProtocolFeatures
                | Self::GetQueueNum
                | Self::GetVringBase { .. }
                | Self::SetLogBase(_, Some(_))
                | Self::GetConfig(_)
                | Self::GetInflightFd(_)
                | Self::GetMaxMemSlots
                | Self::GetStatus
                | Self::SetDeviceStateFd { .. }
                | Self::CheckDeviceState
        )
    }

    fn known_code(&self) -> Option<Code> {
        Some(match self {
            Self::GetFeatures => Code::GetFeatures,
            Self::SetFeatures(_) => Code::SetFeatures,
            Self::SetOwner => Code::SetOwner,
            Self::ResetOwner => Code::ResetOwner,
            Self::SetMemTable(_) => Code::SetMemTable,
            Self::SetLogBase(..) => Code::SetLogBase,
            Self::SetLogFd(_) => Code::SetLogFd,
            Self::SetVringNum(_) => Code::SetVringNum,
            Self::SetVringAddr(_) => Code::SetVringAddr,
            Self::SetVringBase(_) => Code::SetVringBase,
            Self::GetVringBase { .. } => Code::GetVringBase,
            Self::SetVringKick { .. } => Code::SetVringKick,
            Self::SetVringCall { .. } => Code::SetVringCall,
            Self::SetVringErr { .. } => Code::SetVringErr,
            Self::GetProtocolFeatures => Code::GetProtocolFeatures,
            Self::SetProtocolFeatures(_) => Code::SetProtocolFeatures,
            Self::GetQueueNum => Code::GetQueueNum,
            Self::SetVringEnable { .. } => Code::SetVringEnable,
            Self::SendRarp(_) => Code::SendRarp,
            Self::NetSetMtu(_) => Code::NetSetMtu,
            Self::SetBackendReqFd(_) => Code::SetBackendReqFd,
            Self::GetConfig(_) => Code::GetConfig,
            Self::SetConfig { .. } => Code::SetConfig,
            Self::GetInflightFd(_) => Code::GetInflightFd,
            Self::SetInflightFd(..) => Code::SetInflightFd,
            Self::ResetDevice => Code::ResetDevice,
            Self::VringKick { .. } => Code::VringKick,
            Self::GetMaxMemSlots => Code::GetMaxMemSlots,
            Self::AddMemReg(..) => Code::AddMemReg,
            Self::RemMemReg(_) => Code::RemMemReg,
            Self::SetStatus(_) => Code::SetStatus,
            Self::GetStatus => Code::GetStatus,
            Self::SetDeviceStateFd { .. } => Code::SetDeviceStateFd,
            Self::CheckDeviceState => Code::CheckDeviceState,
            Self::Unknown { .. } => return None,
        })
    }

    /// Payload and descriptors.
    fn into_parts(self) -> (Vec<u8>, Vec<OwnedFd>) {
        match self {
            Self::SetMemTable(regions) => memory_table(regions),
            Self::SetLogBase(log, fd) => (log.to_bytes().to_vec(), fd.into_iter().collect()),
            Self::SetLogFd(fd) | Self::SetBackendReqFd(fd) => (Vec::new(), vec![fd]),
            Self::SetVringKick { index, fd }
            | Self::SetVringCall { index, fd }
            | Self::SetVringErr { index, fd } => ring_fd(index, fd),
            Self::SetInflightFd(inflight, fd) => (inflight.to_bytes().to_vec(), vec![fd]),
            Self::AddMemReg(region, fd) => (single_region(region), vec![fd]),
            Self::SetDeviceStateFd { direction, phase, fd } => {
                let transfer = TransferDeviceState { direction: direction as u32, phase };
                (transfer.to_bytes().to_vec(), vec![fd])
            }
            without_fds => (without_fds.payload(), Vec::new()),
        }
    }

    /// The payload of a request without descriptors.
    fn payload(&self) -> Vec<u8> {
        match self {
            Self::SetFeatures(value)
            | Self::SetProtocolFeatures(value)
            | Self::NetSetMtu(value) => value.to_le_bytes().to_vec(),
            Self::SetStatus(status) => u64::from(*status).to_le_bytes().to_vec(),
            Self::SetVringNum(state) | Self::SetVringBase(state) => state.to_bytes().to_vec(),
            Self::GetVringBase { index } | Self::VringKick { index } => ring_state(*index, 0),
            Self::SetVringEnable { index, enable } => ring_state(*index, u32::from(*enable)),
            Self::SetVringAddr(address) => address.to_bytes().to_vec(),
            Self::SendRarp([a, b, c, d, e, f]) => vec![*a, *b, *c, *d, *e, *f, 0, 0],
            // The reply is as long as the request, which therefore carries room for the data.
            Self::GetConfig(access) => {
                let mut payload = access.to_bytes().to_vec();
                payload.resize(payload.len() + (access.size as usize).min(MAX_PAYLOAD_SIZE), 0);
                payload
            }
            Self::SetConfig { access, data } => [&access.to_bytes()[..], data].concat(),
            Self::GetInflightFd(inflight) => inflight.to_bytes().to_vec(),
            Self::RemMemReg(region) => single_region(*region),
            _ => Vec::new(),
        }
    }
}

/// The name that the specification gives a front-end's request.
pub(crate) fn name(code: u32) -> String {
    Code::try_from(code).map_or_else(|_| format!("request {code}"), |known| known.name().to_owned())
}

fn ring_state(index: u32, num: u32) -> Vec<u8> {
    VringState { index, num }.to_bytes().to_vec()
}

/// The payload of the requests that carry a ring's eventfd or say that there is none.
fn ring_fd(index: u8, fd: Option<OwnedFd>) -> (Vec<u8>, Vec<OwnedFd>) {
    let mut value = VringFd::from_bits_retain(index.into());
    value.set(VringFd::NO_FD, fd.is_none());
    (value.bits().to_le_bytes().to_vec(), fd.into_iter().collect())
}

fn single_region(region: MemoryRegion) -> Vec<u8> {
    SingleMemoryRegion { padding: 0, region }.to_bytes().to_vec()
}

fn memory_table(regions: Vec<(MemoryRegion, OwnedFd)>) -> (Vec<u8>, Vec<OwnedFd>) {
    let num_regions = u32::try_from(regions.len()).unwrap_or(u32::MAX);
    let mut payload = MemoryTableHeader { num_regions, padding: 0 }.to_bytes().to_vec();
    let mut fds = Vec::with_capacity(regions.len());
    for (region, fd) in regions {
        payload.extend(region.to_bytes());
        fds.push(fd);
    }
    (payload, fds)
}
