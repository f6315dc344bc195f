//! The payloads that messages carry (section "Payload").

use crate::layout::le_struct;

bitflags::bitflags! {
    /// The payload of SET_VRING_KICK, SET_VRING_CALL and SET_VRING_ERR: a ring's index and whether
    /// there is a file descriptor.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct VringFd: u64 {
        /// Bits of the ring's index.
        const INDEX_MASK = 0xff;
        /// No file descriptor comes with the message: the ring is polled.
        const NO_FD = 1 << 8;
        // What a peer sets beyond these is kept, to be looked at.
        const _ = !0;
    }
}

impl VringFd {
    /// The ring's index.
    #[must_use]
    pub const fn index(self) -> u8 {
        let [index, ..] = self.bits().to_le_bytes();
        index
    }
}

le_struct! {
    /// A ring and a number: its size, its base, or whether it is enabled.
    pub struct VringState {
        /// Index of the ring.
        pub index: u32,
        /// The number. As a base: next available index (split), or both positions (packed).
        pub num: u32,
    }
}

bitflags::bitflags! {
    /// Flags of [`VringAddr`].
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct VringAddrFlags: u32 {
        /// Writes to the used ring are logged at `log`.
        const LOG = 1;
    }
}

le_struct! {
    /// Addresses of a ring.
    pub struct VringAddr {
        /// Index of the ring.
        pub index: u32,
        /// [`VringAddrFlags`].
        pub flags: u32,
        /// User address of the descriptor area.
        pub descriptor: u64,
        /// User address of the device area.
        pub used: u64,
        /// User address of the driver area.
        pub available: u64,
        /// Guest address by which writes to the used ring are logged.
        pub log: u64,
    }
}

le_struct! {
    /// A region of guest memory.
    pub struct MemoryRegion {
        /// First guest address.
        pub guest_addr: u64,
        /// Bytes in the region.
        pub size: u64,
        /// First address of the region in the front-end; rings' addresses are such.
        pub user_addr: u64,
        /// Where in the file the region starts.
        pub mmap_offset: u64,
    }
}

le_struct! {
    /// What a SET_MEM_TABLE payload starts with; the [`MemoryRegion`]s follow.
    pub struct MemoryTableHeader {
        /// Number of regions.
        pub num_regions: u32,
        /// Zero.
        pub padding: u32,
    }
}

le_struct! {
    /// One region, for ADD_MEM_REG and REM_MEM_REG.
    pub struct SingleMemoryRegion {
        /// Zero.
        pub padding: u64,
        /// The region.
        pub region: MemoryRegion,
    }
}

le_struct! {
    /// The dirty log's place in its file.
    pub struct Log {
        /// Bytes of the log.
        pub mmap_size: u64,
        /// Where in the file the log starts.
        pub mmap_offset: u64,
    }
}

le_struct! {
    /// A message about the IOTLB.
    pub struct IotlbMessage {
        /// I/O virtual address.
        pub iova: u64,
        /// Bytes.
        pub size: u64,
        /// User address.
        pub user_addr: u64,
        /// Bit 0: read, bit 1: write.
        pub permissions: u8,
        /// 1: miss, 2: update, 3: invalidate, 4: access failed.
        pub kind: u8,
        ..6
    }
}

le_struct! {
    /// What GET_CONFIG and SET_CONFIG payloads start with; `size` bytes of configuration follow.
    pub struct ConfigHeader {
        /// First byte of the device's configuration.
        pub offset: u32,
        /// Number of bytes.
        pub size: u32,
        /// [`ConfigFlags`].
        pub flags: u32,
    }
}

bitflags::bitflags! {
    /// Flags of [`ConfigHeader`]. None: the driver writes.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct ConfigFlags: u32 {
        /// A migration writes: fields that the driver only reads may be set too.
        const MIGRATION = 1;
    }
}

le_struct! {
    /// A page by which a ring is kicked.
    pub struct VringArea {
        /// Index of the ring in the low byte; bit 8: no file descriptor.
        pub index_and_flags: u64,
        /// Bytes of the area.
        pub size: u64,
        /// Where in the file the area starts.
        pub offset: u64,
    }
}

le_struct! {
    /// The in-flight region's place in its file, and what it is for.
    ///
    /// QEMU sends the structure with its padding and refuses an answer without it; a peer that
    /// packs its structures sends [`Inflight::UNPADDED_SIZE`] bytes.
    pub struct Inflight {
        /// Bytes of the region; zero in a GET_INFLIGHT_FD request.
        pub mmap_size: u64,
        /// Where in the file the region starts.
        pub mmap_offset: u64,
        /// Number of rings.
        pub num_queues: u16,
        /// Entries of each ring.
        pub queue_size: u16,
        ..4
    }
}

impl Inflight {
    /// Bytes of the structure without its padding: the least that a payload may have.
    pub const UNPADDED_SIZE: usize = 20;

    /// Decodes a payload with or without the padding; `None` if it is shorter.
    #[must_use]
    pub fn from_payload(payload: &[u8]) -> Option<Self> {
        let unpadded: &[u8; Self::UNPADDED_SIZE] = payload.first_chunk()?;
        let mut padded = [0; Self::SIZE];
        padded.first_chunk_mut().map(|front| *front = *unpadded)?;
        Some(Self::from_bytes(&padded))
    }
}

le_struct! {
    /// What a transfer of the device's state is for.
    pub struct TransferDeviceState {
        /// A [`TransferDirection`]'s number.
        pub direction: u32,
        /// A [`DeviceStatePhase`]'s number.
        pub phase: u32,
    }
}

/// Which way the device's state goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum TransferDirection {
    /// From the back-end, on the source.
    Save = 0,
    /// To the back-end, on the destination.
    Load = 1,
}

impl TransferDirection {
    /// The direction with this number.
    #[must_use]
    pub const fn from_u32(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Save),
            1 => Some(Self::Load),
            _ => None,
        }
    }
}

/// When in a migration the device's state is transferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum DeviceStatePhase {
    /// The guest and all rings are stopped.
    Stopped = 0,
}

impl DeviceStatePhase {
    /// The phase with this number.
    #[must_use]
    pub const fn from_u32(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Stopped),
            _ => None,
        }
    }
}

#[cfg(test)]
#[path = "payload_test.rs"]
mod tests;
