//! A device writes where it is to write, and nowhere else.

use driver::{Buffer, Placement};
use virtio_spec::features::{EVENT_IDX, INDIRECT_DESC, RING_PACKED};
use virtio_spec::packed;
use virtio_spec::split;

use crate::bench::Bench;

/// Guest addresses of an area.
fn range(addr: u64, len: usize) -> std::ops::Range<u64> {
    addr..addr + len as u64
}

/// virtio 1.4, 2.7.5.1 and 2.8.15: neither readable buffers nor descriptor tables are written, nor
/// the driver's area, nor any other memory.
#[test]
fn only_writable_buffers_and_the_devices_own_area_are_written() {
    for features in [
        &[][..],
        &[EVENT_IDX],
        &[INDIRECT_DESC],
        &[RING_PACKED],
        &[RING_PACKED, EVENT_IDX],
        &[RING_PACKED, INDIRECT_DESC],
    ] {
        let indirect = features.contains(&INDIRECT_DESC);
        let placement = if indirect { Placement::Indirect } else { Placement::Direct };
        let mut bench = Bench::new(features);
        let pairs: Vec<[Buffer; 2]> = (0..2_u8)
            .map(|n| {
                let out = bench.memory.alloc_with(&[n; 40]).unwrap();
                [out, bench.memory.alloc(40).unwrap()]
            })
            .collect();
        // Around the ring several times.
        for _ in 0..20 {
            for [out, back] in &pairs {
                back.fill(0);
                bench.queue.add(&[out.readable(), back.writable()], placement).unwrap();
            }
            bench.queue.publish();
            let before = bench.snapshot();
            bench.turn();
            let at = bench.queue.addresses();
            let mut allowed: Vec<_> =
                pairs.iter().map(|[_, back]| range(back.addr(), back.len())).collect();
            if features.contains(&RING_PACKED) {
                allowed.push(range(at.device, packed::EVENT_SIZE));
                allowed.push(range(at.descriptor, packed::desc_ring_size(8)));
            } else {
                allowed.push(range(at.device, split::used_ring_size(8)));
            }
            let elsewhere: Vec<u64> = bench
                .changed_since(&before)
                .into_iter()
                .filter(|at| !allowed.iter().any(|range| range.contains(at)))
                .collect();
            assert!(elsewhere.is_empty(), "{features:?}: {elsewhere:x?}");
            assert_eq!(bench.reap().len(), 2);
        }
    }
}

/// virtio 1.4, 2.8.15: of a packed ring's descriptors, only those are written where used ones go.
#[test]
fn descriptors_of_a_packed_ring_are_written_where_used_ones_go_and_nowhere_else() {
    let mut bench = Bench::new(&[RING_PACKED]);
    let out = bench.memory.alloc_with(b"abc").unwrap();
    let back = bench.memory.alloc(1).unwrap();
    let parts = [out.readable(), out.readable(), back.writable()];
    for first in [0, 3] {
        bench.send(&parts, Placement::Direct);
        let before = bench.snapshot();
        bench.turn();
        let ring = bench.queue.addresses().descriptor;
        let changed = bench.changed_since(&before);
        for index in (0..8).filter(|index| *index != first) {
            let descriptor = range(ring + index * 16, 16);
            assert!(!changed.iter().any(|at| descriptor.contains(at)), "descriptor {index}");
        }
        // Its address is nobody's business any more, and stays.
        let address = range(ring + first * 16, 8);
        assert!(!changed.iter().any(|at| address.contains(at)));
        bench.reap();
    }
}
