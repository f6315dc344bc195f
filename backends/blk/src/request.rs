//! What a driver asks for, parsed once from what it wrote, and checked (virtio 1.4, 5.2.6).
//!
//! Nothing here sees a ring: header and lengths come in, an owned request or the status that refuses
//! it comes out.

use virtio_spec::block::{
    DISCARD, RequestHeader, RequestType, SECTOR_SIZE, SECURE_ERASE, Segment, SegmentFlags, Status,
    WRITE_ZEROES,
};
use virtio_spec::features::Negotiated;

/// The most data segments of a request (`seg_max`).
pub const SEG_MAX: u16 = 126;
/// The most bytes of one data segment (`size_max`): with [`SEG_MAX`] such segments, the used length
/// still fits into its 32 bits. Its low 16 bits are a multiple of every block size and not zero:
/// SeaBIOS looks at these alone, and would ask for nothing at all for ever if they were zero.
pub const SIZE_MAX: u32 = (32 << 20) - 4096;
/// The most ranges of a discard, write-zeroes or secure-erase request.
pub const MAX_RANGES: usize = 32;
/// The most sectors of one such range: 2 GiB.
pub const MAX_RANGE_SECTORS: u32 = 1 << 22;

/// A request that may be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Read into the device-writable data.
    Read(Extent),
    /// Write the device-readable data.
    Write(Extent),
    /// Make completed writes durable.
    Flush,
    /// Tell the serial.
    GetId,
    /// Do something to ranges; so many follow in the device-readable data.
    Erase(EraseKind, usize),
}

/// A piece of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where it starts, bytes.
    pub offset: u64,
    /// How long it is, bytes.
    pub len: u64,
}

/// What is done to ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EraseKind {
    /// They are no longer needed.
    Discard,
    /// They read as zeroes.
    WriteZeroes,
    /// They are gone beyond recovery.
    SecureErase,
}

/// One range of a discard, write-zeroes or secure-erase request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Where it is.
    pub extent: Extent,
    /// Whether zeroing may give up its space.
    pub unmap: bool,
}

/// Bytes of data in a chain, without header and status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataLengths {
    /// What the device may read.
    pub readable: u64,
    /// What the device may write.
    pub writable: u64,
}

/// What requests are checked against.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The size of the disk, bytes.
    pub bytes: u64,
    /// Whether it may not be written.
    pub read_only: bool,
    /// What was negotiated.
    pub features: Negotiated,
}

impl Request {
    /// Parses a request's header.
    ///
    /// # Errors
    /// The status to complete the request with.
    pub fn parse(header: [u8; 16], data: DataLengths, limits: &Limits) -> Result<Self, Status> {
        let header = RequestHeader::from_bytes(&header);
        let of_kind = RequestType::from_u32(header.request_type).ok_or(Status::Unsupported)?;
        match of_kind {
            RequestType::In => limits.extent(header.sector, data.writable).map(Self::Read),
            // 5.2.6.2: "a write request if RO is offered": an error, and nothing is written.
            RequestType::Out if limits.read_only => Err(Status::IoErr),
            RequestType::Out => limits.extent(header.sector, data.readable).map(Self::Write),
            RequestType::Flush => Ok(Self::Flush),
            RequestType::GetId => Ok(Self::GetId),
            RequestType::Discard => limits.erase(EraseKind::Discard, data.readable),
            RequestType::WriteZeroes => limits.erase(EraseKind::WriteZeroes, data.readable),
            RequestType::SecureErase => limits.erase(EraseKind::SecureErase, data.readable),
            // LIFETIME and ZONED are never offered (5.2.6.2 wants this status for zone requests).
            _ => Err(Status::Unsupported),
        }
    }
}

impl Limits {
    /// Whole sectors, all of them on the disk.
    fn extent(&self, sector: u64, len: u64) -> Result<Extent, Status> {
        let offset = sector.checked_mul(SECTOR_SIZE).ok_or(Status::IoErr)?;
        let end = offset.checked_add(len).ok_or(Status::IoErr)?;
        if len.is_multiple_of(SECTOR_SIZE) && end <= self.bytes {
            Ok(Extent { offset, len })
        } else {
            Err(Status::IoErr)
        }
    }

    /// A whole number of ranges, and not too many.
    fn erase(&self, kind: EraseKind, len: u64) -> Result<Request, Status> {
        // A read-only disk offers none of the three.
        if self.read_only || !self.features.has(kind.feature()) {
            return Err(Status::Unsupported);
        }
        let range = Segment::SIZE as u64;
        match usize::try_from(len / range) {
            Ok(count @ 1..=MAX_RANGES) if len.is_multiple_of(range) => {
                Ok(Request::Erase(kind, count))
            }
            _ => Err(Status::IoErr),
        }
    }

    /// Parses the ranges of a request and appends them to `ranges`: all, or none of use.
    ///
    /// # Errors
    /// The status to complete the request with. A flag that is not known, in whichever range, goes
    /// before every other error (5.2.6.2).
    pub fn ranges(
        &self,
        kind: EraseKind,
        segments: impl Iterator<Item = [u8; Segment::SIZE]>,
        ranges: &mut Vec<Range>,
    ) -> Result<(), Status> {
        let mut failed = None;
        for segment in segments.take(MAX_RANGES) {
            match self.range(kind, Segment::from_bytes(&segment)) {
                Ok(range) => ranges.push(range),
                Err(Status::Unsupported) => return Err(Status::Unsupported),
                Err(status) => failed = Some(status),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn range(&self, kind: EraseKind, segment: Segment) -> Result<Range, Status> {
        let flags = SegmentFlags::from_bits(segment.flags).ok_or(Status::Unsupported)?;
        let unmap = flags.contains(SegmentFlags::UNMAP);
        if unmap && kind != EraseKind::WriteZeroes {
            return Err(Status::Unsupported);
        }
        if segment.num_sectors > MAX_RANGE_SECTORS {
            return Err(Status::IoErr);
        }
        let len = u64::from(segment.num_sectors) * SECTOR_SIZE;
        Ok(Range { extent: self.extent(segment.sector, len)?, unmap })
    }
}

impl EraseKind {
    /// The feature bit that stands for it.
    pub fn feature(self) -> u32 {
        match self {
            EraseKind::Discard => DISCARD,
            EraseKind::WriteZeroes => WRITE_ZEROES,
            EraseKind::SecureErase => SECURE_ERASE,
        }
    }
}

#[cfg(test)]
#[path = "request_test.rs"]
mod tests;
