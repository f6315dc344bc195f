//! Which features can be negotiated over this transport.

use virtio_spec::{Negotiated, Offered, features as bit};

/// Ring and transport features that work here: what belongs to the ring passes through, and of
/// what belongs to the transport only the reset of single queues is there.
const CARRIED: [u32; 8] = [
    bit::INDIRECT_DESC,
    bit::EVENT_IDX,
    bit::VERSION_1,
    bit::ACCESS_PLATFORM,
    bit::RING_PACKED,
    bit::IN_ORDER,
    bit::ORDER_PLATFORM,
    bit::RING_RESET,
];

/// Bits of the device type (virtio 1.4, 2.2). The transport has no say in them. Of those between
/// 41 and 49 none can be carried: administration queues, suspend, and reserved ones.
const DEVICE_TYPE: u64 = !(u64::MAX << 24) | (u64::MAX << 50);

/// What the driver is offered.
pub(crate) fn carried(offered: Offered) -> Offered {
    Offered::new(offered.bits() & (DEVICE_TYPE | Offered::of(&CARRIED).bits()))
}

/// What both sides agree on, if the driver's choice is a subset of the offer that a driver of
/// virtio 1.0 or later can make (virtio 1.4, 2.2 and 6.1).
pub(crate) fn agree(offered: Offered, driver: u64) -> Option<Negotiated> {
    carried(offered).accept(driver).ok().filter(|agreed| agreed.has(bit::VERSION_1))
}

/// The word of `bits` that a feature select register shows.
pub(crate) fn word(bits: u64, select: u32) -> u32 {
    let [a, b, c, d, e, f, g, h] = bits.to_le_bytes();
    match select {
        0 => u32::from_le_bytes([a, b, c, d]),
        1 => u32::from_le_bytes([e, f, g, h]),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_of_the_device_type_pass_and_reserved_ones_do_not() {
        let everything = carried(Offered::new(u64::MAX));
        for number in (0..24).chain(50..64).chain(CARRIED) {
            assert!(everything.has(number), "{number}");
        }
        for number in [24, 25, 26, 27, 30, 31, 37, 38, 39, 41, 42, 43, 44, 49] {
            assert!(!everything.has(number), "{number}");
        }
    }

    #[test]
    fn a_driver_older_than_virtio_1_is_refused() {
        let offered = Offered::of(&[bit::VERSION_1, bit::EVENT_IDX]);
        assert!(agree(offered, bit::mask(bit::VERSION_1)).is_some());
        assert!(agree(offered, bit::mask(bit::EVENT_IDX)).is_none());
        assert!(agree(offered, bit::mask(bit::VERSION_1) | 1).is_none());
    }

    #[test]
    fn words_above_the_second_are_zero() {
        assert_eq!(word(0x1_0000_0002, 0), 2);
        assert_eq!(word(0x1_0000_0002, 1), 1);
        assert_eq!(word(u64::MAX, 2), 0);
        assert_eq!(word(u64::MAX, u32::MAX), 0);
    }
}
