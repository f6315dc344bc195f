//! Classes of malformed chains, from the guest through the rings.

use driver::{Part, Placement, Queue};
use virtio_spec::features::{INDIRECT_DESC, RING_PACKED};
use virtio_spec::split::{DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_WRITE, Descriptor};
use virtio_spec::{packed, split};

use crate::bench::{Bench, features};

/// Offers a descriptor as the head of a split chain; why the ring fails, if it does.
fn offer(bench: &mut Bench, ring: &mut driver::Split, table: &[Descriptor]) -> Option<String> {
    for (index, descriptor) in (0..).zip(table) {
        ring.write_descriptor(index, *descriptor);
    }
    ring.offer(0);
    ring.publish();
    bench.failure()
}

fn desc(addr: u64, len: u32, flags: u16, next: u16) -> Descriptor {
    Descriptor { addr, len, flags, next }
}

/// A good chain is still served by the other ring of the same worker.
fn assert_others_run(bench: &mut Bench) {
    let mut other = bench.ring(1, 4, features(false, &[]));
    assert_serves(bench, &mut other);
}

fn assert_serves(bench: &mut Bench, queue: &mut Queue) {
    let buffer = bench.memory.alloc(16).unwrap();
    let token = queue.add(&[buffer.writable()], Placement::Direct).unwrap();
    queue.publish();
    bench.turns();
    let used = queue.reap().unwrap().unwrap();
    assert_eq!((used.token, used.written), (token, 16));
    assert_eq!(buffer.to_vec(), [0x5a; 16]);
}

/// A length of chains is 32 bits wide (virtio 1.4, 2.7.4 and 2.8.2): four times the same gibibyte is one
/// byte too much.
#[test]
fn chains_longer_than_their_length_can_tell() {
    const GIB: u32 = 1 << 30;
    for (packed, flags) in [(false, 0), (false, DESC_F_WRITE), (true, 0)] {
        let mut bench = Bench::with_memory(driver::Memory::new(GIB.into()).unwrap());
        let why = if packed {
            let mut ring = bench.packed(8);
            let part = |flags| packed::Descriptor { addr: 0, len: GIB, id: 0, flags };
            let next = part(DESC_F_NEXT);
            ring.offer(&[next, next, next, part(0)]).unwrap();
            ring.publish();
            bench.failure()
        } else {
            let mut ring = bench.split(8);
            let next = flags | DESC_F_NEXT;
            let table = [(1, next), (2, next), (3, next), (0, flags)];
            offer(&mut bench, &mut ring, &table.map(|(to, flags)| desc(0, GIB, flags, to)))
        };
        assert!(why.unwrap().contains("4 GiB"), "packed: {packed}");
        assert!(bench.state.taken.lock().unwrap().is_empty());
    }
}

/// spdk#3860.
#[test]
fn guest_supplied_id_indexes_a_host_array() {
    for head in [4, 5, 255, 0x7fff, 0xffff] {
        let mut bench = Bench::new();
        let mut ring = bench.split(4);
        ring.offer(head);
        ring.publish();
        assert!(bench.failure().unwrap().contains("outside the table"), "head {head}");
        assert_others_run(&mut bench);

        let mut bench = Bench::new();
        let mut ring = bench.split(4);
        let first = desc(0x1000, 8, DESC_F_NEXT, head);
        assert!(offer(&mut bench, &mut ring, &[first]).unwrap().contains("outside the table"));
    }
    // In a packed ring an id is the driver's own: any will do, and comes back as it was.
    let mut bench = Bench::new();
    let mut ring = bench.packed(4);
    let buffer = bench.memory.alloc(8).unwrap();
    for id in [0, 4, 0x8000, 0xffff] {
        let at = ring.next();
        let wanted = DESC_F_WRITE | packed::avail_flags(at.wrap);
        ring.offer(&[packed::Descriptor { addr: buffer.addr(), len: 8, id: 0, flags: wanted }])
            .unwrap();
        let flags = wanted;
        ring.write_descriptor(
            at.index,
            packed::Descriptor { addr: buffer.addr(), len: 8, id, flags },
        );
        bench.turns();
        let used = ring.read_descriptor(at.index);
        assert!(packed::is_used(used.flags, at.wrap));
        assert_eq!((used.id, used.len), (id, 8));
    }
    assert_eq!(bench.failure(), None);
}

