//! Guest memory, of this machine's.

use proptest::prelude::*;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use vm_memory::{Bytes, GuestMemoryRegion};

use super::*;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

#[test]
fn small_memory_is_one_region_from_zero() {
    let memory = Memory::new(&Config::new(16 * MIB)).unwrap();
    let [region] = memory.regions() else { panic!("one region") };
    assert_eq!((region.start(), region.size(), region.offset()), (GuestAddress(0), 16 * MIB, 0));
    assert_eq!(memory.end(), GuestAddress(16 * MIB));
}

#[test]
fn large_memory_is_split_around_the_hole() {
    let memory = Memory::new(&Config::new(5 * GIB)).unwrap();
    let shape: Vec<_> =
        memory.regions().iter().map(|r| (r.start().0, r.size(), r.offset())).collect();
    assert_eq!(shape, [(0, 3 * GIB, 0), (4 * GIB, 2 * GIB, 3 * GIB)]);
    memory.guest().write_obj(7_u8, GuestAddress(4 * GIB)).unwrap();
    assert_eq!(memory.resident().unwrap(), 4096);
    assert!(memory.guest().write_obj(7_u8, GuestAddress(3 * GIB)).is_err());
}

#[test]
fn what_is_written_is_in_the_file() {
    let memory = Memory::new(&Config::new(MIB)).unwrap();
    memory.guest().write_slice(b"hello", GuestAddress(0x1000)).unwrap();
    let mut read = [0; 5];
    rustix::io::pread(memory.regions()[0].fd(), &mut read, 0x1000).unwrap();
    assert_eq!(&read, b"hello");
}

#[test]
fn nobody_can_resize_or_seal_the_file_but_holes_can_be_punched() {
    let memory = Memory::new(&Config::new(MIB)).unwrap();
    let fd = memory.regions()[0].fd();
    assert_eq!(rustix::fs::ftruncate(fd, 0), Err(Errno::PERM));
    assert_eq!(rustix::fs::ftruncate(fd, 2 * MIB), Err(Errno::PERM));
    assert_eq!(rustix::fs::fcntl_add_seals(fd, SealFlags::FUTURE_WRITE), Err(Errno::PERM));
    memory.guest().write_obj(7_u8, GuestAddress(0)).unwrap();
    assert_eq!(memory.allocated().unwrap(), 4096);
    rustix::fs::fallocate(fd, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, MIB)
        .unwrap();
    assert_eq!(memory.allocated().unwrap(), 0);
    assert_eq!(memory.guest().read_obj::<u8>(GuestAddress(0)).unwrap(), 0);
}

#[test]
fn untouched_memory_costs_nothing_and_prefaulted_memory_all() {
    let config = Config::new(8 * MIB);
    assert_eq!(Memory::new(&config).unwrap().allocated().unwrap(), 0);
    let prefaulted = Memory::new(&Config { prefault: true, ..config }).unwrap();
    assert_eq!(prefaulted.allocated().unwrap(), 8 * MIB);
    assert_eq!(prefaulted.resident().unwrap(), 8 * MIB);
}

#[test]
fn transparent_huge_pages_are_only_a_wish() {
    let config = Config { pages: Pages::Transparent, ..Config::new(8 * MIB) };
    let memory = Memory::new(&config).unwrap();
    memory.guest().write_obj(7_u8, GuestAddress(0)).unwrap();
    assert!(memory.allocated().unwrap() >= 4096);
}

#[test]
fn a_pool_without_huge_pages_is_an_error_with_advice() {
    let config = Config { pages: Pages::Huge2M, prefault: true, ..Config::new(1 << 40) };
    let error = Memory::new(&config).unwrap_err().to_string();
    assert!(error.contains("huge pages"), "{error}");
}

#[test]
fn the_regions_outlive_the_memory() {
    let region = Memory::new(&Config::new(MIB)).unwrap().regions()[0].clone();
    let mapping = region.mapping();
    let slice = mapping.get_slice(vm_memory::MemoryRegionAddress(0), 8).unwrap();
    assert_eq!(slice.len(), 8);
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    for size in [0, 1, 4095, 4097, u64::MAX, 1 << 47] {
        assert!(Memory::new(&Config::new(size)).is_err(), "{size}");
    }
    let huge = Config { pages: Pages::Huge1G, ..Config::new(GIB + 2 * MIB) };
    assert!(Memory::new(&huge).unwrap_err().to_string().contains("multiple"));
}

fn node(size: u64) -> Node {
    Node { size, host: None }
}

#[test]
fn nodes_must_add_up() {
    let config = Config { nodes: vec![node(MIB), node(MIB)], ..Config::new(3 * MIB) };
    assert!(Memory::new(&config).is_err());
    let config = Config { nodes: vec![node(MIB), node(2 * MIB)], ..config };
    let memory = Memory::new(&config).unwrap();
    assert_eq!(memory.regions().len(), 1);
    assert_eq!(memory.nodes()[1], NodeRange { node: 1, start: GuestAddress(MIB), size: 2 * MIB });
}

#[test]
fn a_node_of_the_host_provides_the_memory() {
    let host = |node| Some(HostNodes { nodes: vec![node], policy: NodePolicy::Bind });
    let config =
        |node| Config { nodes: vec![Node { size: MIB, host: host(node) }], ..Config::new(MIB) };
    match Memory::new(&config(0)) {
        Ok(memory) => memory.guest().write_obj(7_u8, GuestAddress(0)).unwrap(),
        Err(error) => assert!(error.to_string().contains("no NUMA"), "{error}"),
    }
    assert!(Memory::new(&config(63)).is_err());
    assert!(Memory::new(&config(64)).is_err());
}

proptest! {
    /// The nodes cover exactly the RAM, in order, each with its size.
    #[test]
    fn nodes_cover_the_ram(sizes in prop::collection::vec(1_u64..2 * GIB, 1..9)) {
        let nodes: Vec<Node> = sizes.iter().map(|&size| node(size)).collect();
        let ranges = numa::ranges(&nodes);
        for (number, &size) in (0..).zip(&sizes) {
            let sum: u64 = ranges.iter().filter(|r| r.node == number).map(|r| r.size).sum();
            prop_assert_eq!(sum, size);
        }
        let (low, high) = layout::ram(sizes.iter().sum());
        let mut at = low.start;
        for range in ranges {
            if at == low.end && range.start.0 != at {
                at = high.as_ref().map_or(at, |high| high.start);
            }
            prop_assert_eq!(range.start.0, at);
            at += range.size;
        }
        prop_assert_eq!(at, high.map_or(low.end, |high| high.end));
    }
}
