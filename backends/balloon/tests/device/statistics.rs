//! The statistics queue, which works the other way round.

use framework::device::Device;
use framework::worker::Command;
use serde_json::json;
use virtio_spec::balloon::{Stat, StatTag};

use crate::guest::{Guest, REGIONS};

const STATISTICS: usize = 2;

fn stats(free: u64) -> Vec<u8> {
    let known = Stat { tag: StatTag::FreeMemory as u16, value: free };
    [known.to_bytes(), Stat { tag: 77, value: 1 }.to_bytes()].concat()
}

#[test]
fn the_buffer_is_held_until_somebody_asks() {
    let mut guest = Guest::usual();
    let first = guest.buffer(&stats(1000));
    assert!(!guest.offer(STATISTICS, &[first]), "it is held");
    let shown = guest.device.stats();
    assert_eq!(shown["guest"]["values"], json!({ "free-memory": 1000, "tag-77": 1 }));

    guest.control("refresh", &json!({}));
    assert!(guest.reap(STATISTICS));
    let second = guest.buffer(&stats(2000));
    assert!(!guest.offer(STATISTICS, &[second]));
    assert_eq!(guest.device.stats()["guest"]["values"]["free-memory"], 2000);
}

#[test]
fn it_is_asked_for_as_often_as_was_set() {
    let mut guest = Guest::usual();
    guest.control("polling", &json!({ "seconds": 5 }));
    for free in 1..4 {
        let buffer = guest.buffer(&stats(free));
        // Simulated time leaps to the next thing that happens.
        assert!(guest.offer(STATISTICS, &[buffer]));
    }
    assert_eq!(guest.stat("statistics"), 3);
}

#[test]
fn a_ring_that_stops_has_its_buffer_back() {
    let mut guest = Guest::usual();
    let buffer = guest.buffer(&stats(1));
    assert!(!guest.offer(STATISTICS, &[buffer]));
    guest.command(Command::Stop { queue: STATISTICS as u16 });
    guest.run();
    assert!(guest.reap(STATISTICS));
}

#[test]
fn memory_is_unplugged_while_the_buffer_is_held() {
    let mut guest = Guest::usual();
    let buffer = guest.buffer(&stats(1));
    assert!(!guest.offer(STATISTICS, &[buffer]));
    guest.memory.remove_region(REGIONS[2].0).unwrap();
    assert!(guest.releases_memory(), "nothing of the former memory is in use");
    // The driver answers with newer ones, which are held again.
    assert!(guest.reap(STATISTICS));
    let buffer = guest.buffer(&stats(2));
    assert!(!guest.offer(STATISTICS, &[buffer]));
    assert_eq!(guest.device.stats()["guest"]["values"]["free-memory"], 2);
}
