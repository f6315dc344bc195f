//! Discards that the VMM forbids for a while.

use serde_json::json;
use virtio_spec::balloon::{PAGE_REPORTING, STATS_VQ};

use crate::guest::{Guest, PAGE, REGIONS, pages};

const START: u64 = REGIONS[0].0;

#[test]
fn pages_are_given_back_when_that_is_allowed_again() {
    let mut guest = Guest::usual();
    guest.fill();
    guest.discard("off");
    guest.inflate(&pages(START, 100));
    assert_eq!((guest.holes(), guest.stat("deferred_bytes")), (vec![], 100 * PAGE));
    assert_eq!(guest.stat("inside_bytes"), 100 * PAGE);
    guest.discard("on");
    assert_eq!((guest.holes(), guest.stat("deferred_bytes")), (pages(START, 100), 0));
}

#[test]
fn a_page_that_came_out_meanwhile_stays() {
    let mut guest = Guest::usual();
    guest.fill();
    guest.discard("off");
    guest.inflate(&pages(START, 100));
    guest.deflate(&pages(START + 10 * PAGE, 80));
    guest.discard("on");
    let expected = [pages(START, 10), pages(START + 90 * PAGE, 10)].concat();
    assert_eq!(guest.holes(), expected);
}

#[test]
fn of_a_driver_that_does_not_tell_nothing_is_deferred() {
    let mut guest = Guest::with(&[STATS_VQ, PAGE_REPORTING]);
    guest.fill();
    guest.discard("off");
    guest.inflate(&pages(START, 100));
    guest.discard("on");
    assert_eq!((guest.holes(), guest.stat("forbidden_bytes")), (vec![], 100 * PAGE));
    guest.inflate(&pages(START, 3));
    assert_eq!(guest.holes(), pages(START, 3));
}

#[test]
fn memory_that_was_replaced_meanwhile_stays() {
    let mut guest = Guest::usual();
    guest.discard("off");
    guest.inflate(&pages(REGIONS[2].0, 10));
    guest.inflate(&pages(START, 10));
    let (at, size) = REGIONS[2];
    guest.memory.remove_region(at).unwrap();
    guest.memory.add_region(driver::RegionSpec::new(at, size)).unwrap();
    guest.fill();
    guest.switch_memory();
    guest.discard("on");
    assert_eq!(guest.holes(), pages(START, 10));
}

#[test]
fn large_amounts_are_given_back_in_steps() {
    let mut guest = Guest::usual();
    guest.fill();
    guest.discard("off");
    let all = REGIONS.map(|(start, len)| pages(start, len / PAGE)).concat();
    guest.inflate(&all);
    guest.discard("on");
    guest.run();
    assert_eq!(guest.holes(), all);
}

#[test]
fn the_answer_says_what_waits() {
    let mut guest = Guest::usual();
    guest.discard("off");
    guest.inflate(&pages(START, 2));
    assert_eq!(guest.discard("off"), json!({ "discard": false, "deferred_bytes": 2 * PAGE }));
}
