//! Requests to the block device (virtio 1.4, 5.2.6).
//!
//! A request is a header that the device reads, data that it reads or writes, and one status byte
//! that it writes last.

use crate::layout::le_struct;

/// Bytes in a sector, the unit of every position and size.
pub const SECTOR_SIZE: u64 = 512;
/// The sector size as a power of two.
pub const SECTOR_SHIFT: u32 = 9;
/// Bytes that GET_ID fills: the serial, padded with zeroes, not terminated if it has this length.
pub const ID_LEN: usize = 20;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum RequestType {
    /// Read.
    In = 0,
    /// Write.
    Out = 1,
    /// Make what was written durable.
    Flush = 4,
    /// Tell the serial.
    GetId = 8,
    /// Tell how worn the storage is.
    GetLifetime = 10,
    /// These sectors are no longer needed.
    Discard = 11,
    /// Fill these sectors with zeroes.
    WriteZeroes = 13,
    /// Erase these sectors beyond recovery.
    SecureErase = 14,
    /// Write at a zone's write pointer.
    ZoneAppend = 15,
    /// Describe zones.
    ZoneReport = 16,
    /// Open a zone.
    ZoneOpen = 18,
    /// Close a zone.
    ZoneClose = 20,
    /// Fill a zone up.
    ZoneFinish = 22,
    /// Empty a zone.
    ZoneReset = 24,
    /// Empty all zones.
    ZoneResetAll = 26,
}

impl RequestType {
    /// All types that the specification knows.
    pub const ALL: [Self; 15] = [
        Self::In,
        Self::Out,
        Self::Flush,
        Self::GetId,
        Self::GetLifetime,
        Self::Discard,
        Self::WriteZeroes,
        Self::SecureErase,
        Self::ZoneAppend,
        Self::ZoneReport,
        Self::ZoneOpen,
        Self::ZoneClose,
        Self::ZoneFinish,
        Self::ZoneReset,
        Self::ZoneResetAll,
    ];

    /// The type with this number; `None` for one that a device answers with `S_UNSUPP`.
    #[must_use]
    pub const fn from_u32(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::In,
            1 => Self::Out,
            4 => Self::Flush,
            8 => Self::GetId,
            10 => Self::GetLifetime,
            11 => Self::Discard,
            13 => Self::WriteZeroes,
            14 => Self::SecureErase,
            15 => Self::ZoneAppend,
            16 => Self::ZoneReport,
            18 => Self::ZoneOpen,
            20 => Self::ZoneClose,
            22 => Self::ZoneFinish,
            24 => Self::ZoneReset,
            26 => Self::ZoneResetAll,
            _ => return None,
        })
    }

    /// The type's number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self as u32
    }
}

le_struct! {
    /// What every request starts with.
    #[derive(Default)]
    pub struct RequestHeader {
        /// A [`RequestType`]'s number.
        pub request_type: u32,
        /// Zero; once the priority.
        pub reserved: u32,
        /// First sector, for types that have one.
        pub sector: u64,
    }
}

/// How a request ended: its last byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// The device or the driver made an error.
    IoErr = 1,
    /// The device does not do this.
    Unsupported = 2,
    /// The zone does not take this command.
    ZoneInvalidCommand = 3,
    /// Not at the zone's write pointer.
    ZoneUnalignedWritePointer = 4,
    /// Too many open zones.
    ZoneOpenResource = 5,
    /// Too many active zones.
    ZoneActiveResource = 6,
}

impl Status {
    /// The status with this number.
    #[must_use]
    pub const fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Ok,
            1 => Self::IoErr,
            2 => Self::Unsupported,
            3 => Self::ZoneInvalidCommand,
            4 => Self::ZoneUnalignedWritePointer,
            5 => Self::ZoneOpenResource,
            6 => Self::ZoneActiveResource,
            _ => return None,
        })
    }

    /// The status byte.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }
}

le_struct! {
    /// One range of a discard, write-zeroes or secure-erase request.
    #[derive(Default)]
    pub struct Segment {
        /// First sector.
        pub sector: u64,
        /// Number of sectors.
        pub num_sectors: u32,
        /// [`SegmentFlags`]; the other bits are reserved.
        pub flags: u32,
    }
}

