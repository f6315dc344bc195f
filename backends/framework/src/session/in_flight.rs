//! The region in which requests in flight are recorded (vhost-user, "Inflight I/O tracking").
//!
//! It has a part for each queue, for a ring of the size that the front-end has announced. Behind
//! them an annex has a part for each queue for the largest ring there is: a driver may set up more
//! descriptors than were announced, as SeaBIOS 1.16.3 does, which takes 256 where QEMU says 128.

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
    /// The size of the rings that have a place in the annex.
    largest: u16,
}

impl InFlightRegion {
    /// The part of `queue`, whose ring has `size` descriptors: it is in the annex if that is more
    /// than was announced.
    pub(super) fn area(&self, queue: u16, packed: bool, size: u16) -> Result<InFlightArea> {
        let mismatch = || Error::InFlightMismatch {
            queue,
            size,
            queues: self.queues,
            queue_size: self.queue_size,
        };
        let (start, room) = match size <= self.queue_size {
            true => (0, self.queue_size),
            false => (parts_size(packed, self.queues, self.queue_size), self.largest),
        };
        if queue >= self.queues || size > room {
            return Err(mismatch());
        }
        let offset = start.saturating_add(parts_size(packed, queue, room));
        // The region may have no annex: another back-end has made it. Or it was made before packed
        // rings were negotiated, and is too small now.
        if offset.saturating_add(region_size(packed, room)) > self.mapping.len() {
            return Err(mismatch());
        }
        Ok(InFlightArea { mapping: Arc::clone(&self.mapping), offset, size: room })
    }
}

impl Session {
    pub(super) fn get_inflight_fd(&mut self, wanted: &Inflight) -> Result<Then> {
        let size = self.in_flight_size(wanted)?.saturating_add(self.annex_size(wanted));
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
        let useful = region.mmap_size.min(needed.saturating_add(self.annex_size(region)));
        let mapping = Arc::new(Mapping::shared(fd, region.mmap_offset, useful)?);
        let (queues, queue_size) = (region.num_queues, region.queue_size);
        let largest = self.limits.size;
        self.in_flight = Some(InFlightRegion { mapping, queues, queue_size, largest });
        Ok(Then::Ack)
    }

    /// Bytes of the annex; none is needed where the largest rings were announced.
    fn annex_size(&self, region: &Inflight) -> u64 {
        match region.queue_size < self.limits.size {
            true => parts_size(self.is_packed(), region.num_queues, self.limits.size) as u64,
            false => 0,
        }
    }

    /// Bytes of the parts for as many queues of such a size.
    fn in_flight_size(&self, region: &Inflight) -> Result<u64> {
        let (queues, size) = (region.num_queues, region.queue_size);
        let most = self.limits;
        if queues == 0 || size == 0 || queues > most.count || size > most.size {
            return Err(Error::InFlightShape { queues, size, count: most.count, most: most.size });
        }
        Ok(parts_size(self.is_packed(), queues, size) as u64)
    }
}

/// Bytes of the parts of so many queues.
fn parts_size(packed: bool, queues: u16, queue_size: u16) -> usize {
    region_size(packed, queue_size).saturating_mul(queues.into())
}
