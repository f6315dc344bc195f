//! Completing a checksum that a guest has left to its receiver (virtio 1.4, 5.1.6.2).

use virtio_spec::net::{Header, HeaderFlags};

/// Whether the checksum is left to the receiver.
pub(super) fn is_left(header: &Header) -> bool {
    HeaderFlags::from_bits_retain(header.flags).contains(HeaderFlags::NEEDS_CSUM)
}

/// Completes the checksum: the sender has put that of the pseudo-header into its place. None: the place
/// is not in the frame.
pub(super) fn complete(header: &Header, frame: &[u8]) -> Option<Vec<u8>> {
    let start = usize::from(header.csum_start);
    let at = start + usize::from(header.csum_offset);
    let sum = ones_complement(frame.get(start..)?);
    let mut frame = frame.to_vec();
    // No checksum at all is what zero means to UDP.
    let sum = if sum == 0 { u16::MAX } else { sum };
    let [high, low] = sum.to_be_bytes();
    *frame.get_mut(at)? = high;
    *frame.get_mut(at + 1)? = low;
    Some(frame)
}

/// The Internet checksum (RFC 1071).
fn ones_complement(bytes: &[u8]) -> u16 {
    finish(sum(bytes))
}

/// The sum of all pairs of bytes: parts of an even length can be summed up apart.
pub(super) fn sum(bytes: &[u8]) -> u64 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let sum: u64 = pairs.iter().map(|pair| u64::from(u16::from_be_bytes(*pair))).sum();
    sum + rest.first().map_or(0, |last| u64::from(*last) << 8)
}

/// The checksum that follows from a sum.
pub(super) fn finish(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A receiver sums up everything, and gets all ones.
        #[test]
        fn a_receiver_finds_it_right(
            mut frame in proptest::collection::vec(any::<u8>(), 40..200), pseudo: u16,
        ) {
            frame[30..32].copy_from_slice(&pseudo.to_be_bytes());
            let header = Header { flags: 1, csum_start: 14, csum_offset: 16, ..Header::default() };
            prop_assert!(is_left(&header));
            let complete = complete(&header, &frame).unwrap();
            // What the pseudo-header adds is what the sender had put there.
            let mut all = complete[14..].to_vec();
            if all.len() % 2 == 1 {
                all.push(0);
            }
            all.extend(pseudo.to_be_bytes());
            // It was summed up in the place of the checksum, so it counts once more.
            prop_assert!([0, u16::MAX].contains(&ones_complement(&all)));
            prop_assert_eq!(complete.len(), frame.len());
        }
    }

    #[test]
    fn a_place_outside_of_the_frame_is_none() {
        let header = Header { flags: 1, csum_start: 50, csum_offset: 16, ..Header::default() };
        assert_eq!(complete(&header, &[0; 60]), None);
        assert_eq!(complete(&header, &[0; 40]), None);
    }
}