bitflags::bitflags! {
    /// Flags of a [`Segment`].
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct SegmentFlags: u32 {
        /// Write-zeroes may deallocate the range. Not for discard and secure-erase.
        const UNMAP = 1;
    }
}

le_struct! {
    /// The answer to GET_LIFETIME (5.2.6).
    #[derive(Default)]
    pub struct Lifetime {
        /// A [`PreEolInfo`]'s number.
        pub pre_eol_info: u16,
        /// Wear of the first kind of cells in steps of a tenth; 0: not known, 11: beyond its life.
        pub device_lifetime_est_typ_a: u16,
        /// Wear of the second kind of cells, likewise.
        pub device_lifetime_est_typ_b: u16,
    }
}

/// How many reserve blocks are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum PreEolInfo {
    /// Not known.
    Undefined = 0,
    /// Less than 80 per cent.
    Normal = 1,
    /// 80 per cent.
    Warning = 2,
    /// 90 per cent.
    Urgent = 3,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use virtio_bindings::virtio_blk as linux;

    #[test]
    fn types_agree_with_linux() {
        let pairs = [
            (RequestType::In, linux::VIRTIO_BLK_T_IN),
            (RequestType::Out, linux::VIRTIO_BLK_T_OUT),
            (RequestType::Flush, linux::VIRTIO_BLK_T_FLUSH),
            (RequestType::GetId, linux::VIRTIO_BLK_T_GET_ID),
            (RequestType::Discard, linux::VIRTIO_BLK_T_DISCARD),
            (RequestType::WriteZeroes, linux::VIRTIO_BLK_T_WRITE_ZEROES),
            (RequestType::SecureErase, linux::VIRTIO_BLK_T_SECURE_ERASE),
            (RequestType::ZoneAppend, linux::VIRTIO_BLK_T_ZONE_APPEND),
            (RequestType::ZoneReport, linux::VIRTIO_BLK_T_ZONE_REPORT),
            (RequestType::ZoneOpen, linux::VIRTIO_BLK_T_ZONE_OPEN),
            (RequestType::ZoneClose, linux::VIRTIO_BLK_T_ZONE_CLOSE),
            (RequestType::ZoneFinish, linux::VIRTIO_BLK_T_ZONE_FINISH),
            (RequestType::ZoneReset, linux::VIRTIO_BLK_T_ZONE_RESET),
            (RequestType::ZoneResetAll, linux::VIRTIO_BLK_T_ZONE_RESET_ALL),
        ];
        for (ours, theirs) in pairs {
            assert_eq!(ours.number(), theirs);
        }
    }

    #[test]
    fn types_and_status_round_trip_through_their_numbers() {
        for known in RequestType::ALL {
            assert_eq!(RequestType::from_u32(known.number()), Some(known));
        }
        let known = (0..64).filter(|&n| RequestType::from_u32(n).is_some()).count();
        assert_eq!(known, RequestType::ALL.len());
        for byte in 0..=u8::MAX {
            assert_eq!(Status::from_u8(byte).map(Status::number), (byte < 7).then_some(byte));
        }
    }

    #[test]
    fn status_and_sizes_agree_with_linux() {
        assert_eq!(u32::from(Status::Ok.number()), linux::VIRTIO_BLK_S_OK);
        assert_eq!(u32::from(Status::IoErr.number()), linux::VIRTIO_BLK_S_IOERR);
        assert_eq!(u32::from(Status::Unsupported.number()), linux::VIRTIO_BLK_S_UNSUPP);
        assert_eq!(RequestHeader::SIZE, size_of::<linux::virtio_blk_outhdr>());
        assert_eq!(Segment::SIZE, size_of::<linux::virtio_blk_discard_write_zeroes>());
        assert_eq!(SegmentFlags::UNMAP.bits(), linux::VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP);
        assert_eq!(ID_LEN, linux::VIRTIO_BLK_ID_BYTES as usize);
        assert_eq!(Lifetime::SIZE, 6);
    }

    proptest! {
        #[test]
        fn headers_round_trip(request_type: u32, reserved: u32, sector: u64) {
            let header = RequestHeader { request_type, reserved, sector };
            let bytes = header.to_bytes();
            prop_assert_eq!(RequestHeader::from_bytes(&bytes), header);
            prop_assert_eq!(&bytes[8..], sector.to_le_bytes());
        }
    }
}
