//! Starting rings: the set-up is complete, the device holds what it must hold, a worker is there.

use std::sync::Arc;

use virtio_spec::features::VERSION_1;

use super::pending::{Awaited, Pending, Then};
use super::vring::Run;
use super::{Session, Workers};
use crate::Error;
use crate::device::{Acquired, Device};
use crate::error::Result;
use crate::worker::{Command, RingSetup};

impl Session {
    /// Starts a stopped ring, or lets it wait for what the device must hold: the front-end need not
    /// know, since a ring that is slow to start looks like a slow device.
    pub(super) fn start_ring<D: Device, W: Workers<D::Service>>(
        &mut self,
        device: &mut D,
        queue: u16,
        workers: &mut W,
    ) -> Result<Then> {
        let (_, refusal) = self.ring_setup(queue)?;
        if let Some(error) = refusal {
            self.not_started(queue, &error);
            return Ok(Then::Refuse(error));
        }
        if self.acquire(device)? {
            let launched = self.launch(device, queue, workers);
            self.release_if_idle(device);
            launched?;
        } else if let Some(ring) = self.rings.get_mut(usize::from(queue)) {
            tracing::info!(queue, "the ring waits: another process still holds the device");
            ring.wait();
        }
        Ok(Then::Ack)
    }

    /// Whether rings wait for what the device must hold: [`Session::retry`] is to be called soon.
    pub fn wants_retry(&self) -> bool {
        !self.closing && self.rings.iter().any(|ring| ring.run() == Run::Waiting)
    }

    /// Starts the rings that wait, if the device has what it must hold by now.
    ///
    /// # Errors
    /// When the device can never have it, or a worker cannot be started: the connection cannot go on.
    pub fn retry<D: Device, W: Workers<D::Service>>(
        &mut self,
        device: &mut D,
        workers: &mut W,
    ) -> Result<()> {
        if self.is_waiting() || !self.wants_retry() || !self.acquire(device)? {
            return Ok(());
        }
        for queue in 0..self.limits.count {
            let ring = self.rings.get(usize::from(queue));
            if ring.is_some_and(|ring| ring.run() == Run::Waiting) {
                self.launch(device, queue, workers)?;
            }
        }
        // As after a request: the next one finds the rings running.
        let request = "the start of a ring that had to wait".into();
        self.pending = Some(Pending { code: 0, request, ack: false, then: Then::Ack });
        Ok(())
    }

    fn acquire<D: Device>(&mut self, device: &mut D) -> Result<bool> {
        if !self.held {
            self.held = device.acquire()? == Acquired::Yes;
        }
        Ok(self.held)
    }

    /// Tells the ring's worker to start it.
    fn launch<D: Device, W: Workers<D::Service>>(
        &mut self,
        device: &mut D,
        queue: u16,
        workers: &mut W,
    ) -> Result<()> {
        let worker = device.worker_of(queue);
        if !self.workers.contains(&worker) {
            let queues: Vec<u16> =
                (0..self.limits.count).filter(|queue| device.worker_of(*queue) == worker).collect();
            workers.spawn(worker, &queues, device.service(worker)?)?;
            self.workers.insert(worker);
        }
        let (mut setup, _) = self.ring_setup(queue)?;
        setup.serve_disabled = device.serves_disabled(queue);
        if let Some(ring) = self.rings.get_mut(usize::from(queue)) {
            ring.starting(worker);
        }
        self.abort_transfer();
        let polled = setup.kick.is_none() && !self.is_inband();
        self.tell(workers, worker, Command::Start(Box::new(setup)));
        if polled {
            self.tell(workers, worker, Command::Poll { queue });
        }
        Ok(())
    }

    /// The ring's set-up, and why it is refused if it is: that is the driver's doing, and no reason
    /// to end the connection.
    ///
    /// # Errors
    /// When the front-end has left something out.
    fn ring_setup(&self, queue: u16) -> Result<(RingSetup, Option<Error>)> {
        let missing = |what| Error::RingNotSetUp { queue, what };
        let ring = self.rings.get(usize::from(queue)).ok_or_else(|| missing("ring"))?;
        let size = ring.size.ok_or_else(|| missing("SET_VRING_NUM"))?;
        let parts = ring.parts().ok_or_else(|| missing("SET_VRING_ADDR"))?;
        if self.acked.is_none() {
            return Err(missing("SET_FEATURES"));
        }
        let features = self.driver_features();
        let refusal = if features.has(VERSION_1) {
            ring.check_size(size, features).err()
        } else {
            Some(Error::LegacyDriver { queue })
        };
        let area = |region: &super::InFlightRegion| region.area(queue, self.is_packed(), size);
        let setup = RingSetup {
            queue,
            size,
            features,
            descriptors: parts.descriptors,
            driver: parts.driver,
            device: parts.device,
            base: ring.base,
            memory: Arc::clone(&self.memory),
            log: self.log.in_use(),
            used_log: parts.used_log,
            in_flight: self.in_flight.as_ref().map(area).transpose()?,
            kick: ring.kick.clone(),
            call: ring.call(self.is_inband()),
            error: ring.error.clone(),
            enabled: ring.enabled,
            serve_disabled: false,
        };
        Ok((setup, refusal))
    }

    /// A worker's answer to the start of a ring.
    pub(super) fn ring_started(&mut self, queue: u16, result: Result<()>) {
        match (result, self.rings.get_mut(usize::from(queue))) {
            (Ok(()), Some(ring)) => ring.started(),
            (Err(error), _) => {
                self.not_started(queue, &error);
                self.failure = Some(error);
            }
            (Ok(()), None) => {}
        }
        self.got(&Awaited::Started(queue));
    }

    fn not_started(&mut self, queue: u16, error: &Error) {
        if let Some(ring) = self.rings.get_mut(usize::from(queue)) {
            ring.not_started(error.to_string());
        }
        self.needs_reset();
    }
}
