//! Requests to a block device, and its configuration (virtio 1.4, 5.2).

use super::clause::block::*;
use super::lifecycle::Lifecycle;
use super::step::DeviceStep;
use super::violation::Findings;
use crate::block::{
    CONFIG_WCE, Config, FLUSH, ID_LEN, RO, RequestHeader, RequestType, SECTOR_SIZE, Segment,
    SegmentFlags, Status, WRITEBACK_OFFSET, ZONED,
};
use crate::features::Negotiated;

/// A completed request, as the driver sees it.
#[derive(Debug, Clone, Copy)]
pub struct BlockRequest<'a> {
    /// What the request asked for.
    pub header: RequestHeader,
    /// Bytes that the device was to read after the header.
    pub data_out: u64,
    /// Bytes that the device was to write before the status byte.
    pub data_in: u64,
    /// Segments of a discard, write-zeroes or secure-erase.
    pub segments: &'a [Segment],
    /// Whether there was room for the status byte.
    pub has_status: bool,
    /// The status byte after completion. Drivers set it to 255 before.
    pub status: u8,
    /// Bytes that the device reported as written.
    pub used_len: u32,
}

/// What the observer knows of the device's configuration.
#[derive(Debug, Default)]
pub(super) struct Block {
    /// The configuration as far as the driver read it.
    config: Vec<u8>,
    /// The cache mode that the driver wrote and did not read back yet.
    writeback: Option<u8>,
    writeback_read: bool,
}

impl Block {
    /// The device was reset: what the former driver wrote is of no account.
    pub(super) fn reset(&mut self) {
        (self.writeback, self.writeback_read) = (None, false);
    }

    /// There is a new connection, perhaps to a new back-end. For a driver that cannot flush, that one
    /// may well be more careful than it was asked to be.
    pub(super) fn connected(&mut self, negotiated: Negotiated) {
        self.writeback = self.writeback.filter(|_| negotiated.has(FLUSH));
    }

    pub(super) fn configuration(
        &mut self,
        step: DeviceStep<'_>,
        lifecycle: &Lifecycle,
        findings: &mut Findings,
    ) {
        match step {
            DeviceStep::ConfigRead { offset, data } => {
                self.remember(offset, data);
                self.judge_padding(findings);
                self.judge_writeback(offset, data, lifecycle, findings);
            }
            DeviceStep::ConfigWritten { offset, data } => {
                let value = match (offset, data) {
                    (WRITEBACK_OFFSET, [value @ 0..=1]) => Some(*value),
                    _ => None,
                };
                let may = value.is_some() && lifecycle.negotiated().has(CONFIG_WCE);
                findings.check(may, &BLK_CONFIG_READ_ONLY, || {
                    format!("{data:?} was written at {offset}")
                });
                self.writeback = value.filter(|_| may);
                self.writeback_read = true;
            }
            _ => {}
        }
    }

    pub(super) fn completed(
        &self,
        request: &BlockRequest<'_>,
        lifecycle: &Lifecycle,
        findings: &mut Findings,
    ) {
        let kind = RequestType::from_u32(request.header.request_type);
        let known = self.judge_driver(request, kind, findings);
        if !request.has_status {
            return;
        }
        let zoned = lifecycle.negotiated().has(ZONED);
        let status = Status::from_u8(request.status)
            .filter(|status| zoned || status.number() <= Status::Unsupported.number());
        let Some(status) = status else {
            findings.breach(&BLK_STATUS_WRITTEN, format!("the status byte is {}", request.status));
            return;
        };
        self.judge_refusals(request, kind, status, lifecycle, findings);
        if status != Status::Ok {
            return;
        }
        findings.check(known, &BLK_NO_FALSE_OK, || format!("{:?}", request.header));
        // A zone report fills as much as there is to report.
        let whole = kind != Some(RequestType::ZoneReport);
        let len = u64::from(request.used_len);
        findings.check(!whole || len == request.data_in + 1, &BLK_USED_LEN, || {
            format!("{} bytes and a status, used with {len}", request.data_in)
        });
    }

    fn remember(&mut self, offset: usize, data: &[u8]) {
        let end = offset.saturating_add(data.len()).min(Config::SIZE);
        if self.config.len() < end {
            self.config.resize(end, 0);
        }
        if let Some(place) = self.config.get_mut(offset..end) {
            place.iter_mut().zip(data).for_each(|(to, from)| *to = *from);
        }
    }

    /// The configuration, with zeroes where it was not read.
    fn config(&self) -> Config {
        let mut whole = [0; Config::SIZE];
        whole.iter_mut().zip(&self.config).for_each(|(to, from)| *to = *from);
        Config::from_bytes(&whole)
    }

    fn judge_padding(&self, findings: &mut Findings) {
        let config = self.config();
        let padding = (config.unused0, config.unused1, config.zoned.unused2);
        findings.check(padding == (0, [0; 3], [0; 3]), &BLK_PADDING_ZERO, || {
            format!("the padding is {padding:?}")
        });
    }

