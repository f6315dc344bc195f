//! The in-flight region, in which a back-end leaves to its successor what it had taken.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use virtio_spec::observer::RingStep;
use virtio_spec::vhost_user::inflight::region_size;
use virtio_spec::vhost_user::{Inflight, ProtocolFeatures};
use wire::{Reply, Request};

use super::{FrontEnd, wrong_reply};
use crate::event::duplicate;
use crate::{Error, Queue, Result};

impl FrontEnd {
    /// Gets an in-flight region for so many rings of such a size from the back-end and hands it
    /// back, as front-ends do before they start rings.
    ///
    /// # Errors
    /// [`Error::NotOffered`] without INFLIGHT_SHMFD.
    pub fn set_up_inflight(&mut self, num_queues: u16, queue_size: u16) -> Result<()> {
        self.require(ProtocolFeatures::INFLIGHT_SHMFD)?;
        let wish = Inflight { mmap_size: 0, mmap_offset: 0, num_queues, queue_size };
        match self.call(Request::GetInflightFd(wish))? {
            Reply::Inflight(inflight, file) => self.inflight = Some((inflight, file)),
            other => return Err(wrong_reply("GET_INFLIGHT_FD", &other)),
        }
        self.hand_over_inflight()
    }

    /// Hands over the region, if there is one.
    pub(super) fn hand_over_inflight(&mut self) -> Result<()> {
        let Some((inflight, file)) = &self.inflight else {
            return Ok(());
        };
        let request = Request::SetInflightFd(*inflight, duplicate(file)?);
        self.call(request).map(drop)
    }

    /// Shows the observer what the back-end has recorded of a ring. Nothing may move meanwhile.
    ///
    /// # Errors
    /// [`Error::Violation`] when it is not what is in flight, [`Error::NotSetUp`] without a region.
    pub fn check_inflight(&self, index: u16, queue: &Queue) -> Result<()> {
        let (inflight, file) = self.inflight()?;
        let packed = matches!(queue, Queue::Packed(_));
        let size = region_size(packed, inflight.queue_size);
        let mut part = vec![0; size];
        let offset = inflight.mmap_offset + u64::from(index) * size as u64;
        File::from(file)
            .read_exact_at(&mut part, offset)
            .map_err(|error| Error::System("reading the in-flight region", error))?;
        queue.show(RingStep::InflightRegion(&part))
    }

    /// The region's description and another descriptor of its file, to be looked at or spoilt.
    ///
    /// # Errors
    /// [`Error::NotSetUp`].
    pub fn inflight(&self) -> Result<(Inflight, OwnedFd)> {
        match &self.inflight {
            Some((inflight, file)) => Ok((*inflight, duplicate(file)?)),
            None => Err(Error::NotSetUp("an in-flight region")),
        }
    }
}
