//! Configuration space: bytes, which bits of them the guest may write, and a list of capabilities.

use crate::registers as reg;

/// Bytes of the space that exist; with ECAM a function has 4096, of which the rest reads as zero.
const SIZE: usize = 256;
/// Bytes that ECAM gives to each function (PCIe 3.0, 7.2.2).
const EXTENDED: usize = 4096;

/// The configuration space of one function.
#[derive(Debug, Clone)]
pub(crate) struct ConfigSpace {
    bytes: [u8; SIZE],
    /// Bits that the guest may change.
    writable: [u8; SIZE],
    /// Where the offset of the next capability is to be entered.
    link: usize,
    /// The first byte that is still free.
    free: usize,
}

/// What a function is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity {
    pub(crate) vendor: u16,
    pub(crate) device: u16,
    pub(crate) revision: u8,
    /// Base class, subclass, programming interface.
    pub(crate) class: [u8; 3],
    pub(crate) subsystem_vendor: u16,
    pub(crate) subsystem: u16,
}

impl ConfigSpace {
    /// A type 0 header without BARs and capabilities. The guest can write the command register,
    /// and the two bytes that are its own notes.
    pub(crate) fn new(identity: Identity) -> Self {
        let mut space = Self {
            bytes: [0; SIZE],
            writable: [0; SIZE],
            link: reg::CAPABILITIES,
            free: reg::HEADER_END,
        };
        let [class, subclass, interface] = identity.class;
        space.set(reg::VENDOR_ID, &identity.vendor.to_le_bytes());
        space.set(reg::DEVICE_ID, &identity.device.to_le_bytes());
        space.set(reg::REVISION, &[identity.revision]);
        space.set(reg::CLASS, &[interface, subclass, class]);
        space.set(reg::SUBSYSTEM_VENDOR_ID, &identity.subsystem_vendor.to_le_bytes());
        space.set(reg::SUBSYSTEM_ID, &identity.subsystem.to_le_bytes());
        let command = reg::COMMAND_MEMORY | reg::COMMAND_BUS_MASTER | reg::COMMAND_INTX_DISABLE;
        space.allow(reg::COMMAND, &command.to_le_bytes());
        space.allow(reg::CACHE_LINE_SIZE, &[0xff]);
        space.allow(reg::INTERRUPT_LINE, &[0xff]);
        space
    }

    /// Says that the slot has further functions.
    pub(crate) fn set_multi_function(&mut self) {
        self.set(reg::HEADER_TYPE, &[reg::MULTI_FUNCTION]);
    }

    /// Makes BARs 0 and 1 one 64-bit memory BAR of `size` bytes, a power of two, at `address`.
    ///
    /// Only the bits above the size can be written: what a guest reads back after writing ones
    /// tells it the size (PCI 3.0, 6.2.5.1).
    pub(crate) fn set_bar(&mut self, size: u64, address: u64) {
        let value = address | u64::from(reg::BAR_MEMORY_64);
        self.set(reg::BAR0, &value.to_le_bytes());
        self.allow(reg::BAR0, &(!(size - 1) & !reg::BAR_KIND).to_le_bytes());
    }

    /// The address in the 64-bit BAR, whatever the guest made of it.
    pub(crate) fn bar(&self) -> u64 {
        let mut bytes = [0; 8];
        self.read(reg::BAR0, &mut bytes);
        u64::from_le_bytes(bytes) & !reg::BAR_KIND
    }

    /// The command register.
    pub(crate) fn command(&self) -> u16 {
        self.word(reg::COMMAND)
    }

    /// Two bytes as a number.
    pub(crate) fn word(&self, offset: usize) -> u16 {
        let mut bytes = [0; 2];
        self.read(offset, &mut bytes);
        u16::from_le_bytes(bytes)
    }

    /// Appends a capability: `body` is what follows its id and its link. Returns its offset, or
    /// nothing if there is no room left.
    pub(crate) fn add_capability(&mut self, id: u8, body: &[u8]) -> Option<usize> {
        let at = self.free;
        let end = (at + 2 + body.len()).next_multiple_of(4);
        let link = u8::try_from(at).ok().filter(|_| end <= SIZE)?;
        self.set(self.link, &[link]);
        self.set(at, &[id, 0]);
        self.set(at + 2, body);
        self.set(reg::STATUS, &reg::STATUS_CAPABILITIES.to_le_bytes());
        (self.link, self.free) = (at + 1, end);
        Some(at)
    }

    /// Lets the guest write the bits of `mask` from `offset` on.
    pub(crate) fn allow(&mut self, offset: usize, mask: &[u8]) {
        copy_into(&mut self.writable, offset, mask);
    }

