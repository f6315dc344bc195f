//! Configuration space, device status, reset.

use virtio_spec::Status;
use virtio_spec::observer::DeviceStep;
use virtio_spec::vhost_user::{ConfigFlags, ConfigHeader, ProtocolFeatures};
use wire::{Reply, Request};

use super::{FrontEnd, wrong_reply};
use crate::{Error, Result};

impl FrontEnd {
    /// Reads a part of the configuration space.
    ///
    /// # Errors
    /// [`Error::NotOffered`] without CONFIG, [`Error::WrongReply`] when it is refused or another
    /// part comes back.
    pub fn read_config(&mut self, offset: u32, size: u32) -> Result<Vec<u8>> {
        self.require(ProtocolFeatures::CONFIG)?;
        let access = ConfigHeader { offset, size, flags: 0 };
        match self.call(Request::GetConfig(access))? {
            Reply::Config(config)
                if config.offset == offset && config.data.len() == size as usize =>
            {
                let (offset, data) = (offset as usize, &config.data[..]);
                self.watch.show(DeviceStep::ConfigRead { offset, data })?;
                Ok(config.data)
            }
            other => Err(wrong_reply("GET_CONFIG", &other)),
        }
    }

    /// Writes into the configuration space as the driver does.
    ///
    /// # Errors
    /// [`Error::NotOffered`] without CONFIG, [`Error::Wire`] when it is refused.
    pub fn write_config(&mut self, offset: u32, data: &[u8]) -> Result<()> {
        self.watch.show(DeviceStep::ConfigWritten { offset: offset as usize, data })?;
        self.set_config(offset, data, ConfigFlags::empty())
    }

    /// Writes into the configuration space as a migration does.
    ///
    /// # Errors
    /// [`Error::NotOffered`] without CONFIG, [`Error::Wire`] when it is refused.
    pub fn restore_config(&mut self, offset: u32, data: &[u8]) -> Result<()> {
        self.set_config(offset, data, ConfigFlags::MIGRATION)
    }

    fn set_config(&mut self, offset: u32, data: &[u8], flags: ConfigFlags) -> Result<()> {
        self.require(ProtocolFeatures::CONFIG)?;
        let size = u32::try_from(data.len()).map_err(|_| Error::Unsupported("so much data"))?;
        let access = ConfigHeader { offset, size, flags: flags.bits() };
        self.call(Request::SetConfig { access, data: data.to_vec() }).map(drop)
    }

    /// Tells the device status that the driver wrote.
    ///
    /// # Errors
    /// [`Error::NotOffered`] without STATUS.
    pub fn set_status(&mut self, status: Status) -> Result<()> {
        self.require(ProtocolFeatures::STATUS)?;
        self.watch.show(DeviceStep::StatusWritten(status))?;
        self.call(Request::SetStatus(status.bits())).map(drop)
    }

    /// The device status that the driver reads.
    ///
    /// # Errors
    /// [`Error::NotOffered`] without STATUS, [`Error::Device`] for more than 8 bits.
    pub fn status(&mut self) -> Result<Status> {
        self.require(ProtocolFeatures::STATUS)?;
        let bits = self.number(Request::GetStatus, "GET_STATUS")?;
        let Ok(bits) = u8::try_from(bits) else {
            return Err(Error::Device(format!("its status is {bits:#x}, which has over 8 bits")));
        };
        let status = Status::from_bits_retain(bits);
        self.watch.show(DeviceStep::StatusRead(status))?;
        Ok(status)
    }

    /// The driver's reset.
    ///
    /// # Errors
    /// [`Error::NotOffered`] without RESET_DEVICE.
    pub fn reset_device(&mut self) -> Result<()> {
        self.require(ProtocolFeatures::RESET_DEVICE)?;
        self.call(Request::ResetDevice).map(drop)
    }
}
