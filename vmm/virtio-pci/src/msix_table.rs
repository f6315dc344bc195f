//! The MSI-X table: a message and a mask for each vector (PCI 3.0, 6.8.2).

use hypervisor::Msi;

/// Bytes of an entry.
const ENTRY: usize = 16;
/// Vector control: the vector is masked. All that a guest can set in that word.
const MASKED: u8 = 1;

/// The table, as the guest wrote it.
#[derive(Debug, Clone)]
pub(crate) struct MsixTable {
    entries: Vec<[u8; ENTRY]>,
}

impl MsixTable {
    /// A table after reset: no messages, all vectors masked.
    pub(crate) fn new(vectors: u16) -> Self {
        let mut entry = [0; ENTRY];
        entry[12] = MASKED;
        Self { entries: vec![entry; vectors.into()] }
    }

    /// How many vectors there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Reads any number of bytes; past the table there are zeros.
    pub(crate) fn read(&self, offset: usize, into: &mut [u8]) {
        let bytes = self.entries.iter().flatten().skip(offset);
        into.fill(0);
        for (to, &from) in into.iter_mut().zip(bytes) {
            *to = from;
        }
    }

    /// Writes. Software is to use whole aligned words of 4 or 8 bytes; what other widths do is
    /// undefined, and here they write the bytes that they name.
    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let places = self.entries.iter_mut().flatten().enumerate().skip(offset);
        for ((at, to), &from) in places.zip(bytes) {
            *to = from & writable(at % ENTRY);
        }
    }

    /// The message of a vector.
    pub(crate) fn message(&self, vector: u16) -> Option<Msi> {
        let &[a, b, c, d, e, f, g, h, i, j, k, l, ..] = self.entries.get(usize::from(vector))?;
        Some(Msi {
            address: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            data: u32::from_le_bytes([i, j, k, l]),
        })
    }

    /// Whether a vector is masked; one that does not exist is.
    pub(crate) fn is_masked(&self, vector: u16) -> bool {
        self.entries.get(usize::from(vector)).is_none_or(|entry| entry[12] & MASKED != 0)
    }
}

/// The bits that can be written in this byte of an entry: addresses are multiples of 4, and of the
/// control word only the mask exists.
fn writable(byte: usize) -> u8 {
    match byte {
        0 => 0xfc,
        1..12 => 0xff,
        12 => MASKED,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn vectors_start_masked_and_without_a_message() {
        let table = MsixTable::new(3);
        for vector in 0..3 {
            assert!(table.is_masked(vector));
            assert_eq!(table.message(vector), Some(Msi::default()));
        }
        assert!(table.is_masked(3));
        assert_eq!(table.message(3), None);
    }

    #[test]
    fn four_and_eight_byte_writes_say_the_same() {
        let mut by_four = MsixTable::new(2);
        by_four.write(16, &0xfee0_1000_u32.to_le_bytes());
        by_four.write(20, &[0; 4]);
        by_four.write(24, &0x4041_u32.to_le_bytes());
        by_four.write(28, &[0; 4]);
        let mut by_eight = MsixTable::new(2);
        by_eight.write(16, &0xfee0_1000_u64.to_le_bytes());
        by_eight.write(24, &0x4041_u64.to_le_bytes());
        let message = Some(Msi { address: 0xfee0_1000, data: 0x4041 });
        assert_eq!(by_four.message(1), message);
        assert_eq!(by_eight.message(1), message);
        assert!(!by_four.is_masked(1) && !by_eight.is_masked(1));
        assert!(by_four.is_masked(0));
    }

    proptest! {
        #[test]
        fn bytes_are_read_back_as_far_as_they_can_be_written(
            offset in 0_usize..80,
            bytes in prop::collection::vec(any::<u8>(), 0..24),
        ) {
            let mut table = MsixTable::new(4);
            table.write(offset, &bytes);
            let mut read = vec![0xaa; bytes.len()];
            table.read(offset, &mut read);
            for (n, (&read, &written)) in read.iter().zip(&bytes).enumerate() {
                let at = offset + n;
                prop_assert_eq!(read, if at < 64 { written & writable(at % 16) } else { 0 });
            }
        }
    }
}
