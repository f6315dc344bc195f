//! What a sector can hold.

use std::fmt;
use std::rc::Rc;

/// Bytes in a sector.
pub(crate) const SECTOR: usize = 512;

/// What a sector holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Zeroes.
    Zeroes,
    /// What the write with this number wrote there.
    Written(u32),
    /// Exactly these bytes: a mixture that was found there.
    Found(Rc<[u8; SECTOR]>),
}

impl Content {
    /// The bytes that stand in `sector` if it holds this.
    pub(crate) fn bytes(&self, sector: u64) -> [u8; SECTOR] {
        match self {
            Content::Zeroes => [0; SECTOR],
            Content::Written(write) => pattern(*write, sector),
            Content::Found(bytes) => **bytes,
        }
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Content::Zeroes => write!(f, "zeroes"),
            Content::Written(write) => write!(f, "#{write}"),
            Content::Found(_) => write!(f, "a mixture"),
        }
    }
}

/// Each 8 bytes name the write, the sector and their place in it, so that bytes which end up
/// anywhere else are told apart.
fn pattern(write: u32, sector: u64) -> [u8; SECTOR] {
    let mut bytes = [0; SECTOR];
    for (place, word) in (0_u64..).zip(bytes.as_chunks_mut().0) {
        *word = (u64::from(write) << 32 | (sector & 0xff_ffff) << 8 | place).to_le_bytes();
    }
    bytes
}

/// What the write with this number writes into so many sectors.
pub(crate) fn data(write: u32, sector: u64, count: u64) -> Vec<u8> {
    (sector..sector + count).flat_map(|sector| pattern(write, sector)).collect()
}

/// Found bytes in words: whose they are, as far as they say so themselves.
pub(crate) fn describe(bytes: &[u8]) -> String {
    let words = bytes.as_chunks().0;
    let mut runs: Vec<(String, usize)> = Vec::new();
    for word in words {
        let word = u64::from_le_bytes(*word);
        let name = match word {
            0 => "zeroes".to_owned(),
            u64::MAX => "never written".to_owned(),
            word => format!("#{} of sector {}", word >> 32, word >> 8 & 0xff_ffff),
        };
        match runs.last_mut() {
            Some((last, count)) if *last == name => *count += 1,
            _ => runs.push((name, 1)),
        }
    }
    let runs: Vec<String> =
        runs.into_iter().take(4).map(|(name, count)| format!("{} × {name}", 8 * count)).collect();
    runs.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_name_their_write_and_their_place() {
        let bytes = data(7, 3, 2);
        assert_eq!(bytes.len(), 2 * SECTOR);
        assert_eq!(bytes[..SECTOR], Content::Written(7).bytes(3));
        assert_eq!(describe(&bytes), "512 × #7 of sector 3, 512 × #7 of sector 4");
        assert_ne!(Content::Written(7).bytes(3)[8..16], bytes[..8]);
    }
}
