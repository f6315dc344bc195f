//! Memory of real huge pages: only whole ones go back, and the host's own pool says so.

use std::fs;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use driver::Part;
use framework::memory::{GuestAddress, Mapping, MemoryTable, Region, UserAddress};
use outrigger_balloon::balloon::Balloon;
use outrigger_balloon::counts::Counts;
use outrigger_balloon::pages::Run;
use rustix::fs::{MemfdFlags, fstat, ftruncate, memfd_create};
use virtio_spec::balloon::MUST_TELL_HOST;
use virtio_spec::features::{Negotiated, mask};

use crate::guest::{Guest, PAGE, pages};

/// Bytes of a huge page.
const HUGE: u64 = 2 << 20;
/// Pages of 4 KiB in one.
const IN_HUGE: u64 = HUGE / PAGE;
/// Huge pages of the memory.
const COUNT: u64 = 4;
/// Where it is.
const START: u64 = 1 << 30;
/// With statistics, the reporting queue is the fourth.
const REPORTING: usize = 3;
const POOL: &str = "/proc/sys/vm/nr_hugepages";

/// Huge pages that were added to the host's pool, for as long as this lives.
struct Reserved(u64);

impl Reserved {
    fn new(count: u64) -> Option<Self> {
        let now = pool()?;
        fs::write(POOL, (now + count).to_string()).ok()?;
        let reserved = Reserved(pool()?.saturating_sub(now));
        (reserved.0 == count).then_some(reserved)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let _ = fs::write(POOL, pool().unwrap_or(self.0).saturating_sub(self.0).to_string());
    }
}

fn pool() -> Option<u64> {
    fs::read_to_string(POOL).ok()?.trim().parse().ok()
}

#[test]
fn only_whole_huge_pages_go_back() {
    let Some(_reserved) = Reserved::new(COUNT) else {
        eprintln!(
            "SKIPPED only_whole_huge_pages_go_back: {POOL} gives no huge pages: run it as root"
        );
        return;
    };
    // One after the other: the pool is the whole machine's.
    at_the_balloon();
    by_the_rings();
}

/// Memory of huge pages that are all in use: to be given away, and to be looked at.
fn huge_pages() -> (OwnedFd, OwnedFd) {
    let file = memfd_create("huge", MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB).unwrap();
    ftruncate(&file, COUNT * HUGE).unwrap();
    let own = file.try_clone().unwrap();
    let mapping = Mapping::shared(&own, 0, COUNT * HUGE).unwrap();
    mapping.write(0, &vec![0x5a; mapping.len()]);
    assert_eq!(blocks(&own), COUNT * HUGE);
    (file, own)
}

/// Bytes that a file has in memory.
fn blocks(file: &OwnedFd) -> u64 {
    u64::try_from(fstat(file).unwrap().st_blocks).unwrap() * 512
}

fn by_the_rings() {
    let (file, own) = huge_pages();
    let mut guest = Guest::usual();
    guest.plug(START, COUNT * HUGE, file);
    // Half of the first page, and the whole of the second.
    guest.inflate(&pages(START + HUGE / 2, IN_HUGE + IN_HUGE / 2));
    assert_eq!((blocks(&own), guest.stat("returned_bytes")), ((COUNT - 1) * HUGE, HUGE));
    assert_eq!(guest.stat("partial_bytes"), HUGE / 2);
    // What came out does not complete a page, what is inside does.
    guest.deflate(&pages(START + HUGE / 2, 1));
    guest.inflate(&pages(START, IN_HUGE / 2));
    assert_eq!(blocks(&own), (COUNT - 1) * HUGE);
    guest.inflate(&pages(START + HUGE / 2, 1));
    assert_eq!(blocks(&own), (COUNT - 2) * HUGE);
    // Of a report only what it names as a whole goes back.
    let report = |at, len| Part::writable(START + at, u32::try_from(len).unwrap());
    assert!(
        guest.offer(REPORTING, &[report(2 * HUGE + PAGE, HUGE - PAGE), report(3 * HUGE, HUGE)])
    );
    assert_eq!(blocks(&own), (COUNT - 3) * HUGE);
    assert_eq!(guest.stat("refused_holes"), 0);
}

fn at_the_balloon() {
    let (file, own) = huge_pages();
    let (guest, user) = (GuestAddress(START), UserAddress(START));
    let region = Region::map(guest, user, COUNT * HUGE, file, 0).unwrap();
    let blocks = || blocks(&own);
    let memory = Arc::new(MemoryTable::new(vec![region]).unwrap());
    let (mut balloon, counts) = (Balloon::new(0, None), Counts::default());
    balloon.begin(Negotiated::assume(mask(MUST_TELL_HOST)));
    balloon.use_memory(&memory);
    let first = START / PAGE;
    let run = |from, to| Run { start: first + from, end: first + to };

    // Half of the first, all of the second, one page of the third.
    balloon.inflate(&memory, &[run(IN_HUGE / 2, 2 * IN_HUGE + 1)], &counts);
    assert_eq!(blocks(), (COUNT - 1) * HUGE);
    assert_eq!((counts.returned_bytes.get(), counts.punched_bytes.get()), (HUGE, HUGE));
    assert_eq!(counts.partial_bytes.get(), (IN_HUGE / 2 + 1) * PAGE);
    // The other half completes the first.
    balloon.inflate(&memory, &[run(0, IN_HUGE / 2)], &counts);
    assert_eq!(blocks(), (COUNT - 2) * HUGE);
    // A report is nobody's business afterwards, so only what it names as a whole counts.
    balloon.report(&memory, &[run(2 * IN_HUGE + 1, 4 * IN_HUGE)], &counts);
    assert_eq!(blocks(), (COUNT - 3) * HUGE);
    assert_eq!(balloon.resident(), (COUNT - 3) * HUGE);
    assert_eq!(counts.refused_holes.get(), 0);
}
