//! The registers of the common configuration structure (virtio 1.4, 4.1.4.3): where they are, and
//! which of them an access of any offset and width writes.

use crate::bar::COMMON_SIZE;

/// The structure as bytes.
pub(crate) type Image = [u8; COMMON_SIZE as usize];

/// A register that the driver writes. Addresses are two registers each, of 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Register {
    DeviceFeatureSelect,
    DriverFeatureSelect,
    DriverFeature,
    ConfigVector,
    DeviceStatus,
    QueueSelect,
    QueueSize,
    QueueVector,
    QueueEnable,
    /// Half 0 (low) or 1 (high) of the descriptor area's address.
    QueueDesc(Half),
    /// Of the driver area's.
    QueueDriver(Half),
    /// Of the device area's.
    QueueDevice(Half),
    QueueReset,
}

/// Which half of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    Low,
    High,
}

impl Half {
    /// `address` with this half replaced.
    pub(crate) fn replace(self, address: u64, half: u32) -> u64 {
        match self {
            Self::Low => (address & !0xffff_ffff) | u64::from(half),
            Self::High => (address & 0xffff_ffff) | (u64::from(half) << 32),
        }
    }
}

/// Everything that a read of the structure shows.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Common {
    pub(crate) device_feature_select: u32,
    pub(crate) device_feature: u32,
    pub(crate) driver_feature_select: u32,
    pub(crate) driver_feature: u32,
    pub(crate) config_vector: u16,
    pub(crate) queues: u16,
    pub(crate) status: u8,
    pub(crate) config_generation: u8,
    pub(crate) queue_select: u16,
    pub(crate) queue: SelectedQueue,
}

/// The part of it that is about the selected queue.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SelectedQueue {
    pub(crate) size: u16,
    pub(crate) vector: u16,
    pub(crate) enable: bool,
    pub(crate) notify_offset: u16,
    pub(crate) desc: u64,
    pub(crate) driver: u64,
    pub(crate) device: u64,
    pub(crate) reset: bool,
}

impl Common {
    /// The structure as bytes. What is not negotiated (notification data, administration queues)
    /// reads as zero.
    pub(crate) fn to_bytes(self) -> Image {
        let mut image = [0; COMMON_SIZE as usize];
        let queue = self.queue;
        put(&mut image, 0x00, &self.device_feature_select.to_le_bytes());
        put(&mut image, 0x04, &self.device_feature.to_le_bytes());
        put(&mut image, 0x08, &self.driver_feature_select.to_le_bytes());
        put(&mut image, 0x0c, &self.driver_feature.to_le_bytes());
        put(&mut image, 0x10, &self.config_vector.to_le_bytes());
        put(&mut image, 0x12, &self.queues.to_le_bytes());
        put(&mut image, 0x14, &[self.status, self.config_generation]);
        put(&mut image, 0x16, &self.queue_select.to_le_bytes());
        put(&mut image, 0x18, &queue.size.to_le_bytes());
        put(&mut image, 0x1a, &queue.vector.to_le_bytes());
        put(&mut image, 0x1c, &u16::from(queue.enable).to_le_bytes());
        put(&mut image, 0x1e, &queue.notify_offset.to_le_bytes());
        put(&mut image, 0x20, &queue.desc.to_le_bytes());
        put(&mut image, 0x28, &queue.driver.to_le_bytes());
        put(&mut image, 0x30, &queue.device.to_le_bytes());
        put(&mut image, 0x3a, &u16::from(queue.reset).to_le_bytes());
        image
    }
}

fn put(image: &mut Image, offset: usize, bytes: &[u8]) {
    for (to, &from) in image.iter_mut().skip(offset).zip(bytes) {
        *to = from;
    }
}

/// Offset and width of each register that can be written, by rising offset.
const WRITABLE: [(usize, usize, Register); 16] = [
    (0x00, 4, Register::DeviceFeatureSelect),
    (0x08, 4, Register::DriverFeatureSelect),
    (0x0c, 4, Register::DriverFeature),
    (0x10, 2, Register::ConfigVector),
    (0x14, 1, Register::DeviceStatus),
    (0x16, 2, Register::QueueSelect),
    (0x18, 2, Register::QueueSize),
    (0x1a, 2, Register::QueueVector),
    (0x1c, 2, Register::QueueEnable),
    (0x20, 4, Register::QueueDesc(Half::Low)),
    (0x24, 4, Register::QueueDesc(Half::High)),
    (0x28, 4, Register::QueueDriver(Half::Low)),
    (0x2c, 4, Register::QueueDriver(Half::High)),
    (0x30, 4, Register::QueueDevice(Half::Low)),
    (0x34, 4, Register::QueueDevice(Half::High)),
    (0x3a, 2, Register::QueueReset),
];

/// The registers that a write covers whole, with their values, by rising offset. Drivers are to
/// write each register by itself (an address in halves); a wider write is taken as several, and a
/// part of a register is not written.
pub(crate) fn writes(offset: usize, bytes: &[u8]) -> impl Iterator<Item = (Register, u32)> {
    WRITABLE.into_iter().filter_map(move |(at, width, register)| {
        let start = at.checked_sub(offset)?;
        let covered = bytes.get(start..start.checked_add(width)?)?;
        let value = covered.iter().rev().fold(0, |value, &byte| (value << 8) | u32::from(byte));
        Some((register, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(offset: usize, bytes: &[u8]) -> Vec<(Register, u32)> {
        writes(offset, bytes).collect()
    }

    #[test]
    fn each_register_by_itself() {
        assert_eq!(written(0x14, &[0x0f]), [(Register::DeviceStatus, 0x0f)]);
        assert_eq!(written(0x18, &[0, 1]), [(Register::QueueSize, 256)]);
        let low = [(Register::QueueDesc(Half::Low), 0x1234_5678)];
        assert_eq!(written(0x20, &[0x78, 0x56, 0x34, 0x12]), low);
    }

    #[test]
    fn a_wide_write_is_several() {
        let both = [(Register::QueueSize, 0x80), (Register::QueueVector, 1)];
        assert_eq!(written(0x18, &[0x80, 0, 1, 0]), both);
        let halves =
            [(Register::QueueDriver(Half::Low), 0x1000), (Register::QueueDriver(Half::High), 2)];
        assert_eq!(written(0x28, &0x2_0000_1000_u64.to_le_bytes()), halves);
    }

    #[test]
    fn parts_of_a_register_are_not_written() {
        assert_eq!(written(0x18, &[1]), []);
        assert_eq!(written(0x21, &[1; 4]), []);
        assert_eq!(written(0x12, &[1, 1]), [], "num_queues is read-only");
    }

    proptest! {
        #[test]
        fn no_access_reaches_outside(
            offset: usize,
            bytes in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            for (_, value) in writes(offset, &bytes) {
                prop_assert!(u64::from(value) <= u64::from(u32::MAX));
            }
        }

        #[test]
        fn halves_make_an_address(address: u64, new: u64) {
            let [low, high] = [new & 0xffff_ffff, new >> 32].map(|half| u32::try_from(half).unwrap());
            prop_assert_eq!(Half::High.replace(Half::Low.replace(address, low), high), new);
        }
    }
}
