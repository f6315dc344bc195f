//! The same on every kind of ring: split and packed, with and without event indices, chains in the ring and
//! in tables of their own.

use driver::{Part, Placement};
use framework::device::{ConfigWriter, Device};
use framework::worker::Command;
use virtio_spec::balloon::{ACTUAL_OFFSET, Stat, StatTag};
use virtio_spec::features::{EVENT_IDX, IN_ORDER, INDIRECT_DESC, RING_PACKED};

use crate::guest::{Guest, PAGE, REGIONS, USUAL, pages};

const START: u64 = REGIONS[0].0;
const STATISTICS: usize = 2;
const REPORTING: usize = 3;

/// Features of each kind of ring, and how chains lie in it.
const KINDS: &[(&[u32], Placement)] = &[
    (&[], Placement::Direct),
    (&[EVENT_IDX], Placement::Direct),
    (&[EVENT_IDX, IN_ORDER], Placement::Direct),
    (&[INDIRECT_DESC], Placement::Indirect),
    (&[INDIRECT_DESC, EVENT_IDX], Placement::Mixed(1)),
    (&[RING_PACKED], Placement::Direct),
    (&[RING_PACKED, EVENT_IDX], Placement::Direct),
    (&[RING_PACKED, EVENT_IDX, IN_ORDER], Placement::Direct),
    (&[RING_PACKED, INDIRECT_DESC, EVENT_IDX], Placement::Indirect),
];

fn guest((bits, placement): (&[u32], Placement)) -> Guest {
    let guest = Guest::on(&[USUAL, bits].concat(), placement);
    guest.fill();
    guest
}

#[test]
fn pages_go_in_and_out_and_free_ones_are_reported() {
    for kind in KINDS {
        let mut guest = guest(*kind);
        // More rounds than the ring has entries, so that it wraps.
        for round in 0..100_u64 {
            let start = START + round * 8 * PAGE;
            let list = pages(start, 8);
            let bytes: Vec<u8> = list.iter().flat_map(|page| page.to_le_bytes()).collect();
            let parts = [guest.buffer(&bytes[..5]), guest.buffer(&bytes[5..])];
            assert!(guest.offer(0, &parts), "{kind:?}");
            guest.deflate(&list[..4]);
        }
        assert_eq!(guest.stat("inside_bytes"), 400 * PAGE, "{kind:?}");
        assert_eq!(guest.holes(), pages(START, 800), "{kind:?}");

        guest.fill();
        let report = |at| Part::writable(REGIONS[1].0 + at * PAGE, 4 * PAGE as u32);
        assert!(guest.offer(REPORTING, &[report(0), report(16), report(8)]));
        let base = REGIONS[1].0;
        let expected = [0, 8, 16].map(|at| pages(base + at * PAGE, 4)).concat();
        assert_eq!(guest.holes(), expected, "{kind:?}");
    }
}

#[test]
fn the_statistics_buffer_is_held_and_given_back() {
    for kind in KINDS {
        let mut guest = guest(*kind);
        for free in 0..80 {
            let stat = Stat { tag: StatTag::FreeMemory as u16, value: free };
            let buffer = guest.buffer(&stat.to_bytes());
            assert!(!guest.offer(STATISTICS, &[buffer, buffer]), "{kind:?}");
            assert_eq!(guest.device.stats()["guest"]["values"]["free-memory"], free);
            guest.control("refresh", &serde_json::json!({}));
            assert!(guest.reap(STATISTICS), "{kind:?}");
        }
        // A ring that stops has it back, and other queues do not mind.
        let buffer = guest.buffer(&Stat::default().to_bytes());
        assert!(!guest.offer(STATISTICS, &[buffer, buffer]));
        guest.command(Command::Stop { queue: STATISTICS as u16 });
        guest.run();
        assert!(guest.reap(STATISTICS), "{kind:?}");
        let list = guest.buffer(&7_u64.to_le_bytes());
        assert!(guest.offer(0, &[list, list]), "{kind:?}");
    }
}

/// A ring that comes round to where rings begin, and is stopped and started just there, cannot be told from
/// that of a new driver. To forget the balloon then is the safe side: nothing that a driver uses becomes a hole.
#[test]
fn a_ring_that_is_back_where_rings_begin_may_be_a_new_drivers() {
    let mut guest = guest((&[RING_PACKED, EVENT_IDX], Placement::Direct));
    guest.discard("off");
    // Twice round: then the wrap counter is what it was, too.
    let round = 2 * 64;
    for page in 0..round {
        if page == round - 1 {
            guest.restart(0);
            assert_eq!(guest.stat("deferred_bytes"), page * PAGE, "elsewhere it goes on");
        }
        guest.inflate(&pages(START + page * PAGE, 1));
    }
    assert_eq!(guest.stat("inside_bytes"), round * PAGE);
    guest.restart(0);
    assert_eq!((guest.stat("inside_bytes"), guest.stat("deferred_bytes")), (0, 0));
    guest.discard("on");
    guest.deflate(&pages(START, round));
    assert_eq!((guest.holes(), guest.stat("pages_not_inside")), (vec![], round));
    // It serves on.
    guest.inflate(&pages(START, 2));
    assert_eq!(guest.holes(), pages(START, 2));
}

#[test]
fn a_saved_state_is_the_same_whatever_the_rings_are() {
    let save = |kind: &(&[u32], Placement)| {
        let mut guest = guest(*kind);
        guest.inflate(&pages(START, 3));
        let actual = 3_u32.to_le_bytes();
        guest.device.write_config(ACTUAL_OFFSET, &actual, ConfigWriter::Driver).unwrap();
        let mut next = self::guest(*kind);
        next.device.load(&guest.device.save()).unwrap();
        (next.stat("inside_bytes"), next.stat("actual_bytes"))
    };
    assert!(KINDS.iter().map(save).all(|known| known == (3 * PAGE, 3 * PAGE)));
}
