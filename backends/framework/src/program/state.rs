//! What a driver sets once and never again, as a versioned and bounded blob.
//!
//! A device encodes such settings (MAC filters, offloads, port states) as bytes of its own. This module
//! wraps them so that whoever reads them later, after a restart or on the other side of a migration
//! (vhost-user, "Migrating back-end state"), can tell that they are whole, of the right device, and of a
//! version it knows. All numbers are little-endian:
//!
//! | offset | size | |
//! |---|---|---|
//! | 0 | 8 | magic, `OUTRIGST` |
//! | 8 | 2 | version of this header, 1 |
//! | 10 | 2 | version of the device's bytes |
//! | 12 | 4 | virtio device type |
//! | 16 | 8 | sequence number; 0 in a migration |
//! | 24 | 4 | length of the device's bytes |
//! | 28 | 4 | CRC-32 of all before it and of the device's bytes |
//! | 32 | | the device's bytes |

/// The most bytes that a device may save.
pub const PAYLOAD_MAX: usize = 64 * 1024;
/// The size of the header.
pub const HEADER_SIZE: usize = 32;

const MAGIC: [u8; 8] = *b"OUTRIGST";
const HEADER_VERSION: u16 = 1;

/// A device's saved state with all that is needed to judge it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// The virtio device type, such as 2 for block.
    pub device: u32,
    /// The version of the device's encoding.
    pub version: u16,
    /// Which of two blobs is newer; 0 where there is only one.
    pub sequence: u64,
    /// What the device saved.
    pub payload: Vec<u8>,
}

/// Why bytes are not a [`Blob`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// The device saved too much.
    #[error("a device's state has {0} bytes, more than {PAYLOAD_MAX}")]
    TooLong(usize),
    /// Fewer bytes than the header, or than the header announces.
    #[error("the saved state is cut short")]
    Truncated,
    /// More bytes than the header announces.
    #[error("the saved state has {0} bytes too many")]
    Trailing(usize),
    /// It does not begin as saved state does.
    #[error("these bytes are not saved state")]
    Magic,
    /// The header is of a version that this program does not know.
    #[error(
        "the saved state has format {0}, but this program knows {HEADER_VERSION}: use a newer one"
    )]
    Version(u16),
    /// The checksum is wrong.
    #[error("the saved state is damaged: its checksum is wrong")]
    Checksum,
    /// It is another device's.
    #[error("the saved state is of virtio device type {found}, and this is one of type {expected}")]
    Device {
        /// The type in the blob.
        found: u32,
        /// The type of the device that reads it.
        expected: u32,
    },
}

impl Blob {
    /// The blob as bytes.
    ///
    /// # Errors
    /// [`BlobError::TooLong`] beyond [`PAYLOAD_MAX`].
    pub fn encode(&self) -> Result<Vec<u8>, BlobError> {
        let too_long = || BlobError::TooLong(self.payload.len());
        let length = u32::try_from(self.payload.len()).map_err(|_| too_long())?;
        if self.payload.len() > PAYLOAD_MAX {
            return Err(too_long());
        }
        let mut bytes = Vec::with_capacity(HEADER_SIZE + self.payload.len());
        bytes.extend(MAGIC);
        bytes.extend(HEADER_VERSION.to_le_bytes());
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.device.to_le_bytes());
        bytes.extend(self.sequence.to_le_bytes());
        bytes.extend(length.to_le_bytes());
        let checksum = crc32(&[&bytes, &self.payload]);
        bytes.extend(checksum.to_le_bytes());
        bytes.extend(&self.payload);
        Ok(bytes)
    }

    /// Reads a blob that fills `bytes`, as in a migration, for the device type `expected`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(bytes: &[u8], expected: u32) -> Result<Self, BlobError> {
        let (blob, rest) = Self::decode_prefix(bytes)?;
        if !rest.is_empty() {
            return Err(BlobError::Trailing(rest.len()));
        }
        blob.of_device(expected)
    }

    /// Reads the blob that `bytes` begin with; returns what follows it too.
    pub(super) fn decode_prefix(bytes: &[u8]) -> Result<(Self, &[u8]), BlobError> {
        let mut fields = Fields(bytes);
        if fields.take::<8>()? != MAGIC {
            return Err(BlobError::Magic);
        }
        let header_version = u16::from_le_bytes(fields.take()?);
        if header_version != HEADER_VERSION {
            return Err(BlobError::Version(header_version));
        }
        let version = u16::from_le_bytes(fields.take()?);
        let device = u32::from_le_bytes(fields.take()?);
        let sequence = u64::from_le_bytes(fields.take()?);
        let length = u32::from_le_bytes(fields.take()?);
        let checksum = u32::from_le_bytes(fields.take()?);
        let length = usize::try_from(length).map_err(|_| BlobError::Truncated)?;
        if length > PAYLOAD_MAX {
            return Err(BlobError::TooLong(length));
        }
        let (payload, rest) = fields.0.split_at_checked(length).ok_or(BlobError::Truncated)?;
        let summed = bytes.get(..HEADER_SIZE - size_of::<u32>()).ok_or(BlobError::Truncated)?;
        if crc32(&[summed, payload]) != checksum {
            return Err(BlobError::Checksum);
        }
        Ok((Self { device, version, sequence, payload: payload.to_vec() }, rest))
    }

    /// The blob, if it is of that device type.
    pub(super) fn of_device(self, expected: u32) -> Result<Self, BlobError> {
        if self.device == expected {
            Ok(self)
        } else {
            Err(BlobError::Device { found: self.device, expected })
        }
    }
}

