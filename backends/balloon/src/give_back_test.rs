use framework::memory::UserAddress;
use proptest::prelude::*;
use rustix::fs::MemfdFlags;

use super::*;

const HUGE: u64 = 2 << 20;
/// Pages of 4 KiB in a huge one.
const IN_HUGE: u64 = HUGE / PAGE_SIZE;

fn region(guest: u64, size: u64, offset: u64, flags: MemfdFlags) -> Region {
    let file = rustix::fs::memfd_create("region", flags).unwrap();
    rustix::fs::ftruncate(&file, offset + size).unwrap();
    Region::map(GuestAddress(guest), UserAddress(guest), size, file, offset).unwrap()
}

fn run(start: u64, end: u64) -> Run {
    Run { start, end }
}

/// Offsets and lengths of the holes, and what was left out.
fn found(memory: &MemoryTable, run: Run, unused: &[Run]) -> (Vec<(u64, u64)>, LeftOut) {
    let mut found = Vec::new();
    let is_unused =
        |page: Run| unused.iter().any(|run| run.start <= page.start && page.end <= run.end);
    let left_out = holes(memory, run, is_unused, &mut found);
    (found.iter().map(|hole| (hole.offset, hole.len)).collect(), left_out)
}

/// Four huge pages from the second gibibyte on; nothing is allocated.
fn huge() -> MemoryTable {
    let flags = MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
    MemoryTable::new(vec![region(1 << 30, 4 * HUGE, HUGE, flags)]).unwrap()
}

#[test]
fn a_hole_is_where_the_file_has_the_page() {
    let memory = vec![region(1 << 20, 1 << 20, 8192, MemfdFlags::empty())];
    let memory = MemoryTable::new(memory).unwrap();
    let (holes, left_out) = found(&memory, run(258, 260), &[]);
    assert_eq!((holes, left_out), (vec![(8192 + 2 * 4096, 8192)], LeftOut::default()));
    let (holes, left_out) = found(&memory, run(0, 257), &[]);
    assert_eq!((holes, left_out.outside), (vec![(8192, 4096)], 256));
}

#[test]
fn of_huge_pages_only_whole_ones_are_given_back() {
    let (memory, base) = (huge(), (1 << 30) / PAGE_SIZE);
    let (holes, left_out) = found(&memory, run(base + 1, base + 2 * IN_HUGE + 7), &[]);
    assert_eq!(holes, [(2 * HUGE, HUGE)]);
    assert_eq!(left_out.partial, (IN_HUGE - 1 + 7) * PAGE_SIZE);
    let (holes, left_out) = found(&memory, run(base, base + 256), &[]);
    assert_eq!((holes, left_out.partial), (vec![], 256 * PAGE_SIZE));
}

#[test]
fn pages_that_came_before_complete_a_huge_one() {
    let (memory, base) = (huge(), (1 << 30) / PAGE_SIZE);
    let unused = [run(base, base + IN_HUGE)];
    let (holes, _) = found(&memory, run(base + 256, base + IN_HUGE), &unused);
    assert_eq!(holes, [(HUGE, HUGE)]);
    // One that is in use keeps the whole of it.
    let unused = [run(base + 1, base + IN_HUGE)];
    assert!(found(&memory, run(base + 256, base + IN_HUGE), &unused).0.is_empty());
}

#[test]
fn memory_without_a_file_stays() {
    let mapping = Arc::new(framework::memory::Mapping::owned(8192).unwrap());
    let region = Region::over(GuestAddress(0), UserAddress(0), mapping).unwrap();
    let memory = MemoryTable::new(vec![region]).unwrap();
    let (holes, left_out) = found(&memory, run(0, 2), &[]);
    assert_eq!((holes, left_out), (vec![], LeftOut { outside: 0, partial: 8192 }));
}

proptest! {
    #[test]
    fn a_hole_of_huge_pages_has_only_pages_out_of_use(
        start in 0..5 * IN_HUGE, pages in 1..3 * IN_HUGE,
        (before, more) in (0..4 * IN_HUGE, 0..2 * IN_HUGE),
    ) {
        let (memory, base) = (huge(), (1 << 30) / PAGE_SIZE);
        let given = run(base + start, base + start + pages);
        // As in a balloon: what is given now is out of use too.
        let mut unused = vec![given, run(base + before, base + before + more)];
        crate::pages::merge_runs(&mut unused);
        for (offset, len) in found(&memory, given, &unused).0 {
            prop_assert!(offset % HUGE == 0 && len % HUGE == 0);
            let first = base + (offset - HUGE) / PAGE_SIZE;
            let hole = run(first, first + len / PAGE_SIZE);
            prop_assert!(first >= base && hole.end <= base + 4 * IN_HUGE);
            for page in hole.start..hole.end {
                prop_assert!(unused.iter().any(|run| run.start <= page && page < run.end));
            }
        }
    }
}
