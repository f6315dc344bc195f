//! What is true once the back-end has answered.

use std::collections::BTreeSet;

use virtio_spec::features::mask;
use virtio_spec::status::Status;
use virtio_spec::vhost_user::{F_LOG_ALL, ProtocolFeatures};

use super::link::{Link, RingLink, SetUp};
use super::step::{Answer, Effect, Step};
use super::{Region, Session};
use crate::{Error, Result};

impl Session {
    /// The outstanding request was answered; or, if it has no answer, sent.
    ///
    /// # Errors
    /// When the connection has to be given up.
    pub fn answered(&mut self, answer: Answer) -> Result<()> {
        let step = self.link.as_mut().and_then(|link| link.outstanding.take());
        let Some(step) = step else { return Ok(()) };
        match answer {
            Answer::Refused(value) => self.refused(&step, value)?,
            answer => self.done(step, answer)?,
        }
        self.establish_if_complete()?;
        self.settle();
        Ok(())
    }

    fn done(&mut self, step: Step, answer: Answer) -> Result<()> {
        let Some(link) = &mut self.link else { return Ok(()) };
        match (step, answer) {
            (Step::GetFeatures, Answer::Number(bits)) => link.offered = Some(bits),
            (Step::GetProtocolFeatures, Answer::Number(bits)) => {
                let theirs = ProtocolFeatures::from_bits_truncate(bits);
                link.protocol_offered = Some(theirs - theirs.lacking_support());
            }
            (Step::GetQueueNum, Answer::Number(count)) => {
                if count == 0 {
                    return Err(wrong("GET_QUEUE_NUM", "0"));
                }
                link.queues = Some(count);
            }
            (Step::GetMaxMemSlots, Answer::Number(count)) => link.slots = Some(count),
            (Step::GetConfig(size), Answer::Config(found)) => {
                if u32::try_from(found.len()) != Ok(size) {
                    return Err(wrong("GET_CONFIG", format!("{} bytes", found.len())));
                }
                link.config_stale = false;
                link.config = Some(found.clone());
                if link.established {
                    self.config_found(found);
                }
            }
            (Step::GetStatus, Answer::Number(status)) => {
                link.status_stale = false;
                if status & u64::from(Status::DEVICE_NEEDS_RESET.bits()) != 0 {
                    self.needs_reset();
                }
            }
            (Step::StopRing(queue), Answer::Base(base)) => self.ring_stopped(queue, base),
            (step, Answer::Done) => self.accepted(step),
            (step, answer) => return Err(wrong(step.name(), format!("{answer:?}"))),
        }
        Ok(())
    }

    /// A request without an answer of its own was successful.
    fn accepted(&mut self, step: Step) {
        let Some(link) = &mut self.link else { return };
        match step {
            Step::SetProtocolFeatures(protocol) => link.protocol = Some(protocol),
            Step::SetOwner => link.owned = true,
            Step::OpenChannel => link.channel_open = true,
            Step::SetConfig { offset, data } => {
                self.config_written(&(offset, data));
            }
            Step::SetFeatures(bits) => {
                link.features = Some(bits);
                if bits & mask(F_LOG_ALL) == 0 {
                    link.log = None;
                }
            }
            Step::SetMemTable(regions) => link.memory = regions,
            Step::AddRegion(region) => link.memory.push(region),
            Step::RemoveRegion(region) => link.memory.retain(|there| *there != region),
            Step::SetMtu(_) => link.mtu_set = true,
            Step::Announce(mac) => {
                // Another one may have been asked for meanwhile.
                self.wanted.announce = self.wanted.announce.filter(|next| *next != mac);
            }
            Step::GetInFlight { .. } => {
                let packed = self.wanted.is_packed();
                self.region = Some(Region { packed, stale: BTreeSet::new() });
            }
            Step::SetInFlight { clear, .. } => {
                link.in_flight = true;
                if let Some(region) = &mut self.region {
                    region.stale.retain(|queue| !clear.contains(queue));
                }
            }
            Step::SetLog(log) => link.log = Some(log),
            Step::SetStatus(status) => link.status = status,
            Step::ResetDevice => link.forget_driver(),
            step => self.ring_step_done(&step),
        }
    }

    fn ring_step_done(&mut self, step: &Step) {
        let (Some(link), Some(queue)) = (&mut self.link, step.queue()) else { return };
        let enable = link.has_protocol();
        if let Step::RingEnable(_, on) = step {
            if !on {
                link.enabled.remove(&queue);
                return;
            }
            link.enabled.insert(queue);
        }
        let ring = link.rings.entry(queue).or_default();
        match step {
            Step::RingKick(_) => ring.started = true,
            Step::RingAddress(address) => ring.logged = address.log.is_some(),
            _ => {}
        }
        let before = ring.next;
        ring.next = before.after(enable);
        if before != SetUp::Complete && ring.next == SetUp::Complete {
            self.ring_runs(queue);
        }
    }

    /// Kicks may have come while nobody listened; and a back-end may have died between using
    /// buffers and calling the driver.
    fn ring_runs(&mut self, queue: u16) {
        if !self.wanted.runs(queue) {
            // A reset has overtaken the start.
            return;
        }
        self.effects.add(Effect::Kick(queue));
        let wanted = self.wanted.rings.get_mut(&queue);
        if wanted.is_some_and(|wanted| std::mem::take(&mut wanted.survived)) {
            self.effects.add(Effect::Call(queue));
        }
        if let Some(region) = &mut self.region {
            region.stale.remove(&queue);
        }
    }

    /// Refusals that are the driver's doing are the driver's trouble; others end the connection.
    fn refused(&mut self, step: &Step, value: u64) -> Result<()> {
        let Some(link) = &mut self.link else { return Ok(()) };
        match step {
            Step::GetConfig(_) if link.established => link.config_stale = false,
            Step::GetConfig(_) => link.config_tries = link.config_tries.saturating_add(1),
            Step::SetConfig { offset, data } => {
                // What the driver has read since is not what the device has.
                link.config_stale = true;
                self.config_written(&(*offset, data.clone()));
            }
            Step::SetMtu(_) => link.mtu_set = true,
            Step::Announce(_) => self.wanted.announce = None,
            Step::SetStatus(status) => link.status = *status,
            step => match step.queue().filter(|_| !matches!(step, Step::StopRing(_))) {
                Some(queue) => {
                    // It may run for all we know.
                    let started = matches!(step, Step::RingKick(_)) || is_started(link, queue);
                    let refused = RingLink { next: SetUp::Refused, started, logged: false };
                    link.rings.insert(queue, refused);
                    if matches!(step, Step::RingEnable(..)) {
                        link.enabled.remove(&queue);
                    }
                    self.needs_reset();
                }
                None => {
                    let message = step.name().to_owned();
                    return Err(Error::Refused { message, value });
                }
            },
        }
        self.refused = Some(step.name());
        Ok(())
    }

    /// This write is no longer to be made.
    fn config_written(&mut self, write: &(u32, Vec<u8>)) {
        if self.wanted.config_writes.front() == Some(write) {
            self.wanted.config_writes.pop_front();
        }
        // Without an acknowledgement nobody knows whether it was taken.
        if let Some(link) = self.link.as_mut().filter(|l| !l.has(ProtocolFeatures::REPLY_ACK)) {
            link.config_stale = true;
        }
    }
}

fn is_started(link: &Link, queue: u16) -> bool {
    link.rings.get(&queue).is_some_and(|ring| ring.started)
}

fn wrong(message: &'static str, what: impl Into<String>) -> Error {
    Error::WrongAnswer { message, what: what.into() }
}
