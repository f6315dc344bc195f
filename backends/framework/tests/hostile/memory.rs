//! Classes about guest memory: where it ends, and what happens when it goes.

use std::sync::Arc;

use driver::{Memory, Part, Placement, Queue, RegionSpec};
use framework::memory::{Mapping, MemoryTable, Region};
use framework::worker::{Answer, Command};

use crate::bench::{Bench, features};

const LOW: u64 = 0x1000_0000;
const SIZE: u64 = 0x4_0000;
const MEETING: u64 = LOW + SIZE;
const APART: u64 = MEETING + SIZE + 0x10_0000;

/// Two regions that meet, and one apart; the ring is in the first.
fn bench() -> Bench {
    let regions = [LOW, MEETING, APART].map(|start| RegionSpec::new(start, SIZE));
    Bench::with_memory(Memory::with_regions(&regions).unwrap())
}

fn is_done(answer: &Answer) -> bool {
    matches!(answer, Answer::Done)
}

/// CVE-2018-1059.
#[test]
fn a_guest_range_that_spans_two_regions_treated_as_contiguous() {
    for packed in [false, true] {
        let mut bench = bench();
        let mut queue = bench.ring(0, 8, features(packed, &[]));
        let read = MEETING - 5;
        bench.memory.write(read, b"over the edge").unwrap();
        let written = MEETING - 3 + 0x100;
        queue
            .add(&[Part::readable(read, 13), Part::writable(written, 8)], Placement::Direct)
            .unwrap();
        queue.add(&[Part::writable(MEETING - 4, 8)], Placement::Direct).unwrap();
        queue.publish();
        assert_eq!(bench.failure(), None);
        assert_eq!(bench.taken(), [(b"over the edge".to_vec(), 8), (vec![], 8)]);
        let mut bytes = [0; 10];
        bench.memory.read(MEETING - 5, &mut bytes).unwrap();
        assert_eq!(bytes[1..9], [0x5a; 8]);
        assert_eq!((bytes[0], bytes[9]), (b'o', b'e'));

        // Where a hole follows there is nothing to go on in.
        queue.add(&[Part::writable(MEETING + SIZE - 4, 8)], Placement::Direct).unwrap();
        queue.publish();
        assert!(bench.failure().unwrap().contains("not in guest memory"));
    }
}

/// A ring needs one mapping for each of its areas; a buffer does not.
#[test]
fn a_ring_that_spans_two_regions() {
    for packed in [false, true] {
        let mut bench = bench();
        let features = features(packed, &[]);
        let queue = Queue::new(&bench.memory, 8, features).unwrap();
        for area in 0..3 {
            let mut setup = bench.setup(0, &queue, features);
            let at = [&mut setup.descriptors, &mut setup.driver, &mut setup.device];
            let end = bench.memory.user_addr(MEETING - 16, 16).unwrap();
            // The last bytes of a packed ring's event structures still fit.
            at[area].0 = if packed && area > 0 { end + 14 } else { end };
            assert!(bench.start(setup).unwrap_err().contains("not in guest memory"));
        }
        for misaligned in 0..3 {
            let mut setup = bench.setup(0, &queue, features);
            let at = [&mut setup.descriptors, &mut setup.driver, &mut setup.device];
            at[misaligned].0 += 1;
            assert!(bench.start(setup).unwrap_err().contains("not aligned"));
        }
    }
}

/// Lengths and addresses at the very end of what 64 bits can say.
#[test]
fn addresses_that_wrap_around() {
    for (addr, len) in [(u64::MAX, 1), (u64::MAX - 7, 8), (u64::MAX, u32::MAX), (0, u32::MAX)] {
        let mut bench = bench();
        let mut queue = bench.ring(0, 8, features(false, &[]));
        queue.add(&[Part::writable(addr, len)], Placement::Direct).unwrap();
        queue.publish();
        assert!(bench.failure().unwrap().contains("not in guest memory"));
        assert!(bench.taken().is_empty());
    }
}

/// CVE-2026-45782: what is in flight keeps its mapping, and REM_MEM_REG's answer waits for it.
#[test]
fn an_asynchronous_operation_outlives_its_buffer_or_mapping() {
    for packed in [false, true] {
        let mut bench = bench();
        bench.hold(true);
        let mut queue = bench.ring(0, 8, features(packed, &[]));
        let area = bench.memory.area(APART, 16).unwrap();
        queue.add(&[Part::writable(APART, 16)], Placement::Direct).unwrap();
        queue.publish();
        bench.turns();
        bench.memory.remove_region(APART).unwrap();
        let table = bench.table();
        bench.command(Command::Memory { table, release: true });
        bench.turns();
        assert!(!bench.answers().iter().any(is_done), "the region is still in use");
        bench.hold(false);
        bench.turns();
        assert!(bench.answers().iter().any(is_done));
        assert_eq!(area.to_vec(), [0x5a; 16], "it was written where it was asked to be");
        assert!(queue.reap().unwrap().is_some());
    }
}

/// rust-vmm vhost-user-backend: rings go on in the new table, and where they are not in it they fail
/// instead of going on in what may be unmapped.
#[test]
fn memory_table_replaced_while_rings_run() {
    for packed in [false, true] {
        let mut bench = bench();
        let mut queue = bench.ring(0, 8, features(packed, &[]));
        for round in 0..20 {
            let buffer = bench.memory.alloc(16).unwrap();
            bench.hold(round % 2 == 0);
            queue.add(&[buffer.writable()], Placement::Direct).unwrap();
            queue.publish();
            bench.turns();
            let table = bench.table();
            bench.command(Command::Memory { table, release: false });
            assert!(bench.answers().iter().any(is_done));
            bench.hold(false);
            assert_eq!(bench.failure(), None);
            assert_eq!(buffer.to_vec(), [0x5a; 16]);
            assert!(queue.reap().unwrap().is_some());
        }
        // Chains in flight end even when the ring's own memory is taken away.
        bench.hold(true);
        queue.add(&[Part::writable(APART, 16)], Placement::Direct).unwrap();
        queue.publish();
        bench.turns();
        let mapping = Arc::new(Mapping::owned(4096).unwrap());
        let elsewhere = Region::over(
            framework::memory::GuestAddress(0),
            framework::memory::UserAddress(0),
            mapping,
        );
        for table in [MemoryTable::default(), MemoryTable::new(vec![elsewhere.unwrap()]).unwrap()] {
            bench.command(Command::Memory { table: Arc::new(table), release: false });
        }
        assert!(bench.failure().unwrap().contains("the ring is not in guest memory"));
        bench.hold(false);
        bench.turns();
        bench.stop(0);
    }
}

/// A region that is removed and added again under the ring: it has failed, and stays so.
#[test]
fn a_failed_ring_stays_failed_until_it_is_started() {
    let mut bench = bench();
    let mut queue = bench.ring(0, 8, features(false, &[]));
    bench.command(Command::Memory { table: Arc::default(), release: true });
    assert!(bench.failure().is_some());
    let table = bench.table();
    bench.command(Command::Memory { table, release: false });
    let buffer = bench.memory.alloc(8).unwrap();
    queue.add(&[buffer.writable()], Placement::Direct).unwrap();
    queue.publish();
    assert_eq!(bench.failure(), None);
    assert!(bench.taken().is_empty());
    bench.stop(0);
    let setup = bench.setup(0, &queue, features(false, &[]));
    bench.start(setup).unwrap();
    bench.turns();
    assert_eq!(bench.taken().len(), 1);
}