    /// Sets bytes, whether the guest may write them or not.
    pub(crate) fn set(&mut self, offset: usize, bytes: &[u8]) {
        copy_into(&mut self.bytes, offset, bytes);
    }

    /// Reads any number of bytes; what does not exist reads as zero, past the function as ones.
    pub(crate) fn read(&self, offset: usize, into: &mut [u8]) {
        for (at, byte) in (offset..).zip(into) {
            *byte = if at < EXTENDED { self.bytes.get(at).copied().unwrap_or(0) } else { 0xff };
        }
    }

    /// The guest writes: bits that it may not write keep their value.
    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let there = self.bytes.iter_mut().zip(&self.writable).skip(offset);
        for ((byte, &mask), &new) in there.zip(bytes) {
            *byte = (*byte & !mask) | (new & mask);
        }
    }
}

/// Copies what fits.
fn copy_into(space: &mut [u8; SIZE], offset: usize, bytes: &[u8]) {
    for (to, &from) in space.iter_mut().skip(offset).zip(bytes) {
        *to = from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const IDENTITY: Identity = Identity {
        vendor: 0x1af4,
        device: 0x1042,
        revision: 1,
        class: [1, 0x80, 0],
        subsystem_vendor: 0x1af4,
        subsystem: 0x1100,
    };

    fn read(space: &ConfigSpace, offset: usize) -> u32 {
        let mut bytes = [0; 4];
        space.read(offset, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    #[test]
    fn the_header_identifies_the_function() {
        let space = ConfigSpace::new(IDENTITY);
        assert_eq!(read(&space, reg::VENDOR_ID), 0x1042_1af4);
        assert_eq!(read(&space, reg::REVISION), 0x0180_0001);
        assert_eq!(read(&space, reg::SUBSYSTEM_VENDOR_ID), 0x1100_1af4);
    }

    #[test]
    fn writing_ones_to_a_bar_tells_its_size() {
        let mut space = ConfigSpace::new(IDENTITY);
        space.set_bar(0x8000, 0xc000_0000);
        assert_eq!(read(&space, reg::BAR0), 0xc000_0004);
        space.write(reg::BAR0, &[0xff; 4]);
        space.write(reg::BAR0 + 4, &[0xff; 4]);
        assert_eq!(read(&space, reg::BAR0), 0xffff_8004);
        assert_eq!(read(&space, reg::BAR0 + 4), 0xffff_ffff);
        space.write(reg::BAR0, &0xd000_0000_u32.to_le_bytes());
        space.write(reg::BAR0 + 4, &2_u32.to_le_bytes());
        assert_eq!(space.bar(), 0x2_d000_0000);
    }

    #[test]
    fn capabilities_are_linked_in_order_until_there_is_no_room() {
        let mut space = ConfigSpace::new(IDENTITY);
        assert_eq!(space.add_capability(9, &[0; 14]), Some(0x40));
        assert_eq!(space.add_capability(0x11, &[0; 10]), Some(0x50));
        assert_eq!(space.add_capability(9, &[0; 200]), None);
        assert_eq!(read(&space, reg::CAPABILITIES) & 0xff, 0x40);
        assert_eq!(read(&space, 0x40), 0x5009);
        assert_eq!(read(&space, 0x50), 0x0011);
    }

    proptest! {
        /// Class: config space registers written by the guest.
        #[test]
        fn only_writable_bits_change(
            offset in 0_usize..5000,
            bytes in prop::collection::vec(any::<u8>(), 0..16),
        ) {
            let mut space = ConfigSpace::new(IDENTITY);
            space.set_bar(0x4000, 0);
            let before = space.clone();
            space.write(offset, &bytes);
            for at in 0..SIZE {
                let changed = space.bytes[at] ^ before.bytes[at];
                prop_assert_eq!(changed & !before.writable[at], 0);
            }
            prop_assert_eq!(space.writable, before.writable);
        }

        #[test]
        fn a_read_of_any_place_and_length_is_defined(offset in 0_usize..5000, len in 0_usize..64) {
            let space = ConfigSpace::new(IDENTITY);
            let mut into = vec![0xaa; len];
            space.read(offset, &mut into);
            for (at, byte) in (offset..).zip(into) {
                match at {
                    0..SIZE => prop_assert_eq!(byte, space.bytes[at]),
                    SIZE..EXTENDED => prop_assert_eq!(byte, 0),
                    _ => prop_assert_eq!(byte, 0xff),
                }
            }
        }
    }
}
