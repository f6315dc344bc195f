//! The device's configuration space.

use virtio_spec::vhost_user::{ConfigFlags, ConfigHeader};
use wire::{Config, Reply};

use super::Session;
use super::pending::Then;
use crate::Error;
use crate::device::{ConfigWriter, Device};
use crate::error::Result;

/// The part that was asked for; a reply without payload says that there is no such part.
pub(super) fn get<D: Device>(device: &D, access: &ConfigHeader) -> Then {
    let config = device.config();
    let Some(range) = range(access, config.len()) else {
        let (offset, size, length) = (access.offset, access.size, config.len());
        tracing::debug!(offset, size, length, "GET_CONFIG past the end of the config space");
        return Then::Reply(Reply::ConfigRefused);
    };
    let data = config.get(range).unwrap_or_default().to_vec();
    Then::Reply(Reply::Config(Config { offset: access.offset, flags: access.flags, data }))
}

impl Session {
    pub(super) fn set_config<D: Device>(
        &mut self,
        device: &mut D,
        access: &ConfigHeader,
        data: &[u8],
    ) -> Result<Then> {
        let flags = access.flags;
        let flags = ConfigFlags::from_bits(flags).ok_or(Error::ConfigFlags { flags })?;
        let by = if flags.contains(ConfigFlags::MIGRATION) {
            ConfigWriter::Migration
        } else {
            ConfigWriter::Driver
        };
        let length = device.config().len();
        let fits = range(access, length).filter(|range| range.len() == data.len());
        let Some(range) = fits else {
            let (offset, size) = (access.offset, access.size);
            return Ok(Then::Refuse(Error::ConfigRange { offset, size, length }));
        };
        Ok(match device.write_config(range.start, data, by) {
            Ok(()) => {
                self.state_changed = true;
                Then::Ack
            }
            Err(error) => Then::Refuse(error),
        })
    }
}

/// The bytes accessed, if the config space has them.
fn range(access: &ConfigHeader, length: usize) -> Option<std::ops::Range<usize>> {
    let start = usize::try_from(access.offset).ok()?;
    let end = start.checked_add(usize::try_from(access.size).ok()?)?;
    (access.size > 0 && end <= length).then_some(start..end)
}
