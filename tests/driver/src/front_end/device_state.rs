//! Saving and loading the device's state, as a migration does.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use rustix::event::PollFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use virtio_spec::vhost_user::{DeviceStatePhase, ProtocolFeatures, TransferDirection};
use wire::{Reply, Request};

use super::{FrontEnd, wrong_reply};
use crate::{Deadline, Error, Result};

/// A transfer that has begun: the front-end's end of its channel.
#[derive(Debug)]
pub struct StateTransfer(File);

impl StateTransfer {
    /// Reads until the back-end closes its end.
    ///
    /// # Errors
    /// [`Error::Timeout`] when it does not.
    pub fn read_all(mut self, deadline: Deadline) -> Result<Vec<u8>> {
        let mut state = Vec::new();
        let mut piece = [0; 4096];
        loop {
            if !deadline.wait(&self.0, PollFlags::IN)? {
                return Err(Error::Timeout("the end of the device's state".into()));
            }
            let count = self.0.read(&mut piece);
            match count.map_err(|error| Error::System("reading the device's state", error))? {
                0 => return Ok(state),
                count => state.extend(piece.iter().take(count)),
            }
        }
    }

    /// Writes all of the state and closes the channel.
    ///
    /// # Errors
    /// [`Error::Timeout`] when the back-end does not read it.
    pub fn write_all(mut self, state: &[u8], deadline: Deadline) -> Result<()> {
        // A pipe that is ready takes at least so much without blocking.
        for piece in state.chunks(4096) {
            if !deadline.wait(&self.0, PollFlags::OUT)? {
                return Err(Error::Timeout("the back-end to read the device's state".into()));
            }
            let written = self.0.write_all(piece);
            written.map_err(|error| Error::System("writing the device's state", error))?;
        }
        Ok(())
    }
}

impl FrontEnd {
    /// Saves the device's state, which has to be suspended.
    ///
    /// # Errors
    /// [`Error::NotOffered`] without DEVICE_STATE, [`Error::Device`] when saving failed.
    pub fn save_state(&mut self) -> Result<Vec<u8>> {
        let deadline = self.deadline();
        let state = self.begin_transfer(TransferDirection::Save)?.read_all(deadline)?;
        self.check_transfer()?;
        Ok(state)
    }

    /// Loads the device's state, which has to be suspended.
    ///
    /// # Errors
    /// [`Error::NotOffered`] without DEVICE_STATE, [`Error::Device`] when loading failed.
    pub fn load_state(&mut self, state: &[u8]) -> Result<()> {
        let deadline = self.deadline();
        self.begin_transfer(TransferDirection::Load)?.write_all(state, deadline)?;
        self.check_transfer()
    }

    /// Gives the back-end one end of a pipe, or takes the channel that it prefers.
    ///
    /// # Errors
    /// [`Error::NotOffered`] without DEVICE_STATE, [`Error::Device`] when it is refused.
    pub fn begin_transfer(&mut self, direction: TransferDirection) -> Result<StateTransfer> {
        self.require(ProtocolFeatures::DEVICE_STATE)?;
        let (reader, writer) =
            pipe_with(PipeFlags::CLOEXEC).map_err(|error| Error::System("pipe", error.into()))?;
        let (ours, theirs): (OwnedFd, OwnedFd) = match direction {
            TransferDirection::Save => (reader, writer),
            TransferDirection::Load => (writer, reader),
        };
        let phase = DeviceStatePhase::Stopped as u32;
        match self.call(Request::SetDeviceStateFd { direction, phase, fd: theirs })? {
            Reply::DeviceState { error: 0, fd } => Ok(StateTransfer(fd.unwrap_or(ours).into())),
            Reply::DeviceState { error, .. } => {
                Err(Error::Device(format!("it refused the transfer of its state: {error}")))
            }
            other => Err(wrong_reply("SET_DEVICE_STATE_FD", &other)),
        }
    }

    /// Asks whether the state was transferred well.
    ///
    /// # Errors
    /// [`Error::Device`] when it was not.
    pub fn check_transfer(&mut self) -> Result<()> {
        match self.number(Request::CheckDeviceState, "CHECK_DEVICE_STATE")? {
            0 => Ok(()),
            error => Err(Error::Device(format!("the transfer of its state failed: {error}"))),
        }
    }
}
