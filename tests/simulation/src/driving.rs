//! What the driver does.

use driver::{Done, Operation};
use virtio_spec::block::Status;
use virtio_spec::features::RING_PACKED;
use virtio_spec::observer::RingStep;
use virtio_spec::vhost_user::inflight::region_size;

use crate::Failure;
use crate::back_end::{BackEnd, SERIAL};
use crate::guest::{Expected, Sent};
use crate::trace::Who;
use crate::workload;
use crate::world::World;

impl World {
    /// Some ring that the driver has set up.
    pub(crate) fn some_ring(&mut self) -> Option<u16> {
        let count = u16::try_from(self.guest.rings.len()).unwrap_or(0);
        (count > 0 && self.guest.features.is_some()).then(|| self.random.u16(..count))
    }

    pub(crate) fn submit_somewhere(&mut self) -> Result<bool, Failure> {
        let (Some(ring), Some(features)) = (self.some_ring(), self.guest.features) else {
            return Ok(false);
        };
        let id = self.next_request();
        let operation = workload::operation(&mut self.random, id, self.scenario.sectors, features);
        if self.guest.ring(ring)?.spoilt {
            return Ok(false);
        }
        let size = self.guest.ring(ring)?.block.queue().size();
        let layout = workload::layout(&mut self.random, &operation, size, features);
        let plugs = self.guest.plugged();
        let name = World::name(id, &operation);
        let there = self.guest.ring(ring)?;
        let token = match there.block.submit(operation.clone(), &layout) {
            Ok(token) => token,
            Err(driver::Error::QueueFull { .. } | driver::Error::NoRoom(_)) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        there.unpublished.push((token, operation));
        there.sent.insert(token, Sent { id, expected: Expected::Done, plugs, survived: false });
        self.trace.say(Who::Driver, || format!("ring {ring}: {name}, {token:?}, {layout:?}"));
        Ok(true)
    }

    pub(crate) fn publish_somewhere(&mut self) -> Result<bool, Failure> {
        let Some(ring) = self.some_ring() else { return Ok(false) };
        if self.guest.ring(ring)?.unpublished.is_empty() {
            return Ok(false);
        }
        self.publish(ring)?;
        if self.guest.ring(ring)?.owes_kick && self.random.u8(..4) > 0 {
            self.kick(ring)?;
        }
        Ok(true)
    }

    /// Shows the device all that was put into a ring.
    pub(crate) fn publish(&mut self, ring: u16) -> Result<(), Failure> {
        self.announce(ring)?;
        let there = self.guest.ring(ring)?;
        let wanted = there.block.publish();
        there.owes_kick |= wanted;
        there.seen = false;
        self.trace.say(Who::Driver, || {
            format!("ring {ring}: a kick is {}", if wanted { "wanted" } else { "not wanted" })
        });
        Ok(())
    }

    /// Tells the model what is going to be published.
    pub(crate) fn announce(&mut self, ring: u16) -> Result<(), Failure> {
        let there = self.guest.ring(ring)?;
        let mut ids = Vec::new();
        for (token, operation) in std::mem::take(&mut there.unpublished) {
            if let Some(sent) = there.sent.get(&token) {
                self.model.published(sent.id, &operation);
                ids.push(sent.id);
            }
        }
        self.counts.requests += ids.len() as u64;
        self.trace.say(Who::Driver, || format!("ring {ring}: publishes {ids:?}"));
        Ok(())
    }

    pub(crate) fn kick_somewhere(&mut self) -> Result<bool, Failure> {
        let Some(ring) = self.some_ring() else { return Ok(false) };
        if !self.guest.ring(ring)?.owes_kick {
            self.counts.idle_kicks += 1;
        }
        self.kick(ring)?;
        Ok(true)
    }

    pub(crate) fn kick(&mut self, ring: u16) -> Result<(), Failure> {
        let there = self.guest.ring(ring)?;
        there.owes_kick = false;
        there.events.kick.signal()?;
        self.trace.say(Who::Driver, || format!("ring {ring}: kicks"));
        Ok(())
    }

    pub(crate) fn reap_somewhere(&mut self) -> Result<bool, Failure> {
        let Some(ring) = self.some_ring() else { return Ok(false) };
        if self.scenario.calls_only {
            return self.answer_calls(ring);
        }
        let most = self.random.usize(1..=4);
        Ok(self.reap(ring, most)? > 0)
    }

    /// Looks at a ring if the device has called for it, as drivers do.
    pub(crate) fn answer_calls(&mut self, ring: u16) -> Result<bool, Failure> {
        let calls = self.guest.ring(ring)?.events.take_calls()?;
        if calls == 0 {
            return Ok(false);
        }
        self.counts.calls += calls;
        self.trace.say(Who::Driver, || format!("ring {ring}: is called"));
        self.reap(ring, usize::MAX)?;
        self.wait_for_calls(ring)?;
        Ok(true)
    }

    /// Takes what is used until there is nothing more, and then waits to be called.
    pub(crate) fn wait_for_calls(&mut self, ring: u16) -> Result<(), Failure> {
        if self.guest.features.is_none() {
            return Ok(());
        }
        self.guest.ring(ring)?.sleeping = true;
        while !self.guest.ring(ring)?.spoilt && self.guest.ring(ring)?.block.queue().enable_calls()
        {
            self.reap(ring, usize::MAX)?;
        }
        Ok(())
    }

    /// Takes at most so many used requests, and says how many there were.
    pub(crate) fn reap(&mut self, ring: u16, most: usize) -> Result<usize, Failure> {
        if usize::from(ring) >= self.guest.rings.len() {
            return Ok(0);
        }
        let mut reaped = 0;
        while reaped < most {
            let there = self.guest.ring(ring)?;
            if there.spoilt {
                break;
            }
            there.events.is_called()?;
            let done = there.block.reap().map_err(|error| match error {
                error @ driver::Error::Violation(_) => error.into(),
                error => Failure::Driver { ring, error: error.to_string() },
            })?;
            let Some(done) = done else { break };
            reaped += 1;
            self.done(ring, &done)?;
        }
        Ok(reaped)
    }

    fn done(&mut self, ring: u16, done: &Done) -> Result<(), Failure> {
        let Some(sent) = self.guest.ring(ring)?.sent.remove(&done.token) else {
            let error = format!("{:?} was used, which nobody has sent", done.token);
            return Err(Failure::Driver { ring, error });
        };
        let Sent { id, expected, survived, .. } = sent;
        self.trace.say(Who::Driver, || {
            let name = World::name(id, &done.operation);
            format!("ring {ring}: sees {name} used, status {}", done.status)
        });
        let status = Status::from_u8(done.status);
        let Some(status) = status.filter(|status| self.is_reasonable(*status, expected)) else {
            let operation = done.operation.to_string();
            return Err(Failure::Status { request: id, operation, status: done.status });
        };
        self.counts.recovered += u64::from(survived);
        if status == Status::Ok {
            self.counts.good += 1;
        } else {
            self.counts.failed += 1;
        }
        if done.operation == Operation::GetId && done.data != SERIAL {
            return Err(Failure::Answer {
                what: "the serial",
                found: format!("{:?}", done.data),
                expected: format!("{SERIAL:?}"),
            });
        }
        self.model.ended(id, status, &done.data)
    }

    /// Whether a request of which this is expected can end like this.
    fn is_reasonable(&self, status: Status, expected: Expected) -> bool {
        match expected {
            Expected::Done => {
                status == Status::Ok || (status == Status::IoErr && self.scenario.fails())
            }
            Expected::Status(expected) => status == expected,
        }
    }

    /// Takes all that is used, and shows the observer what the in-flight region says of the rest.
    pub(crate) fn inspect(&mut self) -> Result<bool, Failure> {
        let Some(ring) = self.some_ring().filter(|ring| self.is_recorded(*ring)) else {
            return Ok(false);
        };
        if self.scenario.calls_only {
            return Ok(false);
        }
        self.reap(ring, usize::MAX)?;
        let size = self.guest.ring(ring)?.block.queue().size();
        let Some((region, file)) = &self.front_end.region else { return Ok(false) };
        if region.queue_size != size {
            // The observer wants a part to be as large as its ring.
            return Ok(false);
        }
        let mut part = vec![0; region_size(self.guest.has(RING_PACKED), region.queue_size)];
        let offset = region.mmap_offset + u64::from(ring) * part.len() as u64;
        rustix::io::pread(file, &mut part, offset)
            .map_err(|errno| Failure::Simulator(format!("no in-flight region: {errno}")))?;
        self.guest.ring(ring)?.block.queue().show(RingStep::InflightRegion(&part))?;
        Ok(true)
    }

    /// Whether the in-flight region tells of this ring: it runs, and does not wait for anything.
    fn is_recorded(&self, ring: u16) -> bool {
        let ready = |process: &BackEnd| !process.is_busy() && !process.wants_retry();
        self.front_end.ring(ring).running && self.back_end.as_ref().is_some_and(ready)
    }

    pub(crate) fn switch_calls(&mut self) -> Result<bool, Failure> {
        let Some(ring) = self.some_ring().filter(|_| !self.scenario.calls_only) else {
            return Ok(false);
        };
        let on = self.random.bool();
        let there = self.guest.ring(ring)?;
        there.sleeping = false;
        if on {
            there.block.queue().enable_calls();
        } else {
            there.block.queue().disable_calls();
        }
        self.trace.say(Who::Driver, || {
            format!("ring {ring}: wants {}", if on { "calls" } else { "no calls" })
        });
        Ok(true)
    }
}