/// The bytes that were not read yet.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], BlobError> {
        let (field, rest) = self.0.split_first_chunk().ok_or(BlobError::Truncated)?;
        self.0 = rest;
        Ok(*field)
    }
}

/// CRC-32 as in Ethernet and zlib (reflected, polynomial 0xEDB88320), over all parts in turn. Bit by
/// bit: 64 KiB take under a millisecond, and state is saved rarely.
fn crc32(parts: &[&[u8]]) -> u32 {
    let bytes = parts.iter().copied().flatten();
    !bytes.fold(u32::MAX, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            (sum >> 1) ^ if sum & 1 == 1 { 0xEDB8_8320 } else { 0 }
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn blob(payload: &[u8]) -> Blob {
        Blob { device: 1, version: 3, sequence: 9, payload: payload.to_vec() }
    }

    #[test]
    fn the_checksum_is_the_usual_one() {
        assert_eq!(crc32(&[b"123456789"]), 0xCBF4_3926);
        assert_eq!(crc32(&[b"1234", b"", b"56789"]), 0xCBF4_3926);
    }

    #[test]
    fn the_layout_is_as_documented() {
        let bytes = blob(b"xyz").encode().unwrap();
        assert_eq!(&bytes[..8], b"OUTRIGST");
        assert_eq!(bytes[8..28], [1, 0, 3, 0, 1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0]);
        assert_eq!(&bytes[HEADER_SIZE..], b"xyz");
    }

    #[test]
    fn bounds_are_kept() {
        assert!(blob(&vec![7; PAYLOAD_MAX]).encode().is_ok());
        let long = blob(&vec![7; PAYLOAD_MAX + 1]);
        assert_eq!(long.encode(), Err(BlobError::TooLong(PAYLOAD_MAX + 1)));
        let mut bytes = blob(b"").encode().unwrap();
        bytes[24..28].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(Blob::decode(&bytes, 1), Err(BlobError::TooLong(_))));
    }

    #[test]
    fn each_mistake_has_its_error() {
        let good = blob(b"xyz").encode().unwrap();
        assert_eq!(Blob::decode(&good, 2), Err(BlobError::Device { found: 1, expected: 2 }));
        assert_eq!(Blob::decode(b"", 1), Err(BlobError::Truncated));
        assert_eq!(Blob::decode(&[0; 64], 1), Err(BlobError::Magic));
        assert_eq!(Blob::decode(&[&good[..], b"!"].concat(), 1), Err(BlobError::Trailing(1)));
        let mut newer = good.clone();
        newer[8] = 2;
        assert_eq!(Blob::decode(&newer, 1), Err(BlobError::Version(2)));
        let mut damaged = good;
        damaged[HEADER_SIZE] ^= 1;
        assert_eq!(Blob::decode(&damaged, 1), Err(BlobError::Checksum));
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_the_same(
            device: u32, version: u16, sequence: u64, payload in vec(any::<u8>(), 0..300)
        ) {
            let blob = Blob { device, version, sequence, payload };
            prop_assert_eq!(Blob::decode(&blob.encode().unwrap(), device), Ok(blob));
        }

        #[test]
        fn no_prefix_and_no_flipped_bit_is_accepted(
            payload in vec(any::<u8>(), 0..40), cut: prop::sample::Index, bit in 0..8_u32
        ) {
            let good = blob(&payload).encode().unwrap();
            let at = cut.index(good.len());
            prop_assert!(Blob::decode(&good[..at], 1).is_err());
            let mut flipped = good;
            flipped[at] ^= 1 << bit;
            prop_assert!(Blob::decode(&flipped, 1).is_err());
        }

        #[test]
        fn any_bytes_are_judged_without_a_panic(bytes in vec(any::<u8>(), 0..100)) {
            let _ = Blob::decode(&bytes, 1);
            let _ = Blob::decode(&[&MAGIC[..], &[1, 0], &bytes].concat(), 1);
        }
    }
}
