//! The region in which requests in flight are recorded (vhost-user, "Inflight I/O tracking").

use std::os::fd::OwnedFd;
use std::sync::Arc;

use virtio_spec::vhost_user::Inflight;
use virtio_spec::vhost_user::inflight::region_size;
use wire::Reply;

use super::Session;
use super::pending::Then;
use crate::Error;
use crate::error::Result;
use crate::memory::Mapping;
use crate::worker::InFlightArea;

/// A region that the front-end keeps for us, and for whoever comes after us.
#[derive(Debug)]
pub(super) struct InFlightRegion {
    mapping: Arc<Mapping>,
    queues: u16,
    queue_size: u16,
}

impl InFlightRegion {
    /// The part of `queue`, whose ring has `size` descriptors.
    pub(super) fn area(&self, queue: u16, packed: bool, size: u16) -> Result<InFlightArea> {
        let mismatch = || Error::InFlightMismatch {
            queue,
            size,
            queues: self.queues,
            queue_size: self.queue_size,
        };
        if queue >= self.queues || size > self.queue_size {
            return Err(mismatch());
        }
        // The region may have been made before packed rings were negotiated, and be too small now.
        let part = region_size(packed, self.queue_size);
        let offset = part.checked_mul(queue.into()).ok_or_else(mismatch)?;
        let end = offset.checked_add(part).ok_or_else(mismatch)?;
        if end > self.mapping.len() {
            return Err(mismatch());
        }
        Ok(InFlightArea { mapping: Arc::clone(&self.mapping), offset, size: self.queue_size })
    }
}

impl Session {
    pub(super) fn get_inflight_fd(&mut self, wanted: &Inflight) -> Result<Then> {
        let size = self.in_flight_size(wanted)?;
        let (fd, _) = Mapping::memfd("outrigger-inflight", size)?;
        let region = Inflight { mmap_size: size, mmap_offset: 0, ..*wanted };
        // It is used when the front-end hands it back, as it does in any case.
        Ok(Then::Reply(Reply::Inflight(region, fd)))
    }

    pub(super) fn set_inflight_fd(&mut self, region: &Inflight, fd: &OwnedFd) -> Result<Then> {
        if !self.is_suspended() {
            return Err(Error::InFlightFrozen);
        }
        let needed = self.in_flight_size(region)?;
        if region.mmap_size < needed {
            return Err(Error::InFlightTooSmall { size: region.mmap_size, needed });
        }
        let mapping = Arc::new(Mapping::shared(fd, region.mmap_offset, needed)?);
        let (queues, queue_size) = (region.num_queues, region.queue_size);
        self.in_flight = Some(InFlightRegion { mapping, queues, queue_size });
        Ok(Then::Ack)
    }

    /// Bytes of a region for as many queues of such a size.
    fn in_flight_size(&self, region: &Inflight) -> Result<u64> {
        let (queues, size) = (region.num_queues, region.queue_size);
        let most = self.limits;
        if queues == 0 || size == 0 || queues > most.count || size > most.size {
            return Err(Error::InFlightShape { queues, size, count: most.count, most: most.size });
        }
        let bytes = region_size(self.is_packed(), size).saturating_mul(queues.into());
        Ok(bytes as u64)
    }
}
