//! The dirty log holds each page of guest memory that the device changes: data, status, the used
//! ring, and what asks for kicks. One page too few is lost in a migration.
#![expect(clippy::cast_possible_truncation, reason = "the numbers of these tests are small")]

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use driver::{Memory, Part, Placement, Queue};
use rustix::io::{pread, pwrite};
use virtio_spec::features::{
    EVENT_IDX, IN_ORDER, INDIRECT_DESC, Negotiated, RING_PACKED, VERSION_1, mask,
};
use virtio_spec::vhost_user::inflight::region_size;

use super::{Call, Chain, Ring};
use crate::memory::{DirtyLog, GuestAddress, Mapping, MemoryTable, Region, UserAddress};
use crate::stats::QueueStats;
use crate::worker::{InFlightArea, RingSetup};

const PAGE: u64 = 4096;
/// Bytes of the log.
const LOG: usize = 4096;
/// Its used ring has several pages.
const SIZE: u16 = 512;

/// A driver, a ring that logs, and what guest memory looked like when it was looked at last.
struct Bench {
    memory: Memory,
    queue: Queue,
    ring: Ring,
    log: OwnedFd,
    before: Vec<u8>,
}

impl Bench {
    fn new(features: &[u32], tracked: bool) -> Self {
        let features = features.iter().fold(mask(VERSION_1), |bits, one| bits | mask(*one));
        let features = Negotiated::assume(features);
        let memory = Memory::new(128 << 10).unwrap();
        let queue = Queue::new(&memory, SIZE, features).unwrap();
        let (log, _) = Mapping::memfd("log", LOG as u64).unwrap();
        let in_flight = tracked.then(|| {
            let size = region_size(features.has(RING_PACKED), SIZE);
            let mapping = Arc::new(Mapping::owned(size).unwrap());
            InFlightArea { mapping, offset: 0, size: SIZE }
        });
        let at = queue.addresses();
        let user = |addr| UserAddress(memory.user_addr(addr, 1).unwrap());
        let setup = RingSetup {
            queue: 0,
            size: SIZE,
            features,
            descriptors: user(at.descriptor),
            driver: user(at.driver),
            device: user(at.device),
            base: queue.reaped_base(),
            memory: table(&memory),
            log: Some(Arc::new(DirtyLog::map(&log, 0, LOG as u64).unwrap())),
            used_log: Some(at.device),
            in_flight,
            kick: None,
            call: Call::None,
            error: None,
            enabled: true,
            serve_disabled: false,
        };
        let ring = Ring::start(setup, QueueStats::new()).unwrap();
        let mut bench = Bench { memory, queue, ring, log, before: Vec::new() };
        bench.check("the start");
        bench
    }

    /// The driver sends a chain; what the device is to write lies on pages of its own.
    fn send(&mut self) {
        let Bench { memory, queue, .. } = self;
        let header = memory.alloc(16).unwrap();
        let data = memory.alloc_aligned(3 * PAGE as usize, PAGE).unwrap();
        let status = memory.alloc_aligned(1, PAGE).unwrap();
        // It neither begins nor ends where a page does.
        let middle = Part { addr: data.addr() + 100, len: 2 * PAGE as u32, ..data.writable() };
        queue.add(&[header.readable(), middle, status.writable()], Placement::Direct).unwrap();
        queue.publish();
        let region = memory.regions()[0];
        self.before = memory.area(region.guest_addr, region.size as usize).unwrap().to_vec();
    }

    /// The device's part, as the block device does a read in two steps.
    fn serve(&mut self) {
        let ring = &mut self.ring;
        let chain: Chain = ring.take().unwrap();
        assert!(ring.take_status(&chain));
        let len = ring.writable_len(&chain);
        ring.write(&chain, 0, &vec![0xaa; len]);
        ring.advance_writable(&chain, len / 2);
        ring.complete_with_status(chain, 0x55, 1);
        ring.publish();
    }

    /// Each page that has changed is in the log, which is then cleared.
    fn check(&mut self, after: &str) {
        let region = self.memory.regions()[0];
        let now = self.memory.area(region.guest_addr, region.size as usize).unwrap().to_vec();
        let pages = now.chunks(PAGE as usize).zip(self.before.chunks(PAGE as usize)).enumerate();
        let first = region.guest_addr / PAGE;
        let changed: BTreeSet<u64> =
            pages.filter(|(_, (now, old))| now != old).map(|(n, _)| first + n as u64).collect();
        let mut bits = [0; LOG];
        pread(&self.log, &mut bits, 0).unwrap();
        pwrite(&self.log, &[0; LOG], 0).unwrap();
        let is_marked = |page: &u64| bits[*page as usize / 8] & 1 << (page % 8) != 0;
        let missing: Vec<u64> = changed.into_iter().filter(|page| !is_marked(page)).collect();
        assert!(missing.is_empty(), "after {after}: {missing:x?} of {:x?}", self.queue.addresses());
        self.before = now;
    }
}

fn table(memory: &Memory) -> Arc<MemoryTable> {
    let regions = memory.regions().into_iter().map(|r| {
        let fd = memory.file(r.guest_addr).unwrap();
        let (guest, user) = (GuestAddress(r.guest_addr), UserAddress(r.user_addr));
        Region::map(guest, user, r.size, fd, r.mmap_offset).unwrap()
    });
    Arc::new(MemoryTable::new(regions.collect()).unwrap())
}

/// Every kind of ring, once around; vhost-user, "Migration".
#[test]
fn pages_that_change_are_marked() {
    for layout in [&[][..], &[RING_PACKED]] {
        for extension in [&[][..], &[EVENT_IDX], &[IN_ORDER, INDIRECT_DESC]] {
            for tracked in [false, true] {
                let mut bench = Bench::new(&[layout, extension].concat(), tracked);
                for _ in 0..SIZE {
                    bench.send();
                    bench.ring.disable_kicks();
                    bench.check("asking for no kicks");
                    bench.serve();
                    bench.check("a chain");
                    bench.ring.enable_kicks();
                    bench.check("asking for kicks");
                    while bench.queue.reap().unwrap().is_some() {}
                }
                assert_eq!(bench.ring.fault(), None);
            }
        }
    }
}
