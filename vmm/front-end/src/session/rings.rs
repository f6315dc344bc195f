//! Stopping rings, for a pause, the end, or a reset; and where they go on.

use super::Session;
use super::link::Link;
use super::step::{Base, Step};
use super::wanted::Ring;

/// Where the index is in a split ring's device area (virtio 1.4, 2.7.8).
const USED_INDEX_AT: u64 = 2;

impl Session {
    /// What has to be said so that no ring runs that must not.
    pub(super) fn stop(&self, link: &Link) -> Option<Step> {
        if let Some(queue) = link.started(|queue| !self.wanted.runs(queue)) {
            return Some(Step::StopRing(queue));
        }
        let mut resets = self.wanted.queue_resets.iter();
        let enabled = resets.find(|queue| link.enabled.contains(queue));
        enabled.map(|queue| Step::RingEnable(*queue, false))
    }

    /// What has to be said so that a device whose rings are stopped is reset.
    pub(super) fn reset_step(&self, link: &Link) -> Option<Step> {
        use virtio_spec::vhost_user::ProtocolFeatures;
        if !self.wanted.resetting || !link.is_touched() {
            return None;
        }
        if link.has(ProtocolFeatures::RESET_DEVICE) {
            return Some(Step::ResetDevice);
        }
        if let Some(queue) = link.enabled.first() {
            return Some(Step::RingEnable(*queue, false));
        }
        (link.status != 0).then_some(Step::SetStatus(0))
    }

    /// Ends the resets that are complete by now. Called after each change.
    pub(super) fn settle(&mut self) {
        for queue in self.wanted.queue_resets.clone() {
            if self.link.as_ref().is_none_or(|link| !link.is_concerned_with(queue)) {
                self.queue_reset_over(queue);
            }
        }
        if !self.wanted.resetting {
            return;
        }
        let over = self.link.as_ref().is_none_or(|link| {
            let said = link.outstanding.as_ref().is_none_or(|step| !step.is_for_driver());
            said && link.started(|_| true).is_none() && self.reset_step(link).is_none()
        });
        if over {
            self.wanted.resetting = false;
            self.region = None;
            if let Some(link) = &mut self.link {
                link.forget_driver();
            }
        }
    }

    fn queue_reset_over(&mut self, queue: u16) {
        self.wanted.queue_resets.remove(&queue);
        self.wanted.rings.remove(&queue);
        if let Some(link) = &mut self.link {
            link.rings.remove(&queue);
        }
        if let Some(region) = &mut self.region {
            region.stale.insert(queue);
        }
    }

    /// The back-end that served this ring is gone. `tracked`: the in-flight region tells its
    /// successor where to go on. Says whether the ring can go on at all.
    pub(super) fn ring_lost(&mut self, queue: u16, tracked: bool) -> bool {
        let packed = self.wanted.is_packed();
        let Some(wanted) = self.wanted.rings.get_mut(&queue) else { return true };
        wanted.survived = true;
        if !packed {
            wanted.base = wanted.ring.device.checked_add(USED_INDEX_AT).map(Base::UsedIndex);
        } else if !tracked {
            wanted.base = None;
            self.needs_reset();
            return false;
        }
        true
    }

    /// A ring has stopped where the back-end says.
    pub(super) fn ring_stopped(&mut self, queue: u16, base: u32) {
        if let Some(link) = &mut self.link {
            link.rings.remove(&queue);
        }
        // Of a split ring's position only the lower half has a meaning.
        let base = if self.wanted.is_packed() { base } else { base & 0xffff };
        if let Some(wanted) = self.wanted.rings.get_mut(&queue) {
            wanted.base = Some(Base::At(base));
        }
    }

    /// Whether the ring's areas are in guest memory.
    pub(super) fn is_in_memory(&self, ring: &Ring) -> bool {
        self.address(ring, false).is_some()
    }
}
