//! Starting and stopping rings.

use virtio_spec::features;
use virtio_spec::vhost_user::{
    F_PROTOCOL_FEATURES, ProtocolFeatures, VringAddr, VringAddrFlags, VringState,
};
use wire::{Reply, Request};

use super::{FrontEnd, wrong_reply};
use crate::{Deadline, Error, Event, Notifier, Queue, Result, Watch};

/// The eventfds of a ring. Clones are the same eventfds.
#[derive(Debug, Clone)]
pub struct RingEvents {
    /// Driver to device.
    pub kick: Event,
    /// Device to driver.
    pub call: Event,
    /// The device gave the ring up.
    pub error: Event,
}

impl RingEvents {
    /// Three new eventfds.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn new() -> Result<Self> {
        Self::watched(&Watch::none(), 0)
    }

    /// Three new eventfds whose signals are shown as those of a ring.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn watched(watch: &Watch, ring: u16) -> Result<Self> {
        let (kick, call) = (Event::kick(watch, ring)?, Event::call(watch, ring)?);
        Ok(Self { kick, call, error: Event::new()? })
    }

    /// Waits until the device reports that the ring is broken; `false` when it does not.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn wait_for_error(&self, deadline: Deadline) -> Result<bool> {
        self.error.wait(deadline)
    }
}

impl Notifier for RingEvents {
    fn kick(&mut self) -> Result<()> {
        self.kick.signal()
    }

    fn wait(&mut self, deadline: Deadline) -> Result<bool> {
        if !self.call.look()? {
            deadline.wait_either(&self.call, &self.error)?;
        }
        if self.error.take()? > 0 {
            return Err(Error::Device("it signalled the error eventfd of a valid ring".into()));
        }
        Ok(self.call.take()? > 0)
    }
}

impl FrontEnd {
    /// A queue of this size with the features that were agreed on, whose every step is watched.
    ///
    /// # Errors
    /// [`Error::NoRoom`].
    pub fn queue(&self, index: u8, size: u16) -> Result<Queue> {
        let queue = Queue::new(&self.memory, size, self.negotiated())?;
        queue.watch(&self.watch, index.into())?;
        Ok(queue)
    }

    /// Starts and enables a ring at `base`, with eventfds of its own, and kicks it once as
    /// front-ends should.
    ///
    /// # Errors
    /// [`Error::Wire`].
    pub fn start_ring(&mut self, index: u8, queue: &Queue, base: u32) -> Result<RingEvents> {
        self.configure_ring(index, queue, base)?;
        // A queue that came with chains in it is not watched, nor are its kicks and calls.
        let watch = if queue.is_watched() { self.watch.clone() } else { Watch::none() };
        let events = RingEvents::watched(&watch, index.into())?;
        self.rings.insert(index, events.clone());
        self.call(Request::SetVringErr { index, fd: Some(events.error.share()?) })?;
        self.call(Request::SetVringCall { index, fd: Some(events.call.share()?) })?;
        self.call(Request::SetVringKick { index, fd: Some(events.kick.share()?) })?;
        self.enable_ring(index, true)?;
        events.kick.inject()?;
        Ok(events)
    }

    /// Tells a ring's size, base and addresses.
    ///
    /// # Errors
    /// [`Error::Wire`].
    pub fn configure_ring(&mut self, index: u8, queue: &Queue, base: u32) -> Result<()> {
        queue.watch(&self.watch, index.into())?;
        let size = queue.size().into();
        self.call(Request::SetVringNum(VringState { index: index.into(), num: size }))?;
        self.call(Request::SetVringBase(VringState { index: index.into(), num: base }))?;
        let address = self.ring_address(index, queue, VringAddrFlags::empty())?;
        self.call(Request::SetVringAddr(address)).map(drop)
    }

    /// Switches logging of writes into a ring's used part on or off.
    ///
    /// # Errors
    /// [`Error::Wire`].
    pub fn log_ring(&mut self, index: u8, queue: &Queue, log: bool) -> Result<()> {
        let flags = if log { VringAddrFlags::LOG } else { VringAddrFlags::empty() };
        let address = self.ring_address(index, queue, flags)?;
        self.call(Request::SetVringAddr(address)).map(drop)
    }

    fn ring_address(&self, index: u8, queue: &Queue, flags: VringAddrFlags) -> Result<VringAddr> {
        let at = queue.addresses();
        Ok(VringAddr {
            index: index.into(),
            flags: flags.bits(),
            descriptor: self.memory.user_addr(at.descriptor, 1)?,
            used: self.memory.user_addr(at.device, 1)?,
            available: self.memory.user_addr(at.driver, 1)?,
            log: at.device,
        })
    }

    /// Enables or disables a ring. Without protocol features there is no such message, and
    /// SET_FEATURES has enabled all rings.
    ///
    /// # Errors
    /// [`Error::Wire`].
    pub fn enable_ring(&mut self, index: u8, enable: bool) -> Result<()> {
        let bits = self.agreed.map_or(0, |agreed| agreed.features);
        if bits & features::mask(F_PROTOCOL_FEATURES) == 0 {
            return Ok(());
        }
        self.call(Request::SetVringEnable { index: index.into(), enable }).map(drop)
    }

    /// Stops a ring, which drains it, and returns where to start it again.
    ///
    /// # Errors
    /// [`Error::Wire`].
    pub fn stop_ring(&mut self, index: u8) -> Result<u32> {
        match self.call(Request::GetVringBase { index: index.into() })? {
            Reply::VringState(state) if state.index == u32::from(index) => Ok(state.num),
            other => Err(wrong_reply("GET_VRING_BASE", &other)),
        }
    }

    /// Kicks a ring by a message. (INBAND_NOTIFICATIONS)
    ///
    /// # Errors
    /// [`Error::NotOffered`] unless that was agreed on.
    pub fn kick_in_band(&mut self, index: u8) -> Result<()> {
        self.require(ProtocolFeatures::INBAND_NOTIFICATIONS)?;
        self.call(Request::VringKick { index: index.into() }).map(drop)
    }
}
