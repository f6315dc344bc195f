//! Starting and stopping rings.

use virtio_spec::features;
use virtio_spec::vhost_user::{
    F_PROTOCOL_FEATURES, ProtocolFeatures, VringAddr, VringAddrFlags, VringState,
};
use wire::{Reply, Request};

use super::{FrontEnd, wrong_reply};
use crate::{Deadline, Error, Event, Notifier, Queue, Result};

/// The eventfds of a ring.
#[derive(Debug)]
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
        Ok(Self { kick: Event::new()?, call: Event::new()?, error: Event::new()? })
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
        deadline.wait_either(&self.call, &self.error)?;
        if self.error.take()? > 0 {
            return Err(Error::Device("it signalled the error eventfd of a valid ring".into()));
        }
        Ok(self.call.take()? > 0)
    }
}

impl FrontEnd {
    /// Starts and enables a ring at `base`, with eventfds of its own, and kicks it once as
    /// front-ends should.
    ///
    /// # Errors
    /// [`Error::Wire`].
    pub fn start_ring(&mut self, index: u8, queue: &Queue, base: u32) -> Result<RingEvents> {
        let events = RingEvents::new()?;
        self.configure_ring(index, queue, base)?;
        self.call(Request::SetVringErr { index, fd: Some(events.error.share()?) })?;
        self.call(Request::SetVringCall { index, fd: Some(events.call.share()?) })?;
        self.call(Request::SetVringKick { index, fd: Some(events.kick.share()?) })?;
        self.enable_ring(index, true)?;
        events.kick.signal()?;
        Ok(events)
    }

    /// Tells a ring's size, base and addresses.
    ///
    /// # Errors
    /// [`Error::Wire`].
    pub fn configure_ring(&mut self, index: u8, queue: &Queue, base: u32) -> Result<()> {
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
