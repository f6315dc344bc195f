//! The device status, as the driver writes and reads it (virtio 1.4, 2.1).

use virtio_spec::Status;
use virtio_spec::features::VERSION_1;
use virtio_spec::vhost_user::ProtocolFeatures;

use super::pending::Then;
use super::{Session, Workers};
use crate::device::Service;
use crate::error::Result;

impl Session {
    /// Zero is a reset, which stops all rings. What the driver set once and would not set again
    /// stays: front-ends also send zero when a machine pauses or moves.
    pub(super) fn set_status<S: Service, W: Workers<S>>(
        &mut self,
        status: u8,
        workers: &mut W,
    ) -> Result<Then> {
        let mut status = Status::from_bits_retain(status);
        if status == Status::RESET {
            self.status = status;
            self.stop_all_rings(workers);
            return Ok(Then::Ack);
        }
        // A driver that knows only legacy devices gets no further (virtio 1.4, 2.2.2 and 6.3).
        if !self.driver_features().has(VERSION_1) {
            status.remove(Status::FEATURES_OK);
        }
        // The feature of that name is not offered: a device that shows it would seem suspended
        // (virtio 1.4, 3.4.2).
        status.remove(Status::SUSPEND);
        // Only a reset clears it, and only the device sets it.
        let needs_reset = self.status & Status::DEVICE_NEEDS_RESET;
        status.remove(Status::DEVICE_NEEDS_RESET);
        self.status = status | needs_reset;
        Ok(Then::Ack)
    }

    /// The device is in a state that only a reset mends; the driver is told to look (virtio 1.4,
    /// 2.1.2).
    pub(super) fn needs_reset(&mut self) {
        self.status |= Status::DEVICE_NEEDS_RESET;
        let visible = self.protocol.contains(ProtocolFeatures::STATUS);
        if visible && self.status.contains(Status::DRIVER_OK) {
            self.config_changed();
        }
    }
}
