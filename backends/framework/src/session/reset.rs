//! RESET_DEVICE: the driver's reset of the whole device.

use virtio_spec::Status;

use super::pending::Then;
use super::{Session, Workers};
use crate::device::Device;
use crate::error::Result;

impl Session {
    /// All workers end, so that no data side remembers anything; new ones come with new rings.
    pub(super) fn reset_device<D: Device, W: Workers<D::Service>>(
        &mut self,
        workers: &mut W,
    ) -> Result<Then> {
        for ring in &mut self.rings {
            ring.forget_wait();
        }
        self.quit_workers::<D, W>(workers);
        Ok(Then::Reset)
    }

    pub(super) fn reset_finished<D: Device>(&mut self, device: &mut D) {
        for ring in &mut self.rings {
            ring.reset();
        }
        self.status = Status::RESET;
        self.in_flight = None;
        device.reset();
        self.state_changed = true;
    }
}
