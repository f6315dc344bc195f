//! The header of a packet that a guest sends (virtio 1.4, 5.1.6.2), checked before anybody believes it.
//!
//! The kernel, and other guests, act on these fields: they take a checksum's place, or a segment's
//! size, for granted. So each is held against what was negotiated and against the length of the
//! frame, and what goes on is a header made anew from the values that passed.

use virtio_spec::features::Negotiated;
use virtio_spec::net::{
    CSUM, GsoType, HOST_ECN, HOST_TSO4, HOST_TSO6, HOST_UFO, HOST_USO, Header, HeaderFlags,
};

/// The shortest frame: an Ethernet header (14 bytes).
pub const FRAME_MIN: usize = 14;
/// The longest frame: what an IPv4 or IPv6 packet of 64 KiB fills, with one VLAN tag.
pub const FRAME_MAX: usize = 65_535 + 40 + FRAME_MIN + 4;

/// What a driver may ask for in the header of a packet, by what was negotiated.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    csum: bool,
    tso4: bool,
    tso6: bool,
    ecn: bool,
    ufo: bool,
    uso: bool,
}

/// Why a packet is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// The frame has no Ethernet header, or more than a packet can have.
    Length,
    /// A checksum outside of the frame, or none negotiated.
    Checksum,
    /// A segmentation that was not negotiated, or makes no sense.
    Segmentation,
}

impl Rules {
    /// The rules under these features.
    pub fn new(features: Negotiated) -> Self {
        let has = |bit| features.has(bit);
        Rules {
            csum: has(CSUM),
            tso4: has(HOST_TSO4),
            tso6: has(HOST_TSO6),
            ecn: has(HOST_ECN),
            ufo: has(HOST_UFO),
            uso: has(HOST_USO),
        }
    }

    /// All that there is.
    pub fn all() -> Self {
        Rules { csum: true, tso4: true, tso6: true, ecn: true, ufo: true, uso: true }
    }

    /// Checks the header of a frame of `length` bytes, and gives back what may be believed of it.
    ///
    /// # Errors
    /// Why the packet is to be dropped.
    #[inline]
    pub fn check(&self, bytes: &[u8; Header::SIZE], length: usize) -> Result<Header, Bad> {
        if !(FRAME_MIN..=FRAME_MAX).contains(&length) {
            return Err(Bad::Length);
        }
        // Most packets ask for nothing.
        if bytes[0] & HeaderFlags::NEEDS_CSUM.bits() == 0 && bytes[1] == 0 {
            return Ok(Header::default());
        }
        self.check_offloads(Header::from_bytes(bytes), length)
    }

    fn check_offloads(&self, header: Header, length: usize) -> Result<Header, Bad> {
        let flags = HeaderFlags::from_bits_retain(header.flags);
        // Segments need checksums of their own (5.1.6.2.1).
        if !self.csum || !flags.contains(HeaderFlags::NEEDS_CSUM) {
            return Err(if header.gso_type == 0 { Bad::Checksum } else { Bad::Segmentation });
        }
        let end = usize::from(header.csum_start) + usize::from(header.csum_offset) + 2;
        if usize::from(header.csum_start) < FRAME_MIN || end > length {
            return Err(Bad::Checksum);
        }
        let believed = Header {
            flags: HeaderFlags::NEEDS_CSUM.bits(),
            csum_start: header.csum_start,
            csum_offset: header.csum_offset,
            ..Header::default()
        };
        if header.gso_type == GsoType::None as u8 {
            return Ok(believed);
        }
        self.check_segmentation(&header, length)?;
        let (gso_type, gso_size) = (header.gso_type, header.gso_size);
        Ok(Header { gso_type, gso_size, hdr_len: self.header_length(&header, end), ..believed })
    }

