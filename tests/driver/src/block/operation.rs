//! Block requests as values.

use std::fmt;

use virtio_spec::block::{ID_LEN, RequestHeader, RequestType, SECTOR_SIZE, Segment, SegmentFlags};

/// A block request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Read so many bytes.
    Read {
        /// First sector.
        sector: u64,
        /// Bytes.
        len: usize,
    },
    /// Write these bytes.
    Write {
        /// First sector.
        sector: u64,
        /// The bytes.
        data: Vec<u8>,
    },
    /// Make what was written durable.
    Flush,
    /// These ranges are no longer needed.
    Discard(Vec<Segment>),
    /// Fill these ranges with zeroes.
    WriteZeroes(Vec<Segment>),
    /// Erase these ranges beyond recovery.
    SecureErase(Vec<Segment>),
    /// Tell the serial.
    GetId,
    /// Anything else, valid or not.
    Raw {
        /// The header.
        header: RequestHeader,
        /// What the device reads after the header.
        data: Vec<u8>,
        /// Bytes that the device may write before the status byte.
        room: usize,
    },
}

impl Operation {
    /// A discard of so many sectors.
    #[must_use]
    pub fn discard(sector: u64, num_sectors: u32) -> Self {
        Self::Discard(vec![Segment { sector, num_sectors, flags: 0 }])
    }

    /// Zeroes for so many sectors, which may be deallocated with `unmap`.
    #[must_use]
    pub fn write_zeroes(sector: u64, num_sectors: u32, unmap: bool) -> Self {
        let flags = if unmap { SegmentFlags::UNMAP } else { SegmentFlags::empty() };
        Self::WriteZeroes(vec![Segment { sector, num_sectors, flags: flags.bits() }])
    }

    /// The number of the request's type.
    #[must_use]
    pub fn request_type(&self) -> u32 {
        self.header().request_type
    }

    pub(super) fn header(&self) -> RequestHeader {
        let (kind, sector) = match self {
            Self::Read { sector, .. } => (RequestType::In, *sector),
            Self::Write { sector, .. } => (RequestType::Out, *sector),
            Self::Flush => (RequestType::Flush, 0),
            Self::Discard(_) => (RequestType::Discard, 0),
            Self::WriteZeroes(_) => (RequestType::WriteZeroes, 0),
            Self::SecureErase(_) => (RequestType::SecureErase, 0),
            Self::GetId => (RequestType::GetId, 0),
            Self::Raw { header, .. } => return *header,
        };
        RequestHeader { request_type: kind.number(), reserved: 0, sector }
    }

    /// The ranges of a request that has some.
    pub(super) fn segments(&self) -> &[Segment] {
        match self {
            Self::Discard(segments) | Self::WriteZeroes(segments) | Self::SecureErase(segments) => {
                segments
            }
            _ => &[],
        }
    }

    /// All that the device reads: header and data.
    pub(super) fn readable_bytes(&self) -> Vec<u8> {
        let mut bytes = self.header().to_bytes().to_vec();
        match self {
            Self::Write { data, .. } | Self::Raw { data, .. } => bytes.extend(data),
            Self::Discard(segments) | Self::WriteZeroes(segments) | Self::SecureErase(segments) => {
                bytes.extend(segments.iter().flat_map(|segment| segment.to_bytes()));
            }
            Self::Read { .. } | Self::Flush | Self::GetId => {}
        }
        bytes
    }

    /// Bytes that the device writes before the status byte.
    pub(super) fn writable_len(&self) -> usize {
        match self {
            Self::Read { len, .. } => *len,
            Self::GetId => ID_LEN,
            Self::Raw { room, .. } => *room,
            _ => 0,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sectors = |len: usize| len as u64 / SECTOR_SIZE;
        match self {
            Self::Read { sector, len } => {
                write!(f, "a read of {} sectors at {sector}", sectors(*len))
            }
            Self::Write { sector, data } => {
                write!(f, "a write of {} sectors at {sector}", sectors(data.len()))
            }
            Self::Flush => write!(f, "a flush"),
            Self::Discard(segments) => write!(f, "a discard of {segments:?}"),
            Self::WriteZeroes(segments) => write!(f, "zeroes for {segments:?}"),
            Self::SecureErase(segments) => write!(f, "an erasure of {segments:?}"),
            Self::GetId => write!(f, "a question for the serial"),
            Self::Raw { header, .. } => write!(f, "a request with {header:?}"),
        }
    }
}
