//! Feature bits that belong to rings and transports, and the two sides of their negotiation.
//!
//! Bits are given by number. Numbers of 64 and above exist in virtio 1.4 but not in vhost-user,
//! whose feature messages carry 64 bits; they have no place here (virtio 1.4, 2.2 and 6).

use thiserror::Error;

/// Legacy: the device calls when it has used everything, even if calls are suppressed.
pub const NOTIFY_ON_EMPTY: u32 = 24;
/// Legacy: no assumption is made about how a buffer is split into descriptors.
pub const ANY_LAYOUT: u32 = 27;
/// A descriptor may refer to a table of descriptors (2.7.5.3, 2.8.7).
pub const INDIRECT_DESC: u32 = 28;
/// Notifications are suppressed by ring index instead of by a flag (2.7.7, 2.7.10).
pub const EVENT_IDX: u32 = 29;
/// The device follows virtio 1.0 or later.
pub const VERSION_1: u32 = 32;
/// The device reaches memory the way the platform's other devices do, by an IOMMU for one.
pub const ACCESS_PLATFORM: u32 = 33;
/// The packed ring (2.8).
pub const RING_PACKED: u32 = 34;
/// The device uses buffers in the order in which they were made available (2.7.9, 2.8.8).
pub const IN_ORDER: u32 = 35;
/// Driver and device order their memory accesses as the platform demands.
pub const ORDER_PLATFORM: u32 = 36;
/// Single root I/O virtualization.
pub const SR_IOV: u32 = 37;
/// A kick carries ring position data.
pub const NOTIFICATION_DATA: u32 = 38;
/// A kick carries a value that the device chose.
pub const NOTIF_CONFIG_DATA: u32 = 39;
/// One queue can be reset by itself (2.6.1).
pub const RING_RESET: u32 = 40;
/// The device has administration virtqueues (2.13).
pub const ADMIN_VQ: u32 = 41;
/// The driver can suspend the device by a status bit.
pub const SUSPEND: u32 = 43;

/// A word with only this bit set; zero for numbers above 63.
#[must_use]
pub const fn mask(bit: u32) -> u64 {
    match 1_u64.checked_shl(bit) {
        Some(mask) => mask,
        None => 0,
    }
}

/// Feature bits that a device offers to a driver.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Offered(u64);

/// Feature bits that both sides agreed on: a subset of what was offered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Negotiated(u64);

/// A driver or front-end acknowledged bits that the device had not offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "feature bits {bits:#x} were acknowledged but never offered; acknowledge a subset of what \
     the device offers"
)]
pub struct UnofferedBits {
    /// The acknowledged bits that were not offered.
    pub bits: u64,
}

impl Offered {
    /// Offers exactly these bits.
    #[must_use]
    pub const fn new(bits: u64) -> Self {
        Self(bits)
    }

    /// Offers the bits with these numbers.
    #[must_use]
    pub fn of(numbers: &[u32]) -> Self {
        numbers.iter().fold(Self(0), |offered, &bit| offered.with(bit))
    }

    /// Offers this bit too.
    #[must_use]
    pub const fn with(self, bit: u32) -> Self {
        Self(self.0 | mask(bit))
    }

    /// Offers this bit no longer.
    #[must_use]
    pub const fn without(self, bit: u32) -> Self {
        Self(self.0 & !mask(bit))
    }

    /// The bits as one word.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether this bit is offered.
    #[must_use]
    pub const fn has(self, bit: u32) -> bool {
        self.0 & mask(bit) != 0
    }

    /// Agrees on what the other side acknowledged.
    ///
    /// # Errors
    /// [`UnofferedBits`] if a bit was acknowledged that is not offered (virtio 1.4, 2.2.1).
    pub const fn accept(self, acked: u64) -> Result<Negotiated, UnofferedBits> {
        match acked & !self.0 {
            0 => Ok(Negotiated(acked)),
            bits => Err(UnofferedBits { bits }),
        }
    }
}

impl Negotiated {
    /// No features at all: what holds before negotiation.
    pub const NONE: Self = Self(0);

    /// Takes bits as agreed on without an offer to check them against.
    ///
    /// For tests, and for state that was saved after a negotiation. A live negotiation goes
    /// through [`Offered::accept`].
    #[must_use]
    pub const fn assume(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits as one word.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether this bit was agreed on.
    #[must_use]
    pub const fn has(self, bit: u32) -> bool {
        self.0 & mask(bit) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use virtio_bindings::virtio_config as config;
    use virtio_bindings::virtio_ring as ring;

    #[test]
    fn numbers_agree_with_linux() {
        assert_eq!(NOTIFY_ON_EMPTY, config::VIRTIO_F_NOTIFY_ON_EMPTY);
        assert_eq!(ANY_LAYOUT, config::VIRTIO_F_ANY_LAYOUT);
        assert_eq!(INDIRECT_DESC, ring::VIRTIO_RING_F_INDIRECT_DESC);
        assert_eq!(EVENT_IDX, ring::VIRTIO_RING_F_EVENT_IDX);
        assert_eq!(VERSION_1, config::VIRTIO_F_VERSION_1);
        assert_eq!(ACCESS_PLATFORM, config::VIRTIO_F_ACCESS_PLATFORM);
        assert_eq!(RING_PACKED, config::VIRTIO_F_RING_PACKED);
        assert_eq!(IN_ORDER, config::VIRTIO_F_IN_ORDER);
        assert_eq!(ORDER_PLATFORM, config::VIRTIO_F_ORDER_PLATFORM);
        assert_eq!(SR_IOV, config::VIRTIO_F_SR_IOV);
        assert_eq!(NOTIFICATION_DATA, config::VIRTIO_F_NOTIFICATION_DATA);
        assert_eq!(NOTIF_CONFIG_DATA, config::VIRTIO_F_NOTIF_CONFIG_DATA);
        assert_eq!(RING_RESET, config::VIRTIO_F_RING_RESET);
        assert_eq!(ADMIN_VQ, config::VIRTIO_F_ADMIN_VQ);
    }

    #[test]
    fn bits_above_63_have_no_mask() {
        assert_eq!(mask(63), 1 << 63);
        assert_eq!(mask(64), 0);
        assert!(!Offered::new(u64::MAX).has(64));
    }

    #[test]
    fn offers_are_built_bit_by_bit() {
        let offered = Offered::of(&[VERSION_1, EVENT_IDX]).with(IN_ORDER).without(EVENT_IDX);
        assert_eq!(offered.bits(), mask(VERSION_1) | mask(IN_ORDER));
    }

    proptest! {
        #[test]
        fn accepts_exactly_the_subsets(offered: u64, acked: u64) {
            match Offered::new(offered).accept(acked) {
                Ok(agreed) => {
                    prop_assert_eq!(agreed.bits(), acked);
                    prop_assert_eq!(acked & offered, acked);
                }
                Err(UnofferedBits { bits }) => {
                    prop_assert_ne!(bits, 0);
                    prop_assert_eq!(bits & offered, 0);
                    prop_assert_eq!(bits & acked, bits);
                }
            }
        }
    }
}