    fn check_segmentation(&self, header: &Header, length: usize) -> Result<(), Bad> {
        let ecn = header.gso_type & GsoType::ECN != 0;
        let allowed = match GsoType::from_u8(header.gso_type) {
            Some(GsoType::TcpV4) => self.tso4 && (!ecn || self.ecn),
            Some(GsoType::TcpV6) => self.tso6 && (!ecn || self.ecn),
            Some(GsoType::Udp) => self.ufo && !ecn,
            Some(GsoType::UdpL4) => self.uso && !ecn,
            Some(GsoType::None) | None => false,
        };
        let sensible = header.gso_size > 0 && usize::from(header.hdr_len) < length;
        if allowed && sensible { Ok(()) } else { Err(Bad::Segmentation) }
    }

    /// `hdr_len` is a hint, and may be anything; below the checksum's end it would be wrong.
    fn header_length(&self, header: &Header, checksum_end: usize) -> u16 {
        header.hdr_len.max(u16::try_from(checksum_end).unwrap_or(u16::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use virtio_spec::features::Offered;

    use super::*;

    const TCP: Header = Header {
        flags: 1,
        gso_type: GsoType::TcpV4 as u8,
        hdr_len: 54,
        gso_size: 1448,
        csum_start: 34,
        csum_offset: 16,
        num_buffers: 0,
    };

    fn rules(bits: &[u32]) -> Rules {
        let offered = Offered::of(bits);
        Rules::new(offered.accept(offered.bits()).unwrap())
    }

    fn check(rules: Rules, header: Header, length: usize) -> Result<Header, Bad> {
        rules.check(&header.to_bytes(), length)
    }

    #[test]
    fn what_was_negotiated_passes() {
        let all = rules(&[CSUM, HOST_TSO4]);
        assert_eq!(check(all, TCP, 60_000), Ok(TCP));
        assert_eq!(check(all, Header::default(), 60), Ok(Header::default()));
    }

    #[test]
    fn what_was_not_negotiated_is_dropped() {
        assert_eq!(check(rules(&[]), TCP, 60_000), Err(Bad::Segmentation));
        assert_eq!(check(rules(&[CSUM]), TCP, 60_000), Err(Bad::Segmentation));
        let ecn = Header { gso_type: TCP.gso_type | GsoType::ECN, ..TCP };
        assert_eq!(check(rules(&[CSUM, HOST_TSO4]), ecn, 60_000), Err(Bad::Segmentation));
        let plain = Header { gso_type: 0, ..TCP };
        assert_eq!(check(rules(&[]), plain, 600), Err(Bad::Checksum));
    }

    #[test]
    fn frames_have_an_ethernet_header_and_an_end() {
        for (length, expected) in [(0, false), (13, false), (14, true), (FRAME_MAX, true)] {
            assert_eq!(check(rules(&[]), Header::default(), length).is_ok(), expected);
        }
        assert_eq!(check(rules(&[]), Header::default(), FRAME_MAX + 1), Err(Bad::Length));
    }

    #[test]
    fn segments_without_a_size_or_a_checksum_are_dropped() {
        let all = rules(&[CSUM, HOST_TSO4]);
        for bad in [
            Header { gso_size: 0, ..TCP },
            Header { flags: 0, ..TCP },
            Header { hdr_len: 60_000, ..TCP },
            Header { gso_type: 2, ..TCP },
        ] {
            assert_eq!(check(all, bad, 60_000), Err(Bad::Segmentation), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_passes_stays_inside_the_frame(
            bytes: [u8; Header::SIZE], length in 0..70_000_usize, csum: bool, tso: bool,
        ) {
            let mut bits = vec![];
            if csum { bits.push(CSUM); }
            if tso { bits.push(HOST_TSO4); }
            if let Ok(header) = rules(&bits).check(&bytes, length) {
                let end = usize::from(header.csum_start) + usize::from(header.csum_offset);
                prop_assert!(header.flags == 0 || (csum && end + 2 <= length));
                prop_assert!(header.gso_type == 0 || (tso && header.gso_size > 0));
                prop_assert!(header.flags == 0 || header.csum_start >= 14);
            }
        }
    }
}
