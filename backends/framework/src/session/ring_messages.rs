//! Messages about rings: set-up, enabling, in-band kicks, stopping.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use virtio_spec::vhost_user::{VringAddr, VringState};
use wire::{Reply, Request};

use super::pending::{Awaited, Then};
use super::vring::{Run, Vring};
use super::{Session, Workers};
use crate::Error;
use crate::device::{Device, Service};
use crate::error::Result;
use crate::program::rate_limit::{self, RateLimit};
use crate::worker::Command;

/// A guest can let its rings fail as often as it likes.
static FAILURES: RateLimit = RateLimit::new(10, std::time::Duration::from_secs(10));

impl Session {
    pub(super) fn ring_message<D: Device, W: Workers<D::Service>>(
        &mut self,
        device: &mut D,
        request: Request,
        workers: &mut W,
    ) -> Result<Then> {
        match request {
            Request::SetVringNum(state) => self.set_num(&state),
            Request::SetVringBase(state) => self.set_base(&state, workers),
            Request::SetVringAddr(addresses) => self.set_addresses(&addresses, workers),
            Request::SetVringKick { index, fd } => {
                self.set_kick(device, index.into(), fd.map(Arc::new), workers)
            }
            Request::SetVringCall { index, fd } => self.set_call(index.into(), fd, workers),
            Request::SetVringErr { index, fd } => {
                self.set_error(index.into(), fd.map(Arc::new), workers)
            }
            Request::SetVringEnable { index, enable } => self.set_enabled(index, enable, workers),
            Request::VringKick { index } => self.inband_kick(device, index, workers),
            Request::GetVringBase { index } => self.get_base(index, workers),
            other => Err(Error::UnknownRequest { request: other.name() }),
        }
    }

    /// The ring that a message is about.
    pub(super) fn ring(&mut self, index: u32) -> Result<&mut Vring> {
        let count = self.limits.count;
        let ring = usize::try_from(index).ok().and_then(|index| self.rings.get_mut(index));
        ring.ok_or(Error::NoSuchRing { index, count })
    }

    fn set_num(&mut self, state: &VringState) -> Result<Then> {
        let most = self.limits.size;
        let bad = Error::RingSize { queue: state.index, size: state.num, most };
        let size = u16::try_from(state.num).ok().filter(|size| (1..=most).contains(size));
        let size = size.ok_or(bad)?;
        let ring = self.ring(state.index)?;
        if ring.size != Some(size) {
            ring.check_stopped("size")?;
            ring.size = Some(size);
        }
        Ok(Then::Ack)
    }

    /// A disabled ring is stopped for it: User Mode Linux does no more than to disable the rings of a driver
    /// that leaves, and sets them up anew for the next one.
    fn set_base<S: Service, W: Workers<S>>(
        &mut self,
        state: &VringState,
        workers: &mut W,
    ) -> Result<Then> {
        let ring = self.ring(state.index)?;
        if !ring.enabled && ring.serving_worker().is_some() {
            let queue = ring.queue();
            self.stop_ring(queue, workers);
            return Ok(Then::Rebase { queue, base: state.num });
        }
        ring.check_stopped("base")?;
        ring.base = state.num;
        Ok(Then::Ack)
    }

    /// On a running ring only the fields about logging may change.
    fn set_addresses<S: Service, W: Workers<S>>(
        &mut self,
        new: &VringAddr,
        workers: &mut W,
    ) -> Result<Then> {
        let packed = self.is_packed();
        let ring = self.ring(new.index)?;
        let queue = ring.queue();
        let moved = ring.addresses.is_none_or(|old| {
            (old.descriptor, old.available, old.used) != (new.descriptor, new.available, new.used)
        });
        if moved {
            ring.check_stopped("address")?;
        }
        let old = ring.addresses.replace(*new);
        let (serving, at) = (ring.serving_worker(), ring.parts().and_then(|parts| parts.used_log));
        let covered = self.rings.get(usize::from(queue));
        if !covered.is_none_or(|ring| ring.used_is_covered(&self.log, packed)) {
            self.ring(new.index)?.addresses = old;
            return Err(Error::UsedLogRange { queue });
        }
        if let Some(worker) = serving {
            self.tell(workers, worker, Command::UsedLog { queue, at });
        }
        Ok(Then::Ack)
    }

    /// Starts the ring, or gives a running one another kick.
    fn set_kick<D: Device, W: Workers<D::Service>>(
        &mut self,
        device: &mut D,
        index: u32,
        kick: Option<Arc<OwnedFd>>,
        workers: &mut W,
    ) -> Result<Then> {
        let ring = self.ring(index)?;
        ring.kick.clone_from(&kick);
        let queue = ring.queue();
        match (ring.run(), ring.serving_worker()) {
            (Run::Stopped, _) => self.start_ring(device, queue, workers),
            (_, Some(worker)) => {
                let polled = kick.is_none() && !self.is_inband();
                self.tell(workers, worker, Command::SetKick { queue, kick });
                if polled {
                    self.tell(workers, worker, Command::Poll { queue });
                }
                Ok(Then::Ack)
            }
            _ => Ok(Then::Ack),
        }
    }

