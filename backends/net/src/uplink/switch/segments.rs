//! Cutting a long TCP segment for a receiver that takes only such as fit its MTU (virtio 1.4, 5.1.6.2.1
//! says what the sender has left to be done).

use virtio_spec::net::{GsoType, Header};

use super::checksum::{finish, sum};

/// The most segments of one frame: a sender that asks for more of them wants to keep others busy.
const SEGMENTS_MAX: usize = 256;
/// The most bytes of headers before a segment's payload, for the same reason: each segment has them. Two
/// VLAN tags, IPv6 with a few extension headers, and TCP with all its options are far below.
const HEAD_MAX: usize = 512;

const TCP: u8 = 6;
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// The network layer's header.
#[derive(Clone, Copy)]
enum Network {
    V4 { at: usize },
    V6 { at: usize },
}

/// Cuts a frame into frames whose checksums are complete. None: it is not TCP as its header says, or
/// there would be too many or too much of them.
pub(super) fn cut(header: &Header, frame: &[u8]) -> Option<Vec<Vec<u8>>> {
    let tcp = usize::from(header.csum_start);
    let network = network(header, frame, tcp)?;
    let offset = usize::from(frame.get(tcp + 12)? >> 4) * 4;
    if offset < 20 {
        return None;
    }
    let (head, payload) = frame.split_at_checked(tcp + offset)?;
    let size = usize::from(header.gso_size);
    if size == 0 || payload.is_empty() || head.len() > HEAD_MAX {
        return None;
    }
    if payload.len().div_ceil(size) > SEGMENTS_MAX {
        return None;
    }
    let last = (payload.len() - 1) / size;
    let pieces = payload.chunks(size).enumerate();
    pieces
        .map(|(number, piece)| {
            let mut segment = [head, piece].concat();
            let sequence =
                read(&segment, tcp + 4)?.wrapping_add(u32::try_from(number * size).ok()?);
            put(&mut segment, tcp + 4, &sequence.to_be_bytes())?;
            let flags = segment.get_mut(tcp + 13)?;
            *flags &= if number < last { !(FIN | PSH) } else { !0 };
            *flags &= if number > 0 { !CWR } else { !0 };
            finish_network(&mut segment, network, u16::try_from(number).ok()?)?;
            finish_tcp(&mut segment, network, tcp)?;
            Some(segment)
        })
        .collect()
}

/// Where the network layer begins: behind at most two VLAN tags.
fn network(header: &Header, frame: &[u8], tcp: usize) -> Option<Network> {
    let mut at = 14;
    while matches!(frame.get(at - 2..at)?, [0x81, 0] | [0x88, 0xa8]) && at < 22 {
        at += 4;
    }
    let kind = frame.get(at - 2..at)?;
    match GsoType::from_u8(header.gso_type)? {
        GsoType::TcpV4 if kind == [8, 0] && frame.get(at + 9) == Some(&TCP) => {
            let length = usize::from(frame.get(at)? & 0xf) * 4;
            (length >= 20 && at + length == tcp).then_some(Network::V4 { at })
        }
        GsoType::TcpV6 if kind == [0x86, 0xdd] && at + 40 <= tcp => Some(Network::V6 { at }),
        _ => None,
    }
}

/// Lengths, numbers and checksums of the network layer.
fn finish_network(segment: &mut [u8], network: Network, number: u16) -> Option<()> {
    let end = segment.len();
    match network {
        Network::V4 { at } => {
            put(segment, at + 2, &u16::try_from(end - at).ok()?.to_be_bytes())?;
            let [high, low] = *segment.get(at + 4..)?.first_chunk()?;
            let id = u16::from_be_bytes([high, low]).wrapping_add(number);
            put(segment, at + 4, &id.to_be_bytes())?;
            put(segment, at + 10, &[0, 0])?;
            let length = usize::from(segment.get(at)? & 0xf) * 4;
            let checksum = finish(sum(segment.get(at..at + length)?));
            put(segment, at + 10, &checksum.to_be_bytes())
        }
        Network::V6 { at } => {
            let length = u16::try_from(end.checked_sub(at + 40)?).ok()?;
            put(segment, at + 4, &length.to_be_bytes())
        }
    }
}

fn finish_tcp(segment: &mut [u8], network: Network, tcp: usize) -> Option<()> {
    put(segment, tcp + 16, &[0, 0])?;
    let addresses = match network {
        Network::V4 { at } => segment.get(at + 12..at + 20)?,
        Network::V6 { at } => segment.get(at + 8..at + 40)?,
    };
    let bytes = segment.get(tcp..)?;
    let pseudo = sum(addresses) + u64::from(TCP) + bytes.len() as u64;
    let checksum = finish(pseudo + sum(bytes));
    put(segment, tcp + 16, &checksum.to_be_bytes())
}

