//! The in-flight region, byte by byte: what a device leaves there, and what it makes of what another
//! one has left.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use framework::memory::Mapping;
use framework::worker::InFlightArea;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::{pread, pwrite};
use virtio_spec::features::RING_PACKED;
use virtio_spec::packed::Position;
use virtio_spec::vhost_user::inflight::{
    DescStatePacked, DescStateSplit, QueueRegionPacked, QueueRegionSplit, VERSION, region_size,
};

use crate::bench::{BOTH, Bench};

const SIZE: u16 = 8;

/// A region for one ring, of which the test keeps the file.
struct Region(OwnedFd);

impl Region {
    fn new(packed: bool) -> Self {
        let file = memfd_create("in-flight", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, region_size(packed, SIZE) as u64).unwrap();
        Region(file)
    }

    fn area(&self) -> InFlightArea {
        let len = rustix::fs::fstat(&self.0).unwrap().st_size as u64;
        let mapping = Arc::new(Mapping::shared(&self.0, 0, len).unwrap());
        InFlightArea { mapping, offset: 0, size: SIZE }
    }

    fn read<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut bytes = [0; N];
        assert_eq!(pread(&self.0, &mut bytes, at as u64).unwrap(), N);
        bytes
    }

    fn write(&self, at: usize, bytes: &[u8]) {
        assert_eq!(pwrite(&self.0, bytes, at as u64).unwrap(), bytes.len());
    }

    fn split(&self) -> QueueRegionSplit {
        QueueRegionSplit::from_bytes(&self.read(0))
    }

    fn split_state(&self, head: u16) -> DescStateSplit {
        DescStateSplit::from_bytes(&self.read(split_at(head)))
    }

    fn packed(&self) -> QueueRegionPacked {
        QueueRegionPacked::from_bytes(&self.read(0))
    }

    fn packed_state(&self, entry: u16) -> DescStatePacked {
        let at = QueueRegionPacked::SIZE + usize::from(entry) * DescStatePacked::SIZE;
        DescStatePacked::from_bytes(&self.read(at))
    }
}

fn split_at(head: u16) -> usize {
    QueueRegionSplit::SIZE + usize::from(head) * DescStateSplit::SIZE
}

/// A started ring that holds what it takes, and its region.
fn tracked(features: &[u32]) -> (Bench, Region) {
    let region = Region::new(features.contains(&RING_PACKED));
    let mut bench = Bench::stopped(SIZE, features, Some(region.area()));
    bench.plan.lock().at_once = false;
    bench.start();
    (bench, region)
}

/// vhost-user, "Inflight I/O tracking".
#[test]
fn a_split_region_tells_what_is_in_flight_and_in_which_order() {
    let (mut bench, region) = tracked(&[]);
    assert_eq!((region.split().version, region.split().desc_num), (VERSION, SIZE));
    assert_eq!(region.split().features, 0);
    let sent = bench.send_empty(4);
    bench.turn();
    let states: Vec<_> = sent.iter().map(|token| region.split_state(token.0)).collect();
    assert!(states.iter().all(|state| state.inflight == 1));
    assert!(states.windows(2).all(|pair| pair[0].counter < pair[1].counter), "{states:?}");
    bench.plan.lock().end = vec![2, 0];
    bench.turn();
    let in_flight = |n: usize| region.split_state(sent[n].0).inflight;
    assert_eq!([0, 1, 2, 3].map(in_flight), [0, 1, 0, 1]);
    assert_eq!(region.split().used_idx, 2);
    // The list of the last batch, last one first.
    assert_eq!(region.split().last_batch_head, sent[0].0);
    assert_eq!(region.split_state(sent[0].0).next, sent[2].0);
}

/// vhost-user, "Inflight I/O tracking".
#[test]
fn a_packed_region_keeps_descriptors_and_positions() {
    let (mut bench, region) = tracked(&[RING_PACKED]);
    assert_eq!((region.packed().version, region.packed().desc_num), (VERSION, SIZE));
    let buffers: Vec<_> = (0..3).map(|n| bench.memory.alloc(16 + n).unwrap()).collect();
    let parts = [buffers[0].readable(), buffers[1].readable(), buffers[2].writable()];
    let first = bench.send(&parts, driver::Placement::Direct);
    let second = bench.send_empty(1)[0];
    bench.turn();
    let head = region.packed_state(0);
    assert_eq!((head.inflight, head.num, head.last), (1, 3, 2));
    let listed: Vec<_> = (0..3).map(|entry| region.packed_state(entry)).collect();
    for (state, buffer) in listed.iter().zip(&buffers) {
        assert_eq!((state.addr, state.len as usize), (buffer.addr(), buffer.len()));
        assert_eq!(state.id, first.0);
    }
    let other = region.packed_state(3);
    assert_eq!((other.inflight, other.num, other.id), (1, 1, second.0));
    assert!(head.counter < other.counter);

    bench.plan.lock().end = vec![1];
    bench.turn();
    let now = region.packed();
    assert_eq!(region.packed_state(3).inflight, 0);
    assert_eq!((now.used_idx, now.old_used_idx), (1, 1), "one descriptor was used");
    assert_eq!((now.free_head, now.old_free_head), (3, 3));
    assert_eq!(region.packed_state(0).inflight, 1);
}

