//! In-flight regions that are wrong: they come from the front-end, and a dead process may have left
//! anything in them.

use driver::{Placement, Queue};
use framework::worker::InFlightArea;
use virtio_spec::vhost_user::inflight::{
    DescStatePacked, DescStateSplit, QueueRegionPacked, QueueRegionSplit, VERSION, region_size,
};

use crate::bench::{Bench, area, features};

/// Starts a ring of 8 with this region.
fn start(packed: bool, area: InFlightArea) -> (Bench, Queue, Result<(), String>) {
    let mut bench = Bench::new();
    let features = features(packed, &[]);
    let mut queue = Queue::new(&bench.memory, 8, features).unwrap();
    let buffer = bench.memory.alloc(8).unwrap();
    queue.add(&[buffer.writable()], Placement::Direct).unwrap();
    queue.publish();
    let setup =
        framework::worker::RingSetup { in_flight: Some(area), ..bench.setup(0, &queue, features) };
    let started = bench.start(setup);
    (bench, queue, started)
}

fn split_header(desc_num: u16, last_batch_head: u16, used_idx: u16) -> Vec<u8> {
    let header = QueueRegionSplit {
        version: VERSION,
        desc_num,
        last_batch_head,
        used_idx,
        ..QueueRegionSplit::default()
    };
    header.to_bytes().to_vec()
}

fn packed_header(desc_num: u16, free: u16, used: u16) -> Vec<u8> {
    let header = QueueRegionPacked {
        version: VERSION,
        desc_num,
        free_head: free,
        old_free_head: free,
        used_idx: used,
        old_used_idx: used,
        used_wrap_counter: 1,
        old_used_wrap_counter: 1,
        ..QueueRegionPacked::default()
    };
    header.to_bytes().to_vec()
}

/// CVE-2026-86565, CVE-2021-3839.
#[test]
fn ring_size_against_in_flight_table_mismatch() {
    for packed in [false, true] {
        let header = if packed { packed_header } else { split_header };
        let right = region_size(packed, 8);
        // The region is for fewer descriptors, says so, or has less memory than it says.
        for (size, bytes, says) in [(4, right, 4), (4, right, 8), (8, right, 4), (8, right - 64, 8)]
        {
            let area = area(size, bytes, &[(0, &header(says, 0, 0))]);
            let (mut bench, queue, started) = start(packed, area);
            assert!(
                started.unwrap_err().contains("in-flight region"),
                "{packed} {size} {bytes} {says}"
            );
            let features = features(packed, &[]);
            let setup = bench.setup(0, &queue, features);
            bench.start(setup).unwrap();
        }
        // A region that is larger is none of the ring's concern.
        let large = area(64, region_size(packed, 64), &[]);
        start(packed, large).2.unwrap();
    }
}

#[test]
fn a_version_that_nobody_knows() {
    for packed in [false, true] {
        let area = area(8, region_size(packed, 8), &[(8, &[2, 0])]);
        assert!(start(packed, area).2.unwrap_err().contains("version"));
    }
}

/// Lists that run in circles or out of the region, and more in flight than there can be.
#[test]
fn lists_in_the_region_that_lead_anywhere() {
    for first in [0_u16, 7, 8, 0x7fff, 0xffff] {
        for used in [0_u16, 1, 8, 9, 0x8000, 0xffff] {
            let states = |next: u16| {
                let state = DescStateSplit { inflight: 1, next, ..DescStateSplit::default() };
                state.to_bytes().repeat(8)
            };
            for next in [0, 5, 8, 0xffff] {
                let write: &[(usize, &[u8])] =
                    &[(0, &split_header(8, first, used)), (QueueRegionSplit::SIZE, &states(next))];
                let (mut bench, ..) = start(false, area(8, region_size(false, 8), write));
                bench.turns();
                // At most each descriptor of the table comes again, once.
                assert!(bench.taken().len() <= 8);
                bench.stop(0);
            }
        }
    }
}

#[test]
fn lists_in_a_packed_region_that_lead_anywhere() {
    for free in [0_u16, 7, 8, 0xffff] {
        for used in [0_u16, 7, 8, 0x7fff] {
            for (next, num, last) in
                [(0, 1, 0), (5, 3, 0xffff), (8, 2, 8), (0xffff, 0, 1), (1, 0xffff, 0)]
            {
                let state = DescStatePacked {
                    inflight: 1,
                    next,
                    num,
                    last,
                    addr: 0x1000,
                    len: 8,
                    ..DescStatePacked::default()
                };
                let states = state.to_bytes().repeat(8);
                let write: &[(usize, &[u8])] =
                    &[(0, &packed_header(8, free, used)), (QueueRegionPacked::SIZE, &states)];
                let (mut bench, _, started) = start(true, area(8, region_size(true, 8), write));
                bench.turns();
                assert!(bench.taken().len() <= 9);
                if started.is_ok() {
                    bench.stop(0);
                }
            }
        }
    }
}

/// cloud-hypervisor#8592: requests that were taken and not completed come again after a loss, wherever
/// the front-end says that the ring stands.
#[test]
fn resume_from_the_avail_index_instead_of_what_completed() {
    for packed in [false, true] {
        for wrong_base in [0, 1, 2, 3, 0x7000, 0xffff_ffff] {
            let features = features(packed, &[]);
            let mut bench = Bench::new();
            bench.hold(true);
            let region = area(8, region_size(packed, 8), &[]);
            let mut queue = Queue::new(&bench.memory, 8, features).unwrap();
            let setup = framework::worker::RingSetup {
                in_flight: Some(region.clone()),
                ..bench.setup(0, &queue, features)
            };
            bench.start(setup).unwrap();
            let labels = [b"one", b"two"].map(|label| bench.memory.alloc_with(label).unwrap());
            for label in &labels {
                queue.add(&[label.readable()], Placement::Direct).unwrap();
            }
            queue.publish();
            bench.turns();
            assert_eq!(bench.taken().len(), 2);

            // The process dies; the next one is told a base that is not right.
            let mut next = Bench::with_memory(bench.memory.clone());
            let setup = framework::worker::RingSetup {
                in_flight: Some(region),
                base: if packed && wrong_base > 3 { 0x8000_8000 } else { wrong_base },
                ..next.setup(0, &queue, features)
            };
            next.start(setup).unwrap();
            next.turns();
            let again: Vec<_> = next.taken().into_iter().map(|(bytes, _)| bytes).collect();
            assert_eq!(again, [b"one", b"two"], "base {wrong_base:#x}");
            assert!(queue.reap().unwrap().is_some() && queue.reap().unwrap().is_some());
            assert_eq!(queue.reap().unwrap(), None);
        }
    }
}