/// CVE-2016-6490, CVE-2022-2132.
#[test]
fn chain_loops() {
    let loops: [&[Descriptor]; 3] = [
        &[desc(0x1000, 1, DESC_F_NEXT, 0)],
        &[desc(0x1000, 1, DESC_F_NEXT, 1), desc(0x1000, 1, DESC_F_NEXT, 0)],
        // Without a byte, so that no limit on bytes ends it.
        &[desc(0, 0, DESC_F_NEXT, 1), desc(0, 0, DESC_F_NEXT, 1)],
    ];
    for table in loops {
        let mut bench = Bench::new();
        let mut ring = bench.split(8);
        assert!(offer(&mut bench, &mut ring, table).unwrap().contains("loops"));
        assert!(bench.taken().is_empty());
        assert_others_run(&mut bench);
    }
    // A packed list that never ends goes round the ring once.
    let mut bench = Bench::new();
    let mut ring = bench.packed(8);
    let endless = packed::Descriptor { addr: 0x1000, len: 1, id: 0, flags: DESC_F_NEXT };
    ring.offer(&[endless; 8]).unwrap();
    ring.publish();
    assert!(bench.failure().unwrap().contains("loops"));
    assert_others_run(&mut bench);
}

/// CVE-2016-6490, CVE-2022-2132.
#[test]
fn chain_loops_in_an_indirect_table() {
    let mut bench = Bench::new();
    let mut ring = bench.split(8);
    let entries = [desc(0x1000, 1, DESC_F_NEXT, 1), desc(0x1000, 1, DESC_F_NEXT, 0)];
    let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
    let table = bench.memory.alloc_with(&bytes).unwrap();
    let head = desc(table.addr(), 32, DESC_F_INDIRECT, 0);
    assert!(offer(&mut bench, &mut ring, &[head]).unwrap().contains("loops"));
    assert!(bench.taken().is_empty());
}

/// CVE-2016-5403.
#[test]
fn zero_length_descriptors() {
    for packed in [false, true] {
        let mut bench = Bench::new();
        let mut queue = bench.ring(0, 8, features(packed, &[]));
        let buffer = bench.memory.alloc_with(b"data").unwrap();
        // Their addresses mean nothing, wherever they point.
        let (nothing, nowhere) = (Part::readable(buffer.addr(), 0), Part::readable(u64::MAX, 0));
        let parts = [nothing, buffer.readable(), nowhere, Part::writable(u64::MAX, 0)];
        queue.add(&parts, Placement::Direct).unwrap();
        queue.publish();
        assert_eq!(bench.failure(), None);
        assert_eq!(bench.taken(), [(b"data".to_vec(), 0)]);
        assert_eq!(queue.reap().unwrap().unwrap().written, 0);
        // As many as the ring holds, again and again: bounded work, and nothing is lost.
        for _ in 0..100 {
            queue.add(&[nothing; 8], Placement::Direct).unwrap();
            queue.publish();
            bench.turns();
            assert!(queue.reap().unwrap().is_some());
        }
    }
}