    fn judge_writeback(
        &mut self,
        offset: usize,
        data: &[u8],
        lifecycle: &Lifecycle,
        findings: &mut Findings,
    ) {
        let place = WRITEBACK_OFFSET.checked_sub(offset);
        let Some(value) = place.and_then(|place| data.get(place)).copied() else { return };
        // Reading everything at once is how front-ends fill their caches.
        let alone = data.len() == 1;
        findings.check(!alone || lifecycle.features_ok(), &BLK_WRITEBACK_EARLY, || {
            "writeback was read".to_owned()
        });
        if let Some(written) = self.writeback.take() {
            findings.check(value == written, &BLK_WRITEBACK_READS_BACK, || {
                format!("{written} was written and {value} read")
            });
        }
        let negotiated = lifecycle.negotiated();
        let starts_off = negotiated.has(CONFIG_WCE) && !negotiated.has(FLUSH);
        if starts_off && lifecycle.features_ok() && !self.writeback_read {
            findings.check(value == 0, &BLK_WRITEBACK_INITIAL, || format!("it is {value}"));
            self.writeback_read = true;
        }
    }

    /// Judges what the driver asked for; returns whether it can be done as it stands.
    fn judge_driver(
        &self,
        request: &BlockRequest<'_>,
        kind: Option<RequestType>,
        findings: &mut Findings,
    ) -> bool {
        findings.check(request.has_status, &BLK_STATUS_ROOM, || "there is none".to_owned());
        let Some(kind) = kind else { return false };
        let length = self.judge_length(request, kind, findings);
        let range = self.judge_range(request, kind, findings);
        let unmap = request.segments.iter().any(|s| s.flags & SegmentFlags::UNMAP.bits() != 0);
        findings.check(!(kind == RequestType::Discard && unmap), &BLK_DISCARD_UNMAP, || {
            "a discard has UNMAP".to_owned()
        });
        let sector = request.header.sector;
        findings.check(kind != RequestType::Flush || sector == 0, &BLK_FLUSH_SECTOR, || {
            format!("a flush has sector {sector}")
        });
        length && range
    }

    fn judge_length(
        &self,
        request: &BlockRequest<'_>,
        kind: RequestType,
        findings: &mut Findings,
    ) -> bool {
        let BlockRequest { data_in, data_out, .. } = *request;
        let fits = match kind {
            RequestType::In => data_in % SECTOR_SIZE == 0 && data_out == 0,
            RequestType::Out => data_out % SECTOR_SIZE == 0 && data_in == 0,
            RequestType::GetId => data_in == ID_LEN as u64,
            RequestType::Discard | RequestType::WriteZeroes | RequestType::SecureErase => {
                data_out > 0 && data_out % Segment::SIZE as u64 == 0
            }
            _ => true,
        };
        findings.check(fits, &BLK_DATA_LENGTH, || {
            format!("{kind:?} with {data_out} bytes to read and {data_in} to write")
        });
        let config = self.config();
        let most = match kind {
            RequestType::Discard => config.max_discard_seg,
            RequestType::WriteZeroes => config.max_write_zeroes_seg,
            RequestType::SecureErase => config.max_secure_erase_seg,
            _ => 0,
        };
        let few = most == 0 || request.segments.len() <= most as usize;
        findings.check(few, &BLK_SEGMENT_COUNT, || {
            format!("{} segments, at most {most}", request.segments.len())
        });
        fits && few
    }

    fn judge_range(
        &self,
        request: &BlockRequest<'_>,
        kind: RequestType,
        findings: &mut Findings,
    ) -> bool {
        // Without the capacity nothing can be said.
        let capacity = match self.config().capacity {
            0 => return true,
            capacity => capacity,
        };
        let start = request.header.sector;
        let end = match kind {
            RequestType::In => start.checked_add(request.data_in / SECTOR_SIZE),
            RequestType::Out => start.checked_add(request.data_out / SECTOR_SIZE),
            RequestType::Discard | RequestType::WriteZeroes | RequestType::SecureErase => request
                .segments
                .iter()
                .map(|segment| segment.sector.checked_add(u64::from(segment.num_sectors)))
                .try_fold(0, |most, end| end.map(|end| most.max(end))),
            _ => Some(0),
        };
        let inside = end.is_some_and(|end| end <= capacity);
        findings.check(inside, &BLK_CAPACITY, || {
            format!("{kind:?} at sector {start}, the disk has {capacity}")
        });
        inside
    }

    /// Requests that must end with a certain status.
    fn judge_refusals(
        &self,
        request: &BlockRequest<'_>,
        kind: Option<RequestType>,
        status: Status,
        lifecycle: &Lifecycle,
        findings: &mut Findings,
    ) {
        let Some(kind) = kind else {
            findings.check(status == Status::Unsupported, &BLK_UNKNOWN_TYPE, || {
                format!("type {} ended with {status:?}", request.header.request_type)
            });
            return;
        };
        let read_only = kind == RequestType::Out && lifecycle.offered(RO);
        findings.check(!read_only || status == Status::IoErr, &BLK_READ_ONLY, || {
            format!("a write ended with {status:?}")
        });
        let zone = kind.number() >= RequestType::ZoneAppend.number();
        let refused = !zone || lifecycle.negotiated().has(ZONED) || status == Status::Unsupported;
        findings
            .check(refused, &BLK_ZONE_UNSUPPORTED, || format!("{kind:?} ended with {status:?}"));
        let allowed = match kind {
            // The specification does not say what UNMAP is to a secure erase.
            RequestType::WriteZeroes | RequestType::SecureErase => SegmentFlags::UNMAP.bits(),
            RequestType::Discard => 0,
            _ => u32::MAX,
        };
        let odd = request.segments.iter().any(|segment| segment.flags & !allowed != 0);
        findings.check(!odd || status == Status::Unsupported, &BLK_SEGMENT_FLAGS, || {
            format!("{kind:?} ended with {status:?}")
        });
    }
}
