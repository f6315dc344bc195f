//! The vhost-user protocol: message numbers, headers, payloads, protocol features and the
//! in-flight region. Sockets and file descriptors are not its business.
//!
//! The protocol uses the machine's byte order, and its peers share one machine; this crate encodes
//! little-endian and so serves little-endian machines only.

#[cfg(target_endian = "big")]
compile_error!("vhost-user messages are encoded little-endian; big-endian hosts are not served");

mod features;
mod header;
pub mod inflight;
mod payload;
mod request;

pub use features::{F_LOG_ALL, F_PROTOCOL_FEATURES, ProtocolFeatures};
pub use header::{HEADER_SIZE, Header, MessageFlags, VERSION};
pub use payload::{
    ConfigFlags, ConfigHeader, DeviceStatePhase, Inflight, IotlbMessage, Log, MemoryRegion,
    MemoryTableHeader, SingleMemoryRegion, TransferDeviceState, TransferDirection, VringAddr,
    VringAddrFlags, VringArea, VringFd, VringState,
};
pub use request::{BackendRequest, FrontendRequest, UnknownRequest};

/// Most file descriptors that one message carries.
pub const MAX_FDS: usize = 8;
/// Most regions of one SET_MEM_TABLE message.
pub const MAX_MEM_TABLE_REGIONS: usize = 8;
/// Most bytes of device configuration that a config message carries (as QEMU has it).
pub const MAX_CONFIG_SIZE: usize = 256;
/// Most bytes of a payload: more than any message that a back-end here understands needs. A
/// header that announces more is refused with its payload unread.
pub const MAX_PAYLOAD_SIZE: usize = 4096;
/// Bytes of guest memory for which one bit of the dirty log stands.
pub const LOG_PAGE_SIZE: u64 = 0x1000;