    fn set_call<S: Service, W: Workers<S>>(
        &mut self,
        index: u32,
        fd: Option<OwnedFd>,
        workers: &mut W,
    ) -> Result<Then> {
        let inband = self.is_inband();
        let ring = self.ring(index)?;
        ring.set_call(fd);
        let (queue, call) = (ring.queue(), ring.call(inband));
        if let Some(worker) = ring.serving_worker() {
            self.tell(workers, worker, Command::SetCall { queue, call });
        }
        Ok(Then::Ack)
    }

    fn set_error<S: Service, W: Workers<S>>(
        &mut self,
        index: u32,
        error: Option<Arc<OwnedFd>>,
        workers: &mut W,
    ) -> Result<Then> {
        let ring = self.ring(index)?;
        ring.error.clone_from(&error);
        let queue = ring.queue();
        if let Some(worker) = ring.serving_worker() {
            self.tell(workers, worker, Command::SetError { queue, error });
        }
        Ok(Then::Ack)
    }

    fn set_enabled<S: Service, W: Workers<S>>(
        &mut self,
        index: u32,
        enabled: bool,
        workers: &mut W,
    ) -> Result<Then> {
        let ring = self.ring(index)?;
        ring.enabled = enabled;
        let queue = ring.queue();
        if let Some(worker) = ring.serving_worker() {
            self.tell(workers, worker, Command::Enable { queue, enabled });
        }
        Ok(Then::Ack)
    }

    pub(super) fn enable_all_rings<S: Service, W: Workers<S>>(&mut self, workers: &mut W) {
        for index in 0..self.limits.count {
            // Every index below the limit has its ring.
            let _ = self.set_enabled(index.into(), true, workers);
        }
    }

    /// A kick by message starts a stopped ring, as SET_VRING_KICK does.
    fn inband_kick<D: Device, W: Workers<D::Service>>(
        &mut self,
        device: &mut D,
        index: u32,
        workers: &mut W,
    ) -> Result<Then> {
        let ring = self.ring(index)?;
        let queue = ring.queue();
        match (ring.run(), ring.serving_worker()) {
            (Run::Stopped, _) => self.start_ring(device, queue, workers),
            (_, Some(worker)) => {
                self.tell(workers, worker, Command::Kick { queue });
                Ok(Then::Ack)
            }
            _ => Ok(Then::Ack),
        }
    }

    fn get_base<S: Service, W: Workers<S>>(&mut self, index: u32, workers: &mut W) -> Result<Then> {
        let ring = self.ring(index)?;
        let queue = ring.queue();
        ring.kick = None;
        self.stop_ring(queue, workers);
        Ok(Then::Base(queue))
    }

    fn stop_ring<S: Service, W: Workers<S>>(&mut self, queue: u16, workers: &mut W) {
        let Some(ring) = self.rings.get_mut(usize::from(queue)) else { return };
        ring.forget_wait();
        if let Some(worker) = ring.serving_worker() {
            ring.stopping();
            self.tell(workers, worker, Command::Stop { queue });
        }
    }

    pub(super) fn stop_all_rings<S: Service, W: Workers<S>>(&mut self, workers: &mut W) {
        for queue in 0..self.limits.count {
            self.stop_ring(queue, workers);
        }
    }

    /// The reply to GET_VRING_BASE.
    pub(super) fn ring_base(&self, queue: u16) -> Reply {
        let num = self.rings.get(usize::from(queue)).map_or(0, |ring| ring.base);
        Reply::VringState(VringState { index: queue.into(), num })
    }

    pub(super) fn rebase(&mut self, queue: u16, base: u32) {
        if let Some(ring) = self.rings.get_mut(usize::from(queue)) {
            ring.base = base;
        }
    }

    pub(super) fn ring_stopped(&mut self, queue: u16, base: u32) {
        if let Some(ring) = self.rings.get_mut(usize::from(queue)) {
            ring.stopped(base);
        }
        self.got(&Awaited::Stopped(queue));
    }

    /// The driver broke the rules of this ring; the others go on.
    pub(super) fn ring_failed(&mut self, queue: u16, why: String) {
        if let Some(suppressed) = FAILURES.admit(rate_limit::now()) {
            tracing::error!(queue, why, suppressed, "a ring failed and is served no longer");
        }
        let inband = self.is_inband();
        if let Some(ring) = self.rings.get_mut(usize::from(queue)) {
            ring.fail(why);
            if inband && ring.error.is_none() {
                self.requests.ring_error(queue);
            }
        }
        self.needs_reset();
    }
}
