//! What the driver finds when it is shown that a buffer was used.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use driver::{Area, Part, Placement};
use virtio_spec::features::RING_PACKED;
use virtio_spec::packed;
use virtio_spec::split::{USED_ELEM_SIZE, USED_IDX_OFFSET, USED_RING_OFFSET, UsedElem};

use crate::bench::Bench;
use crate::probe::WRITTEN;

/// The driver's last look, from another thread: what it sees with the index it must see whole.
fn watch<T: Send + 'static>(
    looks: impl Fn() -> Option<T> + Send + 'static,
) -> std::thread::JoinHandle<T> {
    let started = Arc::new(AtomicBool::new(false));
    let ready = Arc::clone(&started);
    let thread = std::thread::spawn(move || {
        loop {
            let seen = looks();
            ready.store(true, Ordering::Release);
            match seen {
                Some(seen) => return seen,
                None => std::hint::spin_loop(),
            }
        }
    });
    while !started.load(Ordering::Acquire) {
        std::hint::spin_loop();
    }
    thread
}

/// virtio 1.4, 2.7.8.2: element and data are there before the index says so.
#[test]
fn length_and_data_are_there_before_the_index_moves() {
    for _ in 0..50 {
        let mut bench = Bench::new(&[]);
        let back = bench.memory.alloc(4096).unwrap();
        let token = bench.send(&[back.writable()], Placement::Direct);
        let used: Area = bench.queue.as_split().unwrap().used_area().clone();
        let data: Area = (*back).clone();
        let driver = watch(move || {
            let moved = used.load_u16(USED_IDX_OFFSET, Ordering::Acquire) == 1;
            moved.then(|| (used.read_array::<USED_ELEM_SIZE>(USED_RING_OFFSET), data.to_vec()))
        });
        bench.turn();
        let (element, data) = driver.join().unwrap();
        assert_eq!(UsedElem::from_le_bytes(element), UsedElem { id: token.0.into(), len: 4096 });
        assert!(data == [WRITTEN; 4096]);
    }
}

/// virtio 1.4, 2.7.8.2: whoever looks at any moment finds the entries whole that the index covers.
#[test]
fn entries_are_whole_whenever_the_index_covers_them() {
    let length = |index: u16| 1 + u32::from(index % 5);
    let mut bench = Bench::new(&[]);
    let back = bench.memory.alloc(8).unwrap();
    let used: Area = bench.queue.as_split().unwrap().used_area().clone();
    let over = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&over);
    let watcher = std::thread::spawn(move || {
        while !until.load(Ordering::Relaxed) {
            let index = used.load_u16(USED_IDX_OFFSET, Ordering::Acquire);
            let last = index.wrapping_sub(1);
            let at = USED_RING_OFFSET + usize::from(last % 8) * USED_ELEM_SIZE;
            let element = UsedElem::from_le_bytes(used.read_array(at));
            let now = used.load_u16(USED_IDX_OFFSET, Ordering::Acquire);
            // The entry may be in use again when the device has gone on.
            if index != 0 && now == index {
                assert_eq!(element.len, length(last), "entry {last}");
            }
        }
    });
    for index in 0..60_000 {
        let part = Part::writable(back.addr(), length(index));
        bench.queue.add(&[part], Placement::Direct).unwrap();
        if index % 3 == 2 {
            bench.queue.publish();
            bench.turn();
            bench.reap();
        }
    }
    over.store(true, Ordering::Relaxed);
    watcher.join().unwrap();
}

/// virtio 1.4, 2.8.12: likewise the id, the length and the data of a used descriptor, and all of a
/// batch before its first descriptor.
#[test]
fn a_batch_is_there_in_whole_before_its_first_descriptor_is_shown() {
    for _ in 0..50 {
        let mut bench = Bench::new(&[RING_PACKED]);
        let back = bench.memory.alloc(2048).unwrap();
        for _ in 0..3 {
            bench.queue.add(&[back.writable()], Placement::Direct).unwrap();
        }
        bench.queue.publish();
        let ring = bench.memory.area(bench.queue.addresses().descriptor, 8 * 16).unwrap();
        let data: Area = (*back).clone();
        let driver = watch(move || {
            let flags = ring.load_u16(packed::DESC_FLAGS_OFFSET, Ordering::Acquire);
            packed::is_used(flags, true).then(|| {
                let descriptor = |n: usize| {
                    packed::Descriptor::from_le_bytes(ring.read_array(n * packed::DESC_SIZE))
                };
                ([0, 1, 2].map(descriptor), data.to_vec())
            })
        });
        bench.turn();
        let (descriptors, data) = driver.join().unwrap();
        for descriptor in descriptors {
            assert!(packed::is_used(descriptor.flags, true));
            assert_eq!(descriptor.len, 2048);
        }
        assert!(data == [WRITTEN; 2048]);
    }
}

/// virtio 1.4, 2.7.8.2: the length counts what was written, from the first writable byte on.
#[test]
fn the_used_length_is_what_was_written() {
    for features in crate::bench::BOTH {
        let mut bench = Bench::new(features);
        let out = bench.memory.alloc_with(b"abc").unwrap();
        let back = bench.memory.alloc(9).unwrap();
        for (parts, written) in
            [(vec![out.readable()], 0), (vec![out.readable(), back.writable()], 9)]
        {
            bench.send(&parts, Placement::Direct);
            bench.turn();
            assert_eq!(bench.reap()[0].written, written);
        }
    }
}
