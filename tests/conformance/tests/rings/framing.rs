//! How a chain is cut into descriptors, and where those stand, makes no difference.

use driver::{Buffer, Part, Placement};
use virtio_spec::features::{INDIRECT_DESC, RING_PACKED};
use virtio_spec::split::{DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_WRITE, Descriptor};

use crate::bench::{BOTH, Bench};
use crate::probe::WRITTEN;

/// Cuts a buffer at these places.
fn cut(buffer: &Buffer, at: &[usize], write: bool) -> Vec<Part> {
    let ends = at.iter().copied().chain([buffer.len()]);
    let starts = [0].into_iter().chain(at.iter().copied());
    let part = |(from, to): (usize, usize)| Part {
        addr: buffer.addr() + from as u64,
        len: (to - from) as u32,
        write,
    };
    starts.zip(ends).map(part).collect()
}

/// virtio 1.4, 2.7.4.1.
#[test]
fn chains_mean_the_same_however_they_are_cut() {
    let cuts: [&[usize]; 5] = [&[], &[1], &[6], &[1, 2], &[2, 2, 5]];
    for features in BOTH {
        for readable in cuts {
            for writable in cuts {
                let mut bench = Bench::new(features);
                let out = bench.memory.alloc_with(b"request").unwrap();
                let back = bench.memory.alloc(7).unwrap();
                let mut parts = cut(&out, readable, false);
                parts.extend(cut(&back, writable, true));
                bench.send(&parts, Placement::Direct);
                bench.turn();
                assert_eq!(bench.plan.lock().read, [b"request"], "{readable:?}");
                assert_eq!(back.to_vec(), [WRITTEN; 7], "{writable:?}");
                assert_eq!(bench.reap()[0].written, 7);
            }
        }
    }
}

/// virtio 1.4, 2.7.5.3.2.
#[test]
fn descriptors_before_the_reference_to_a_table_are_part_of_the_chain() {
    for direct in 0..4 {
        let mut bench = Bench::new(&[INDIRECT_DESC]);
        let out = bench.memory.alloc_with(b"abcd").unwrap();
        let back = bench.memory.alloc(2).unwrap();
        let mut parts = cut(&out, &[1, 2], false);
        parts.extend(cut(&back, &[1], true));
        bench.send(&parts, Placement::Mixed(direct));
        bench.turn();
        assert_eq!(bench.plan.lock().read, [b"abcd"], "{direct} before it");
        assert_eq!(back.to_vec(), [WRITTEN; 2]);
        assert_eq!(bench.failure(), None);
    }
}

/// virtio 1.4, 2.7.5.3.2.
#[test]
fn the_write_flag_of_the_reference_to_a_table_is_ignored() {
    let mut bench = Bench::new(&[INDIRECT_DESC]);
    let out = bench.memory.alloc_with(b"abc").unwrap();
    let back = bench.memory.alloc(2).unwrap();
    let readable =
        Descriptor { addr: out.addr(), len: 3, flags: DESC_F_NEXT, next: 1 }.to_le_bytes();
    let writable = Descriptor { addr: back.addr(), len: 2, flags: DESC_F_WRITE, next: 0 };
    let table = bench.memory.alloc_with(&[readable, writable.to_le_bytes()].concat()).unwrap();
    let flags = DESC_F_INDIRECT | DESC_F_WRITE;
    let split = bench.queue.as_split().unwrap();
    split.write_descriptor(3, Descriptor { addr: table.addr(), len: 32, flags, next: 0 });
    split.offer(3);
    split.publish();
    bench.turn();
    assert_eq!(bench.failure(), None);
    assert_eq!(bench.plan.lock().read, [b"abc"]);
    assert_eq!(back.to_vec(), [WRITTEN; 2]);
}

/// virtio 1.4, 2.8.7.
#[test]
fn a_table_of_a_packed_ring_is_read_from_first_to_last() {
    let mut bench = Bench::new(&[RING_PACKED, INDIRECT_DESC]);
    let out = bench.memory.alloc_with(b"abcdef").unwrap();
    let back = bench.memory.alloc(3).unwrap();
    let mut parts = cut(&out, &[1, 4], false);
    parts.extend(cut(&back, &[2], true));
    bench.send(&parts, Placement::Indirect);
    bench.turn();
    assert_eq!(bench.plan.lock().read, [b"abcdef"]);
    assert_eq!(back.to_vec(), [WRITTEN; 3]);
}
