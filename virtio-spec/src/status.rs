//! The device status field (virtio 1.4, 2.1).

bitflags::bitflags! {
    /// How far the driver has come with a device. Zero is a device after reset.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
    pub struct Status: u8 {
        /// The guest has noticed the device.
        const ACKNOWLEDGE = 1;
        /// The guest has a driver for it.
        const DRIVER = 2;
        /// The driver is set up and drives the device.
        const DRIVER_OK = 4;
        /// Both sides agree on the features.
        const FEATURES_OK = 8;
        /// The driver asked the device to suspend, and it did (with the feature SUSPEND).
        const SUSPEND = 16;
        /// The device met an error that only a reset mends.
        const DEVICE_NEEDS_RESET = 64;
        /// The driver gave the device up.
        const FAILED = 128;
        // Reserved bits are kept, so that what is read back is what was there.
        const _ = !0;
    }
}

impl Status {
    /// A device that was reset and that no driver has touched since.
    pub const RESET: Self = Self::empty();
}

#[cfg(test)]
mod tests {
    use super::*;
    use virtio_bindings::virtio_config as config;

    #[test]
    fn bits_agree_with_linux() {
        let pairs = [
            (Status::ACKNOWLEDGE, config::VIRTIO_CONFIG_S_ACKNOWLEDGE),
            (Status::DRIVER, config::VIRTIO_CONFIG_S_DRIVER),
            (Status::DRIVER_OK, config::VIRTIO_CONFIG_S_DRIVER_OK),
            (Status::FEATURES_OK, config::VIRTIO_CONFIG_S_FEATURES_OK),
            (Status::DEVICE_NEEDS_RESET, config::VIRTIO_CONFIG_S_NEEDS_RESET),
            (Status::FAILED, config::VIRTIO_CONFIG_S_FAILED),
        ];
        for (ours, linux) in pairs {
            assert_eq!(u32::from(ours.bits()), linux);
        }
    }
}
