//! What a sector holds: its own address, the generation of the write, and a checksum over both and
//! a filling that depends on them.

/// Bytes of a sector (virtio 1.4, 5.2.6: the unit of positions).
pub const SECTOR: usize = 512;
/// The checksum takes the last word.
const BODY: usize = SECTOR - 8;

/// What a sector turned out to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing but zeroes.
    Blank,
    /// All of one write.
    Stamped {
        /// The sector for which it was written.
        address: u64,
        /// The write.
        generation: u64,
    },
    /// Parts that do not belong together.
    Torn,
}

/// Fills a sector.
pub fn stamp(sector: &mut [u8], address: u64, generation: u64) {
    let (body, place) = sector.split_at_mut(BODY.min(sector.len()));
    let mut filling = address.rotate_left(32) ^ generation;
    let mut sum = 0;
    for (number, word) in body.chunks_exact_mut(8).enumerate() {
        let value = match number {
            0 => address,
            1 => generation,
            _ => {
                filling = mixed(filling);
                filling
            }
        };
        word.copy_from_slice(&value.to_le_bytes());
        sum = mixed(sum ^ value);
    }
    place.copy_from_slice(&sum.to_le_bytes());
}

/// Tells what a sector holds.
#[must_use]
pub fn inspect(sector: &[u8]) -> Found {
    let mut words = sector.chunks_exact(8).map(word);
    let (mut sum, mut any, mut head) = (0, 0, [0; 2]);
    for (number, value) in words.by_ref().take(BODY / 8).enumerate() {
        if let Some(place) = head.get_mut(number) {
            *place = value;
        }
        sum = mixed(sum ^ value);
        any |= value;
    }
    let checksum = words.next().unwrap_or_default();
    let [address, generation] = head;
    match (any | checksum, checksum == sum) {
        (0, _) => Found::Blank,
        (_, true) => Found::Stamped { address, generation },
        (_, false) => Found::Torn,
    }
}

fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// A step of a multiply-and-shift generator: near words come out far apart.
fn mixed(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value ^ value >> 29
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_back() {
        let mut sector = [0; SECTOR];
        assert_eq!(inspect(&sector), Found::Blank);
        stamp(&mut sector, 77, 5);
        assert_eq!(inspect(&sector), Found::Stamped { address: 77, generation: 5 });
    }

    #[test]
    fn halves_of_two_writes_are_torn_wherever_they_meet() {
        let (mut old, mut new) = ([0; SECTOR], [0; SECTOR]);
        stamp(&mut old, 3, 1);
        stamp(&mut new, 3, 2);
        // Up to the eighth byte both are the same, and the last bytes may be by chance.
        for at in 16..SECTOR - 8 {
            let mixture = [&new[..at], &old[at..]].concat();
            assert_eq!(inspect(&mixture), Found::Torn, "met at {at}");
        }
    }
}
