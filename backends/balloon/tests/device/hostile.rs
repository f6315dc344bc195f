//! What a hostile driver sends (the class: huge lists of pages, pages outside memory, endless requests
//! for statistics). No hole where none should be, no panic, bounded work.

use driver::Part;
use framework::device::Device;
use virtio_spec::balloon::Stat;

use crate::guest::{Guest, PAGE, REGIONS, pages};

#[test]
fn pages_outside_memory_are_counted() {
    let mut guest = Guest::usual();
    guest.fill();
    let (start, len) = REGIONS[2];
    let edge = ((start + len) / PAGE) as u32;
    guest.inflate(&[0, u32::MAX, u32::MAX - 1, edge, edge - 1, 0x9_0000]);
    assert_eq!(guest.holes(), [edge - 1]);
    assert_eq!(guest.stat("pages_outside"), 5);
    guest.deflate(&[0, u32::MAX, edge - 1]);
    assert_eq!(guest.stat("pages_not_inside"), 2);
}

#[test]
fn repeated_pages_are_one() {
    let mut guest = Guest::usual();
    guest.fill();
    let page = pages(REGIONS[0].0, 1);
    guest.inflate(&page.repeat(1000));
    assert_eq!((guest.holes(), guest.stat("pages_repeated")), (page, 999));
    assert_eq!((guest.stat("inside_bytes"), guest.stat("punched_bytes")), (PAGE, PAGE));
}

#[test]
fn lists_of_no_use_are_acknowledged() {
    let mut guest = Guest::usual();
    guest.fill();
    guest.inflate(&[]);
    let odd = guest.buffer(&[1, 2, 3]);
    assert!(guest.offer(0, &[odd]));
    assert!(guest.offer(0, &[Part::writable(REGIONS[0].0, 4096)]));
    assert!(guest.offer(3, &[Part::readable(REGIONS[0].0, 4096)]));
    assert_eq!((guest.holes(), guest.stat("lists_malformed")), (vec![], 1));
}

#[test]
fn a_huge_list_is_read_in_part_and_costs_no_deferred_page_its_owner() {
    let mut guest = Guest::usual();
    guest.fill();
    guest.discard("off");
    guest.inflate(&pages(REGIONS[0].0, 16));
    // The same two mebibytes again and again: far more pages than a gibibyte has.
    let part = Part::readable(REGIONS[1].0, 2 << 20);
    assert!(guest.offer(1, &[part; 60]));
    assert_eq!(guest.stat("lists_too_long"), 1);
    // Which pages came out is not known: none is given back.
    guest.discard("on");
    assert!(guest.holes().is_empty());
}

#[test]
fn reports_of_the_same_memory_cost_no_more_than_one() {
    let mut guest = Guest::usual();
    guest.fill();
    let part = Part::writable(REGIONS[0].0, REGIONS[0].1 as u32);
    assert!(guest.offer(3, &[part; 60]));
    assert_eq!(guest.stat("holes"), 1);
    assert_eq!(guest.stat("punched_bytes"), REGIONS[0].1);
}

#[test]
fn statistics_that_never_end_wait_in_the_ring() {
    let mut guest = Guest::usual();
    for value in 0..20 {
        let buffer = guest.buffer(&Stat { tag: 4, value }.to_bytes());
        assert!(!guest.offer(2, &[buffer]));
    }
    assert_eq!(guest.stat("statistics"), 1);
    let huge = Part::readable(REGIONS[0].0, REGIONS[0].1 as u32);
    assert!(!guest.offer(2, &[huge]));
    assert!(guest.device.stats()["guest"]["values"].as_object().unwrap().len() <= 256);
}

#[test]
fn a_queue_without_a_role_is_left_alone() {
    let mut guest = Guest::with(&[]);
    guest.fill();
    for queue in [2, 3] {
        let part = Part::writable(REGIONS[0].0, 4096);
        assert!(!guest.offer(queue, &[part]));
    }
    assert!(guest.holes().is_empty());
}
