//! Reports of free pages.

use driver::Part;
use framework::device::{ConfigWriter, Device};
use virtio_spec::balloon::{
    MUST_TELL_HOST, PAGE_POISON, PAGE_REPORTING, POISON_VAL_OFFSET, STATS_VQ,
};

use crate::guest::{Guest, PAGE, REGIONS, pages};

const START: u64 = REGIONS[0].0;
/// With statistics, the reporting queue is the fourth.
const REPORTING: usize = 3;

fn part(start: u64, pages: u64) -> Part {
    Part::writable(start, (pages * PAGE) as u32)
}

#[test]
fn reported_pages_go_back() {
    let mut guest = Guest::usual();
    guest.fill();
    let before = guest.resident();
    assert!(guest.offer(REPORTING, &[part(START, 8), part(START + 32 * PAGE, 8)]));
    assert_eq!(before - guest.resident(), 16 * PAGE);
    assert_eq!(guest.holes(), [pages(START, 8), pages(START + 32 * PAGE, 8)].concat());
    assert_eq!((guest.stat("reports"), guest.stat("reported_bytes")), (1, 16 * PAGE));
    // They are not in the balloon: the driver uses them again without a word.
    assert_eq!(guest.stat("inside_bytes"), 0);
}

#[test]
fn without_statistics_reports_come_by_the_third_queue() {
    let mut guest = Guest::with(&[MUST_TELL_HOST, PAGE_REPORTING]);
    guest.fill();
    assert!(guest.offer(2, &[part(START, 1)]));
    assert_eq!(guest.holes(), pages(START, 1));
}

#[test]
fn pages_with_poison_stay_as_they_are() {
    for (poison, stays) in [(0_u32, false), (0xaaaa_aaaa, true)] {
        let mut guest = Guest::with(&[STATS_VQ, PAGE_REPORTING, PAGE_POISON]);
        guest.fill();
        let bytes = poison.to_le_bytes();
        guest.device.write_config(POISON_VAL_OFFSET, &bytes, ConfigWriter::Driver).unwrap();
        assert!(guest.offer(REPORTING, &[part(START, 4)]));
        assert_eq!(guest.holes().is_empty(), stays, "{poison:#x}");
    }
}

#[test]
fn reports_are_acknowledged_and_forgotten_while_discards_are_forbidden() {
    let mut guest = Guest::usual();
    guest.fill();
    guest.discard("off");
    assert!(guest.offer(REPORTING, &[part(START, 4)]));
    guest.discard("on");
    assert_eq!((guest.holes(), guest.stat("deferred_bytes")), (vec![], 0));
}

#[test]
fn parts_of_pages_stay() {
    let mut guest = Guest::usual();
    guest.fill();
    assert!(guest.offer(REPORTING, &[Part::writable(START + 1, 3 * PAGE as u32)]));
    assert_eq!(guest.holes(), pages(START + PAGE, 2));
}
