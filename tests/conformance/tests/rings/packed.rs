//! Descriptors of a packed ring: which are the device's, and until when.

use driver::Placement;
use virtio_spec::features::RING_PACKED;
use virtio_spec::packed::{DESC_F_AVAIL, DESC_F_USED, DESC_F_WRITE, Descriptor, is_used};

use crate::bench::Bench;

/// virtio 1.4, 2.8.15: a descriptor is available when its marks say so for this round, and never
/// because of what an earlier round left there.
#[test]
fn descriptors_are_taken_only_once_their_mark_has_changed() {
    let mut bench = Bench::new(&[RING_PACKED]);
    let byte = bench.memory.alloc(1).unwrap();
    let marked =
        |marks| Descriptor { addr: byte.addr(), len: 1, id: 5, flags: DESC_F_WRITE | marks };
    let (available, used) = (DESC_F_AVAIL, DESC_F_USED);
    // In the first round the mark of an available descriptor is set, in the second it is not.
    for (round, [theirs, others]) in
        [[available, used], [used, available], [available, used]].into_iter().enumerate()
    {
        for index in 0..8 {
            for stale in [0, available | used, others] {
                bench.queue.as_packed().unwrap().write_descriptor(index, marked(stale));
                bench.turn();
                let taken = bench.plan.lock().read.len();
                assert_eq!(taken, round * 8 + usize::from(index), "marks {stale:#x}");
            }
            bench.queue.as_packed().unwrap().write_descriptor(index, marked(theirs));
            bench.turn();
            let flags = bench.queue.as_packed().unwrap().read_descriptor(index).flags;
            assert!(is_used(flags, round % 2 == 0), "round {round}, descriptor {index}");
        }
    }
    assert_eq!(bench.failure(), None);
}

/// virtio 1.4, 2.8.15.
#[test]
fn a_used_descriptor_is_not_touched_again() {
    let mut bench = Bench::new(&[RING_PACKED]);
    bench.plan.lock().at_once = false;
    bench.send_empty(6);
    bench.turn();
    let mut shown: Vec<(u16, Descriptor)> = Vec::new();
    for (place, chain) in [3, 1, 5, 0, 2, 4].into_iter().enumerate() {
        bench.plan.lock().end = vec![chain];
        bench.turn();
        let packed = bench.queue.as_packed().unwrap();
        for (index, descriptor) in &shown {
            assert_eq!(packed.read_descriptor(*index), *descriptor);
        }
        shown.push((place as u16, packed.read_descriptor(place as u16)));
        assert!(is_used(shown[place].1.flags, true));
    }
    bench.turn();
    let packed = bench.queue.as_packed().unwrap();
    assert!(shown.iter().all(|(index, was)| packed.read_descriptor(*index) == *was));
}

/// virtio 1.4, 2.8.6 and 2.8.7: a list of several descriptors is used by one, and the ring goes on
/// behind all of them.
#[test]
fn a_list_is_used_by_its_first_descriptor_and_skipped_as_a_whole() {
    let mut bench = Bench::new(&[RING_PACKED]);
    let byte = bench.memory.alloc(1).unwrap();
    for round in 0..12 {
        let parts = vec![byte.writable(); 3];
        let token = bench.send(&parts, Placement::Direct);
        bench.turn();
        let used = bench.reap();
        assert_eq!(used.len(), 1, "round {round}");
        assert_eq!((used[0].token, used[0].written), (token, 3));
    }
}
