//! Regions with holes, adjacent regions, the allocator, and what happens at the edges.

use super::*;

fn two_adjacent_and_a_hole() -> Memory {
    let specs = [
        RegionSpec::new(0x1_0000, PAGE_SIZE),
        RegionSpec { guest_addr: 0x1_1000, size: PAGE_SIZE, mmap_offset: 3 * PAGE_SIZE },
        RegionSpec::new(0x4_0000, 2 * PAGE_SIZE),
    ];
    Memory::with_regions(&specs).unwrap()
}

#[test]
fn copies_cross_adjacent_regions_but_no_hole() {
    let memory = two_adjacent_and_a_hole();
    let bytes: Vec<u8> = (0..200).collect();
    memory.write(0x1_0fa0, &bytes).unwrap();
    let mut back = [0; 200];
    memory.read(0x1_0fa0, &mut back).unwrap();
    assert_eq!(back[..], bytes);
    assert!(memory.write(0x1_1fa0, &bytes).is_err());
    assert!(memory.read(0xffff, &mut back).is_err());
    assert!(memory.read(u64::MAX, &mut back).is_err());
}

#[test]
fn an_area_lies_in_one_region() {
    let memory = two_adjacent_and_a_hole();
    assert!(memory.area(0x1_0fff, 1).is_ok());
    assert!(memory.area(0x1_0fff, 2).is_err());
    assert!(memory.area(u64::MAX, 2).is_err());
}

#[test]
fn what_is_written_stands_in_the_file_at_the_regions_offset() {
    let memory = two_adjacent_and_a_hole();
    memory.write(0x1_1000, b"here").unwrap();
    let file = std::fs::File::from(memory.file(0x1_1000).unwrap());
    let mut found = [0; 4];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut found, 3 * PAGE_SIZE).unwrap();
    assert_eq!(&found, b"here");
}

#[test]
fn regions_do_not_overlap() {
    let memory = two_adjacent_and_a_hole();
    let spec = RegionSpec::new(0x3_f000, 2 * PAGE_SIZE);
    assert!(matches!(memory.add_region(spec), Err(Error::Overlap(_))));
    assert_eq!(memory.regions().len(), 3);
}

#[test]
fn dropped_buffers_are_used_again() {
    let memory = Memory::new(2 * PAGE_SIZE).unwrap();
    for _ in 0..100 {
        let first = memory.alloc(4096).unwrap();
        let second = memory.alloc(4096).unwrap();
        assert!(matches!(memory.alloc(1), Err(Error::NoRoom(1))));
        assert_ne!(first.addr(), second.addr());
    }
}

#[test]
fn a_buffer_outlives_its_unplugged_region() {
    let memory = Memory::with_regions(&[RegionSpec::new(0, PAGE_SIZE)]).unwrap();
    let buffer = memory.alloc_with(b"kept").unwrap();
    memory.remove_region(0).unwrap();
    assert_eq!(buffer.to_vec(), b"kept");
    drop(buffer);
    assert!(memory.alloc(1).is_err());
}

#[test]
fn user_addresses_are_guest_addresses_moved() {
    let memory = two_adjacent_and_a_hole();
    let region = memory.regions()[2];
    assert_eq!(memory.user_addr(0x4_0123, 1).unwrap(), region.user_addr + 0x123);
}
