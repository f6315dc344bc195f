//! The blocks of a pcapng file that a capture needs (draft-ietf-opsawg-pcapng).
//!
//! Little-endian throughout, which the first block says of itself. Each block begins with its type and
//! length, and ends with its length; everything in it is padded to 4 bytes.

use std::time::Duration;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const ENHANCED_PACKET: u32 = 6;

const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
const LINKTYPE_ETHERNET: u16 = 1;

const END_OF_OPTIONS: u16 = 0;
const IF_NAME: u16 = 2;
const IF_TSRESOL: u16 = 9;
const EPB_FLAGS: u16 = 2;
/// Time stamps count nanoseconds: 10 to the minus ninth of a second.
const NANOSECONDS: u8 = 9;

/// Which way a frame went, as seen from the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Direction {
    /// To the guest.
    Inbound = 1,
    /// From the guest.
    Outbound = 2,
}

/// What a file begins with: one section, one interface.
pub fn head(interface: &str, snap: u32) -> Vec<u8> {
    let mut section = BYTE_ORDER_MAGIC.to_le_bytes().to_vec();
    section.extend([1, 0, 0, 0]); // version 1.0
    section.extend(u64::MAX.to_le_bytes()); // a section of unknown length
    let mut description = LINKTYPE_ETHERNET.to_le_bytes().to_vec();
    description.extend([0, 0]);
    description.extend(snap.to_le_bytes());
    option(&mut description, IF_NAME, interface.as_bytes());
    option(&mut description, IF_TSRESOL, &[NANOSECONDS]);
    option(&mut description, END_OF_OPTIONS, &[]);
    [block(SECTION_HEADER, &section), block(INTERFACE_DESCRIPTION, &description)].concat()
}

/// A frame of `length` bytes, of which `bytes` were kept, at a time since 1970.
pub fn packet(direction: Direction, time: Duration, bytes: &[u8], length: usize) -> Vec<u8> {
    let nanos = time.as_nanos();
    let half = |shift: u32| u32::try_from(nanos >> shift & u128::from(u32::MAX)).unwrap_or(0);
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let fields = [0, half(32), half(0), count(bytes.len()), count(length)];
    let mut body = Vec::with_capacity(48 + bytes.len());
    fields.iter().for_each(|field| body.extend(field.to_le_bytes()));
    body.extend(bytes);
    pad(&mut body);
    option(&mut body, EPB_FLAGS, &(direction as u32).to_le_bytes());
    option(&mut body, END_OF_OPTIONS, &[]);
    block(ENHANCED_PACKET, &body)
}

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(12 + body.len()).unwrap_or(u32::MAX).to_le_bytes();
    [&kind.to_le_bytes()[..], &length, body, &length].concat()
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let most = usize::from(u16::MAX);
    let value = value.get(..most).unwrap_or(value);
    body.extend(code.to_le_bytes());
    body.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_le_bytes());
    body.extend(value);
    pad(body);
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

#[cfg(test)]
#[path = "pcapng_test.rs"]
mod tests;
