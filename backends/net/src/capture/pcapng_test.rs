use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// Cuts a file into blocks: types and bodies.
fn blocks(mut file: &[u8]) -> Vec<(u32, &[u8])> {
    let mut blocks = Vec::new();
    while !file.is_empty() {
        let length = number(file, 4) as usize;
        assert_eq!(length % 4, 0);
        assert_eq!(number(file, length - 4) as usize, length);
        blocks.push((number(file, 0), &file[8..length - 4]));
        file = &file[length..];
    }
    blocks
}

#[test]
fn a_file_begins_with_a_section_and_an_interface() {
    let head = head("net", 1000);
    let blocks = blocks(&head);
    let [(SECTION_HEADER, section), (INTERFACE_DESCRIPTION, interface)] = blocks[..] else {
        panic!("{blocks:?}");
    };
    assert_eq!((number(section, 0), number(section, 4)), (BYTE_ORDER_MAGIC, 1));
    assert_eq!((number(interface, 0), number(interface, 4)), (1, 1000));
    assert_eq!(interface[8..16], [2, 0, 3, 0, b'n', b'e', b't', 0]);
    assert_eq!(interface[16..], [9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
}

proptest! {
    #[test]
    fn packets_are_found_again(
        bytes in vec(any::<u8>(), 0..200), more in 0..1000_usize, seconds in 0..20_000_000_000_u64,
        inbound: bool,
    ) {
        let direction = if inbound { Direction::Inbound } else { Direction::Outbound };
        let time = Duration::new(seconds, 123_456_789);
        let file = packet(direction, time, &bytes, bytes.len() + more);
        let found = blocks(&file);
        prop_assert_eq!(found.len(), 1);
        let (kind, body) = found[0];
        prop_assert_eq!((kind, number(body, 0)), (ENHANCED_PACKET, 0));
        let nanos = u64::from(number(body, 4)) << 32 | u64::from(number(body, 8));
        prop_assert_eq!(nanos, u64::try_from(time.as_nanos() & u128::from(u64::MAX)).unwrap());
        prop_assert_eq!(number(body, 12) as usize, bytes.len());
        prop_assert_eq!(number(body, 16) as usize, bytes.len() + more);
        prop_assert_eq!(&body[20..20 + bytes.len()], &bytes[..]);
        let flags = &body[20 + bytes.len().next_multiple_of(4)..];
        prop_assert_eq!((flags[0], number(flags, 4)), (2, direction as u32));
    }
}
