//! Pages go in and out: what is in the list goes back to the host, and nothing else.

use std::collections::BTreeSet;

use framework::device::{ConfigWriter, Device};
use proptest::prelude::*;
use virtio_spec::balloon::ACTUAL_OFFSET;

use crate::guest::{Guest, PAGE, REGIONS, pages};

#[test]
fn the_host_has_back_what_went_in() {
    let mut guest = Guest::usual();
    guest.fill();
    let before = guest.resident();
    let list = pages(REGIONS[0].0 + 64 * PAGE, 256);
    guest.inflate(&list);
    assert_eq!(before - guest.resident(), 256 * PAGE);
    assert_eq!(guest.holes(), list);
    assert_eq!(guest.stat("returned_bytes"), 256 * PAGE);
    // However many pages there are, neighbours are one hole.
    assert_eq!(guest.stat("holes"), 1);
    assert_eq!(guest.stat("inside_bytes"), 256 * PAGE);

    let before = guest.resident();
    guest.deflate(&list);
    assert_eq!((guest.stat("inside_bytes"), guest.stat("pages_deflated")), (0, 256));
    // Deflation writes nothing: the driver does.
    assert_eq!(guest.resident(), before);
}

#[test]
fn a_list_may_be_cut_into_any_pieces() {
    let mut guest = Guest::usual();
    guest.fill();
    let list = pages(REGIONS[0].0, 3);
    let bytes: Vec<u8> = list.iter().flat_map(|page| page.to_le_bytes()).collect();
    let parts: Vec<_> = [0..3, 3..5, 5..12].map(|cut| guest.buffer(&bytes[cut])).into();
    assert!(guest.offer(0, &parts));
    assert_eq!(guest.holes(), list);
}

#[test]
fn a_run_over_two_regions_makes_a_hole_in_each() {
    let mut guest = Guest::usual();
    guest.fill();
    let list = pages(REGIONS[1].0 - 2 * PAGE, 4);
    guest.inflate(&list);
    assert_eq!(guest.holes(), list);
    assert_eq!((guest.stat("holes"), guest.stat("pages_outside")), (2, 0));
}

#[test]
fn the_next_process_knows_what_is_in_the_balloon() {
    let mut guest = Guest::usual();
    guest.fill();
    guest.inflate(&pages(REGIONS[0].0, 100));
    guest.deflate(&pages(REGIONS[0].0, 10));
    let actual = 90_u32.to_le_bytes();
    guest.device.write_config(ACTUAL_OFFSET, &actual, ConfigWriter::Driver).unwrap();
    let saved = guest.device.save();

    let mut next = Guest::usual();
    next.device.load(&saved).unwrap();
    assert_eq!((next.stat("inside_bytes"), next.stat("actual_bytes")), (90 * PAGE, 90 * PAGE));
}

fn is_memory(page: &u32) -> bool {
    let at = u64::from(*page) * PAGE;
    REGIONS.iter().any(|(start, len)| at >= *start && at < start + len)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn nothing_but_what_is_listed_is_given_back(
        lists in proptest::collection::vec(
            proptest::collection::vec((0..4_usize, 0..2000_u32, 1..40_u32), 1..8), 1..6),
    ) {
        let mut guest = Guest::usual();
        guest.fill();
        let mut wanted = BTreeSet::new();
        for list in lists {
            let mut named = Vec::new();
            for (region, start, count) in list {
                // The fourth is where there is no memory.
                let base = REGIONS.get(region).map_or(0x9000_0000, |(at, _)| *at) / PAGE;
                named.extend((0..count).map(|n| base as u32 + start + n));
            }
            let before = guest.resident();
            guest.inflate(&named);
            let inside: BTreeSet<u32> = named.into_iter().filter(is_memory).collect();
            prop_assert_eq!(before - guest.resident(), inside.len() as u64 * PAGE);
            wanted.extend(inside);
            prop_assert_eq!(guest.holes(), wanted.iter().copied().collect::<Vec<_>>());
        }
        prop_assert_eq!(guest.stat("inside_bytes"), wanted.len() as u64 * PAGE);
    }
}
