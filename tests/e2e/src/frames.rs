//! Frames that can be told from each other, and files of them (pcap, as tcpdump writes it).

use std::fs;
use std::path::Path;

use crate::error::{Error, Result};

/// Begins a file with times in microseconds, in this machine's order of bytes.
const MAGIC: u32 = 0xa1b2_c3d4;
/// Bytes of a file's head, and before each frame.
const HEAD: usize = 24;
const RECORD: usize = 16;
/// The kind of link: Ethernet.
const ETHERNET: u32 = 1;
/// A type for experiments (IEEE 802, local).
const TYPE: [u8; 2] = [0x88, 0xb5];
/// Bytes of a frame's head, with its number.
const LEAST: usize = 14 + 4;

/// A frame of so many bytes with a number in it; all the rest follows from the number.
#[must_use]
pub fn numbered(from: [u8; 6], to: [u8; 6], number: u32, length: usize) -> Vec<u8> {
    let mut frame = [&to[..], &from, &TYPE, &number.to_be_bytes()].concat();
    let mut state = u64::from(number) << 32 | u64::from(number) | 1;
    while frame.len() < length.max(LEAST) {
        // Xorshift: any bytes will do that differ between frames and places.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        frame.extend_from_slice(&state.to_be_bytes());
    }
    frame.truncate(length.max(LEAST));
    frame
}

/// Writes frames to a file.
///
/// # Errors
/// When it cannot be written.
pub fn write_pcap(path: &Path, frames: &[Vec<u8>]) -> Result<()> {
    let mut bytes = Vec::new();
    let versions = u32::from(2_u16) | 4 << 16;
    for word in [MAGIC, versions, 0, 0, u32::from(u16::MAX), ETHERNET] {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    for frame in frames {
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        for word in [0, 0, length, length] {
            bytes.extend_from_slice(&word.to_ne_bytes());
        }
        bytes.extend_from_slice(frame);
    }
    fs::write(path, bytes).map_err(Error::file("write", path))
}

/// The frames of a file.
///
/// # Errors
/// When it cannot be read, or ends within a frame.
pub fn read_pcap(path: &Path) -> Result<Vec<Vec<u8>>> {
    let bytes = fs::read(path).map_err(Error::file("read", path))?;
    let (mut frames, mut rest) = (Vec::new(), bytes.get(HEAD..).unwrap_or_default());
    while !rest.is_empty() {
        let frame = frame_of(rest).ok_or_else(|| Error::Packages {
            context: format!("reading {}", path.display()),
            detail: "the file ends within a frame".into(),
        })?;
        frames.push(frame.to_vec());
        rest = rest.get(RECORD + frame.len()..).unwrap_or_default();
    }
    Ok(frames)
}

fn frame_of(record: &[u8]) -> Option<&[u8]> {
    let length = record.get(8..12)?.try_into().map(u32::from_ne_bytes).ok()?;
    record.get(RECORD..)?.get(..usize::try_from(length).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let frames: Vec<_> = (0..9).map(|n| numbered([2; 6], [4; 6], n, 60 + n as usize)).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        write_pcap(file.path(), &frames).unwrap();
        assert_eq!(read_pcap(file.path()).unwrap(), frames);
        let bytes = fs::read(file.path()).unwrap();
        fs::write(file.path(), &bytes[..bytes.len() - 1]).unwrap();
        assert!(read_pcap(file.path()).is_err());
    }

    #[test]
    fn frames_differ() {
        assert_ne!(numbered([2; 6], [4; 6], 1, 64)[18..], numbered([2; 6], [4; 6], 2, 64)[18..]);
        assert_eq!(numbered([2; 6], [4; 6], 1, 61).len(), 61);
    }
}
