//! The log of dirty pages.

use virtio_spec::features;
use virtio_spec::vhost_user::{F_LOG_ALL, LOG_PAGE_SIZE, Log, ProtocolFeatures};
use wire::Request;

use super::FrontEnd;
use crate::{Area, Error, Memory, PAGE_SIZE, RegionSpec, Result};

/// The log of pages that the back-end has written, one bit for each from guest address 0 on.
#[derive(Debug)]
pub struct DirtyLog(Area);

impl DirtyLog {
    /// Guest addresses of the pages that were written since the last time, in order.
    #[must_use]
    pub fn take(&self) -> Vec<u64> {
        let mut pages = Vec::new();
        for word in (0..self.0.len()).step_by(size_of::<u32>()) {
            let bits = self.0.take_u32(word);
            let first = word as u64 * 8;
            let set = (0..u32::BITS).filter(|bit| bits & (1 << bit) != 0);
            pages.extend(set.map(|bit| (first + u64::from(bit)) * LOG_PAGE_SIZE));
        }
        pages
    }
}

impl FrontEnd {
    /// Starts logging into a new log that covers all of guest memory. Writes into rings are logged
    /// once [`log_ring`](Self::log_ring) says so.
    ///
    /// # Errors
    /// [`Error::NotOffered`] without LOG_SHMFD and LOG_ALL.
    pub fn start_log(&mut self) -> Result<DirtyLog> {
        self.require(ProtocolFeatures::LOG_SHMFD)?;
        let end = self.memory.regions().iter().map(|region| region.guest_addr + region.size).max();
        let bytes = end.unwrap_or(0).div_ceil(LOG_PAGE_SIZE * 8);
        let size = bytes.next_multiple_of(PAGE_SIZE);
        let holder = Memory::with_regions(&[RegionSpec::new(0, size)])?;
        let len = usize::try_from(size).map_err(|_| Error::NoRoom(usize::MAX))?;
        let log = DirtyLog(holder.area(0, len)?);
        let place = Log { mmap_size: size, mmap_offset: 0 };
        self.call(Request::SetLogBase(place, Some(holder.file(0)?)))?;
        self.set_log_all(true)?;
        Ok(log)
    }

    /// Switches logging on or off, with rings running.
    ///
    /// # Errors
    /// [`Error::Wire`].
    pub fn set_log_all(&mut self, log: bool) -> Result<()> {
        let agreed = self.agreed.as_mut().ok_or(Error::NotSetUp("a negotiation"))?;
        let bit = features::mask(F_LOG_ALL);
        let bits = if log { agreed.features | bit } else { agreed.features & !bit };
        agreed.features = bits;
        self.call(Request::SetFeatures(bits)).map(drop)
    }
}