/// vhost-user, "Inflight I/O tracking": what another device had taken comes again, in the order in
/// which it was taken, and is not taken a second time.
#[test]
fn what_was_in_flight_is_given_out_again_in_its_order() {
    for features in BOTH {
        let (mut bench, _region) = tracked(features);
        let bytes: Vec<_> = (0..4_u8).map(|n| bench.memory.alloc_with(&[n]).unwrap()).collect();
        for byte in &bytes {
            bench.send(&[byte.readable()], driver::Placement::Direct);
        }
        bench.turn();
        bench.plan.lock().end = vec![1];
        bench.turn();
        bench.replace_device();
        bench.start();
        bench.plan.lock().at_once = true;
        bench.send(&[bytes[1].readable()], driver::Placement::Direct);
        bench.turn();
        assert_eq!(bench.plan.lock().read.concat(), [0, 2, 3, 1], "{features:?}");
        assert_eq!(bench.reap().len(), 5);
    }
}

/// vhost-user, "Inflight I/O tracking": the order is that of the counters, whoever wrote them.
#[test]
fn the_counters_of_another_back_end_are_followed() {
    let region = Region::new(false);
    let mut bench = Bench::stopped(SIZE, &[], Some(region.area()));
    let bytes: Vec<_> = (0..3_u8).map(|n| bench.memory.alloc_with(&[n]).unwrap()).collect();
    let heads: Vec<u16> = bytes
        .iter()
        .map(|byte| bench.send(&[byte.readable()], driver::Placement::Direct).0)
        .collect();
    let header = QueueRegionSplit { version: VERSION, desc_num: SIZE, ..Default::default() };
    region.write(0, &header.to_bytes());
    for (head, counter) in heads.iter().zip([70_000, 5, 60]) {
        let state = DescStateSplit { inflight: 1, counter, ..Default::default() };
        region.write(split_at(*head), &state.to_bytes());
    }
    bench.start();
    bench.turn();
    assert_eq!(bench.plan.lock().read.concat(), [1, 2, 0]);
    assert_eq!(bench.reap().len(), 3);
}

/// vhost-user, "Inflight I/O tracking": the batch was shown to the driver, and the device died before
/// it had noted that.
#[test]
fn a_batch_that_was_shown_before_the_end_is_not_done_again() {
    let region = Region::new(false);
    let mut bench = Bench::stopped(SIZE, &[], Some(region.area()));
    bench.start();
    bench.plan.lock().at_once = false;
    let sent = bench.send_empty(3);
    bench.turn();
    bench.plan.lock().end = vec![0, 2];
    bench.turn();
    // As it was before the last two steps of the batch.
    let header = QueueRegionSplit { used_idx: 0, ..region.split() };
    region.write(0, &header.to_bytes());
    for n in [0, 2] {
        let state = DescStateSplit { inflight: 1, ..region.split_state(sent[n].0) };
        region.write(split_at(sent[n].0), &state.to_bytes());
    }
    bench.replace_device();
    bench.start();
    bench.turn();
    assert_eq!(bench.plan.lock().read.len(), 1, "the second is the only one in flight");
    assert_eq!(region.split().used_idx, 2);
    assert_eq!([0, 1, 2].map(|n| region.split_state(sent[n].0).inflight), [0, 1, 0]);
}

/// vhost-user, "Inflight I/O tracking": of a batch that the driver was not shown, nothing happened.
#[test]
fn a_packed_batch_that_was_not_shown_is_rolled_back() {
    let (mut bench, region) = tracked(&[RING_PACKED]);
    bench.send_empty(2);
    bench.turn();
    // The first list was put back and the index moved; the descriptor is as the driver wrote it.
    let before = region.packed();
    let header = QueueRegionPacked { used_idx: 1, free_head: 0, ..before };
    region.write(0, &header.to_bytes());
    bench.replace_device();
    bench.start();
    bench.plan.lock().at_once = true;
    bench.turn();
    assert_eq!(bench.plan.lock().read.len(), 2, "both are still in flight");
    assert_eq!(bench.reap().len(), 2);
    let now = region.packed();
    let at = Position { index: now.used_idx, wrap: now.used_wrap_counter != 0 };
    assert_eq!(at, Position { index: 2, wrap: true });
}