/// CVE-2022-2132.
#[test]
fn chains_longer_than_the_queue() {
    // As long as the queue is allowed, and one more only through a table.
    let mut bench = Bench::new();
    let mut queue = bench.ring(0, 8, features(false, &[INDIRECT_DESC]));
    let buffer = bench.memory.alloc(8).unwrap();
    let part = buffer.readable();
    for (count, placement) in [(8, Placement::Direct), (64, Placement::Indirect)] {
        queue.add(&vec![part; count], placement).unwrap();
        queue.publish();
        assert_eq!(bench.failure(), None);
        assert_eq!(bench.taken(), [(vec![0; 8 * count], 0)]);
        assert!(queue.reap().unwrap().is_some());
    }
    // A table that says it has more entries than are ever followed.
    let mut ring = Bench::new();
    let mut split = ring.split(8);
    for len in [0, 8, 15, 17, 1025 * 16, u32::MAX] {
        let mut bench = Bench::new();
        let mut split = bench.split(8);
        let head = desc(0x1000, len, DESC_F_INDIRECT, 0);
        let why = offer(&mut bench, &mut split, &[head]).unwrap();
        assert!(why.contains("indirect table"), "{len}: {why}");
    }
    // More than 4 GiB, one region at a time.
    let whole = desc(0x1000, 1 << 20, DESC_F_NEXT, 0);
    let long: Vec<_> = (1..8).map(|next| Descriptor { next, len: u32::MAX, ..whole }).collect();
    assert!(offer(&mut ring, &mut split, &long).is_some());
}

/// CVE-2026-93683, CVE-2020-14375, CVE-2026-86848: what was taken stays as it was taken, whatever the
/// driver writes afterwards.
#[test]
fn indirect_length_or_header_fetched_twice() {
    for packed in [false, true] {
        let mut bench = Bench::new();
        bench.hold(true);
        let mut queue = bench.ring(0, 8, features(packed, &[INDIRECT_DESC]));
        let (first, second) = (bench.memory.alloc(16).unwrap(), bench.memory.alloc(16).unwrap());
        let parts = [first.writable(), second.writable()];
        queue.add(&parts, Placement::Indirect).unwrap();
        queue.publish();
        bench.turns();
        assert_eq!(bench.taken(), [(vec![], 32)]);
        // The table's length, its place, and all of its entries turn into something else.
        match &mut queue {
            Queue::Split(ring) => {
                let table = ring.read_descriptor(0);
                bench.memory.write(table.addr, &[0xff; 32]).unwrap();
                ring.write_descriptor(0, desc(u64::MAX, u32::MAX, 0xffff, 0xffff));
            }
            Queue::Packed(ring) => {
                let table = ring.read_descriptor(0);
                bench.memory.write(table.addr, &[0xff; 32]).unwrap();
                ring.write_descriptor(0, packed::Descriptor { addr: u64::MAX, ..table });
            }
        }
        bench.hold(false);
        assert_eq!(bench.failure(), None);
        assert_eq!((first.to_vec(), second.to_vec()), (vec![0x5a; 16], vec![0x5a; 16]));
        assert_eq!(queue.reap().unwrap().unwrap().written, 32);
    }
}

/// Indirect tables inside others, with NEXT set, or not negotiated at all.
#[test]
fn indirect_tables_that_are_none() {
    let nested = desc(0x1000, 16, DESC_F_INDIRECT, 0);
    let mut bench = Bench::new();
    let mut ring = bench.split(8);
    let table = bench.memory.alloc_with(&nested.to_le_bytes()).unwrap();
    let head = desc(table.addr(), 16, DESC_F_INDIRECT, 0);
    assert!(offer(&mut bench, &mut ring, &[head]).unwrap().contains("indirect"));

    let mut bench = Bench::new();
    let mut ring = bench.split(8);
    let linked = desc(table.addr(), 16, DESC_F_INDIRECT | DESC_F_NEXT, 1);
    assert!(offer(&mut bench, &mut ring, &[linked]).unwrap().contains("indirect"));

    let mut bench = Bench::new();
    let Queue::Split(mut ring) = bench.ring(0, 8, features(false, &[])) else { panic!() };
    assert!(offer(&mut bench, &mut ring, &[head]).unwrap().contains("not negotiated"));
    assert_others_run(&mut bench);
}