fn read(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, value: &[u8; N]) -> Option<()> {
    *bytes.get_mut(at..)?.first_chunk_mut()? = *value;
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// A frame with two tags at most, IPv4 or IPv6, and TCP with options; and where TCP begins.
    fn frame(tags: usize, v6: bool, payload: &[u8]) -> (Vec<u8>, Header) {
        let mut frame = vec![2; 12];
        (0..tags).for_each(|_| frame.extend([0x81, 0, 0, 7]));
        if v6 {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, TCP, 64]);
            frame.extend(1..=32);
        } else {
            frame.extend([8, 0, 0x45, 0, 0, 0, 0xff, 0xff, 0x40, 0, 64, TCP, 0, 0]);
            frame.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        }
        let tcp = frame.len();
        frame.extend([
            0, 80, 1, 0, 0xff, 0xff, 0xff, 0xf0, 0, 0, 0, 1, 0x60, 0xff, 0, 9, 0, 0, 0, 0,
        ]);
        frame.extend([1, 1, 1, 1]);
        frame.extend(payload);
        let gso_type = if v6 { GsoType::TcpV6 } else { GsoType::TcpV4 } as u8;
        let csum_start = u16::try_from(tcp).unwrap();
        (frame, Header { flags: 1, gso_type, csum_start, csum_offset: 16, ..Header::default() })
    }

    proptest! {
        #[test]
        fn segments_are_what_was_sent_and_right_in_themselves(
            tags in 0..3_usize, v6: bool, payload in vec(any::<u8>(), 1..5000), size in 30..3000_u16,
        ) {
            let (frame, header) = frame(tags, v6, &payload);
            let header = Header { gso_size: size, ..header };
            let segments = cut(&header, &frame).unwrap();
            let (tcp, ip) = (usize::from(header.csum_start), 14 + 4 * tags);
            let mut found: Vec<u8> = Vec::new();
            for (n, segment) in segments.iter().enumerate() {
                let sequence = 0xffff_fff0_u32.wrapping_add(u32::try_from(found.len()).unwrap());
                prop_assert_eq!(read(segment, tcp + 4), Some(sequence));
                found.extend(&segment[tcp + 24..]);
                prop_assert!(segment.len() - tcp - 24 <= usize::from(size));
                let flags = segment[tcp + 13];
                prop_assert_eq!(flags & CWR != 0, n == 0);
                prop_assert_eq!(flags & FIN != 0, n + 1 == segments.len());
                let length = segment.len() - tcp;
                let addresses = if v6 { &segment[ip + 8..ip + 40] } else { &segment[ip + 12..ip + 20] };
                let all = sum(addresses) + 6 + length as u64 + sum(&segment[tcp..]);
                prop_assert_eq!(finish(all), 0);
                if v6 {
                    prop_assert_eq!(segment[ip + 4..ip + 6].to_vec(), u16::try_from(length).unwrap().to_be_bytes());
                } else {
                    prop_assert_eq!(finish(sum(&segment[ip..tcp])), 0);
                    let total = u16::try_from(segment.len() - ip).unwrap().to_be_bytes();
                    prop_assert_eq!(segment[ip + 2..ip + 4].to_vec(), total);
                }
            }
            prop_assert_eq!(found, payload);
        }

        #[test]
        fn no_frame_is_too_odd(
            bytes in vec(any::<u8>(), 0..200), gso_type: u8, gso_size: u16, csum_start in 0..300_u16,
        ) {
            let header = Header { gso_type, gso_size, csum_start, ..Header::default() };
            let _ = cut(&header, &bytes);
        }
    }

    /// One frame would be 256 segments of 64 KiB each.
    #[test]
    fn headers_that_would_be_most_of_each_segment_are_none() {
        let (frame, header) = frame(0, true, &[7; 200]);
        let header = Header { gso_size: 1, ..header };
        let tcp = usize::from(header.csum_start);
        let stretched = |by: usize| {
            let frame = [&frame[..tcp], &vec![0; by][..], &frame[tcp..]].concat();
            cut(&Header { csum_start: u16::try_from(tcp + by).unwrap(), ..header }, &frame)
        };
        let total = |cut: Vec<Vec<u8>>| cut.iter().map(Vec::len).sum::<usize>();
        assert!(stretched(60_000).is_none() && stretched(HEAD_MAX).is_none());
        assert!(total(stretched(HEAD_MAX - tcp - 24).unwrap()) < 200 * (HEAD_MAX + 2));
    }

    #[test]
    fn too_many_segments_are_none() {
        let (frame, header) = frame(0, false, &[0; 5000]);
        assert_eq!(cut(&Header { gso_size: 1, ..header }, &frame), None);
        assert_eq!(cut(&Header { gso_size: 0, ..header }, &frame), None);
    }
}