/// What the device reads comes before what it writes (virtio 1.4, 2.7.4.2).
#[test]
fn readable_descriptors_behind_writable_ones() {
    let mut bench = Bench::new();
    let mut ring = bench.split(8);
    let table = [desc(0x1000, 8, DESC_F_WRITE | DESC_F_NEXT, 1), desc(0x1000, 8, 0, 0)];
    assert!(offer(&mut bench, &mut ring, &table).unwrap().contains("follows"));
    assert_others_run(&mut bench);
}

/// cloud-hypervisor pull requests 8401 and 8184: the ring fails, once; what was in flight ends; the
/// ring can be stopped and started as often as one likes.
#[test]
fn a_bad_chain_leaks_its_head_or_panics_the_process() {
    for packed in [false, true] {
        let mut bench = Bench::new();
        let features = features(packed, &[]);
        for _ in 0..50 {
            let mut queue = Queue::new(&bench.memory, 4, features).unwrap();
            let setup = bench.setup(0, &queue, features);
            bench.start(setup).unwrap();
            bench.hold(true);
            let buffer = bench.memory.alloc(8).unwrap();
            let good = queue.add(&[buffer.writable()], Placement::Direct).unwrap();
            queue.add(&[Part::writable(1 << 40, 8)], Placement::Direct).unwrap();
            queue.add(&[buffer.writable()], Placement::Direct).unwrap();
            queue.publish();
            assert!(bench.failure().unwrap().contains("not in guest memory"));
            assert_eq!(bench.taken().len(), 1, "nothing behind the bad chain is taken");
            bench.hold(false);
            bench.turns();
            assert_eq!(queue.reap().unwrap().unwrap().token, good);
            assert_eq!(queue.reap().unwrap(), None);
            bench.stop(0);
        }
        let mut queue = bench.ring(0, 4, features);
        assert_serves(&mut bench, &mut queue);
    }
}

/// More made available than there is room for.
#[test]
fn the_drivers_index_jumps() {
    for jump in [5, 0x100, 0x8000, 0xffff] {
        let mut bench = Bench::new();
        let mut ring = bench.split(4);
        ring.set_available_index(jump);
        assert!(bench.failure().unwrap().contains("further than"), "jump {jump}");
        assert!(bench.taken().is_empty());
        assert_others_run(&mut bench);
    }
}

/// A driver that makes more available than the ring holds while the device works on it.
#[test]
fn more_in_flight_than_the_ring_holds() {
    for packed in [false, true] {
        let mut bench = Bench::new();
        bench.hold(true);
        let mut queue = bench.ring(0, 4, features(packed, &[]));
        assert_eq!(features(packed, &[]).has(RING_PACKED), packed);
        let buffer = bench.memory.alloc(8).unwrap();
        for _ in 0..4 {
            queue.add(&[buffer.writable()], Placement::Direct).unwrap();
        }
        queue.publish();
        assert_eq!(bench.failure(), None);
        match &mut queue {
            Queue::Split(ring) => {
                ring.offer(0);
                ring.publish();
            }
            Queue::Packed(ring) => {
                let at = ring.next();
                let flags = DESC_F_WRITE | packed::avail_flags(at.wrap);
                let addr = buffer.addr();
                ring.write_descriptor(at.index, packed::Descriptor { addr, len: 8, id: 9, flags });
            }
        }
        assert!(bench.failure().unwrap().contains("more chains are in flight"));
        assert_eq!(bench.taken().len(), 4);
        bench.hold(false);
        bench.turns();
        bench.stop(0);
    }
}

/// Sizes that no split ring has never get as far as a ring; the layout's constants agree.
#[test]
fn ring_sizes() {
    assert!(!split::is_queue_size(0) && !split::is_queue_size(3));
    let mut bench = Bench::new();
    let mut ring = bench.packed(7);
    let buffer = bench.memory.alloc(8).unwrap();
    for _ in 0..30 {
        ring.add(&[buffer.writable(); 3], Placement::Direct).unwrap();
        ring.publish();
        bench.turns();
        assert!(ring.reap().unwrap().is_some());
    }
}
