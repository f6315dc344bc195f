//! The dirty log, and the device's state (vhost-user, "Migration").

use driver::{BlockQueue, Buffer, Disk, Operation, PAGE_SIZE, Queue};
use virtio_spec::block::{Config, WRITEBACK_OFFSET};
use virtio_spec::features::{RING_PACKED, mask};

use crate::back_end::{BOTH, BackEnd, USUAL};

/// Guest addresses of the pages that hold a range.
fn pages(addr: u64, len: usize) -> Vec<u64> {
    let first = addr / PAGE_SIZE;
    let last = (addr + len as u64 - 1) / PAGE_SIZE;
    (first..=last).map(|page| page * PAGE_SIZE).collect()
}

/// What the device has written is marked, and nothing else; the ring's own pages are marked if that was
/// asked for.
#[test]
fn pages_that_the_device_writes_are_marked() {
    for wanted in BOTH {
        for with_ring in [false, true] {
            let mut back_end = BackEnd::start().negotiated(wanted);
            let queue = back_end.queue(64);
            let ring = written_part(&queue, wanted & mask(RING_PACKED) != 0);
            // No buffer shares a page with the ring.
            let _between = fill_page(&back_end, *ring.last().unwrap());
            let base = queue.reaped_base();
            let events = back_end.front_end.start_ring(0, &queue, base).unwrap();
            let log = back_end.front_end.start_log().unwrap();
            back_end.front_end.log_ring(0, &queue, with_ring).unwrap();
            let mut disk = Disk::new(BlockQueue::new(queue, &back_end.memory), events);
            disk.flush().unwrap();
            let _ = log.take();
            let before = snapshot(&back_end);
            disk.write(0, &[9; 39 * 512]).unwrap();
            disk.read(100, 40 * 512).unwrap();
            // Stopped, so that nothing is on its way.
            back_end.front_end.stop_ring(0).unwrap();
            let (marked, after) = (log.take(), snapshot(&back_end));
            let changed = |page: &u64| {
                let at = *page as usize;
                before[at..at + PAGE_SIZE as usize] != after[at..at + PAGE_SIZE as usize]
            };
            assert!(marked.iter().all(changed), "{marked:x?}: some were not written at all");
            let (of_ring, of_buffers): (Vec<u64>, _) =
                marked.into_iter().partition(|page| ring.contains(page));
            assert!(of_buffers.len() >= 5, "{of_buffers:x?}");
            assert_eq!(!of_ring.is_empty(), with_ring, "{of_ring:x?}");
            back_end.end();
        }
    }
}

/// Pages of a ring that the device writes.
fn written_part(queue: &Queue, packed: bool) -> Vec<u64> {
    let at = queue.addresses();
    let mut pages = if packed {
        [pages(at.descriptor, 64 * 16), pages(at.device, 4)].concat()
    } else {
        pages(at.device, 6 + 64 * 8)
    };
    pages.sort_unstable();
    pages
}

/// Takes what is left of a page.
fn fill_page(back_end: &BackEnd, page: u64) -> Vec<Buffer> {
    let alloc = || back_end.memory.alloc(16).unwrap();
    std::iter::from_fn(|| Some(alloc()).filter(|buffer| buffer.addr() < page + PAGE_SIZE)).collect()
}

/// The entries of a ring that lies on several pages, not only what asks for kicks in front of it.
#[test]
fn each_page_of_a_ring_is_marked_when_it_is_written() {
    const SIZE: u16 = 1024;
    for wanted in BOTH {
        let mut back_end = BackEnd::start().negotiated(wanted);
        let queue = back_end.queue(SIZE);
        let at = queue.addresses();
        let entries = if wanted & mask(RING_PACKED) != 0 {
            pages(at.descriptor, usize::from(SIZE) * 16)
        } else {
            pages(at.device + 4, usize::from(SIZE) * 8)
        };
        let events = back_end.front_end.start_ring(0, &queue, queue.reaped_base()).unwrap();
        let log = back_end.front_end.start_log().unwrap();
        back_end.front_end.log_ring(0, &queue, true).unwrap();
        let mut disk = Disk::new(BlockQueue::new(queue, &back_end.memory), events);
        for _ in 0..SIZE / 32 {
            disk.submit_all(vec![Operation::Flush; 32]).unwrap();
            disk.wait_for_all().unwrap();
        }
        back_end.front_end.stop_ring(0).unwrap();
        let marked = log.take();
        assert!(entries.iter().all(|page| marked.contains(page)), "{entries:x?}: {marked:x?}");
        back_end.end();
    }
}

fn snapshot(back_end: &BackEnd) -> Vec<u8> {
    let region = back_end.memory.regions()[0];
    back_end.memory.area(region.guest_addr, region.size as usize).unwrap().to_vec()
}

/// SET_FEATURES without LOG_ALL ends the logging, with rings running.
#[test]
fn logging_ends_when_it_is_switched_off() {
    for wanted in BOTH {
        let mut back_end = BackEnd::start().negotiated(wanted);
        let queue = back_end.queue(64);
        let base = queue.reaped_base();
        let events = back_end.front_end.start_ring(0, &queue, base).unwrap();
        let log = back_end.front_end.start_log().unwrap();
        let mut disk = Disk::new(BlockQueue::new(queue, &back_end.memory), events);
        disk.read(1, 512).unwrap();
        assert!(!log.take().is_empty());
        back_end.front_end.set_log_all(false).unwrap();
        let _ = log.take();
        disk.read(2, 512).unwrap();
        assert!(log.take().is_empty());
        back_end.front_end.set_log_all(true).unwrap();
        disk.read(3, 512).unwrap();
        assert!(!log.take().is_empty());
        back_end.end();
    }
}

/// "Migrating back-end state": what the driver has set goes along, and it need not set it again.
#[test]
fn the_drivers_cache_mode_moves_with_the_device() {
    let writeback = |back_end: &mut BackEnd| {
        let bytes = back_end.front_end.read_config(0, Config::SIZE as u32).unwrap();
        Config::from_prefix(&bytes).unwrap().writeback
    };
    let mut from = BackEnd::start().negotiated(USUAL);
    from.front_end.write_config(WRITEBACK_OFFSET as u32, &[0]).unwrap();
    let mut disk = from.disk(0);
    disk.run(Operation::Flush).unwrap().into_data().unwrap();
    from.front_end.stop_ring(0).unwrap();
    let state = from.front_end.save_state().unwrap();

    let mut to = BackEnd::start().negotiated(USUAL);
    assert_eq!(writeback(&mut to), 1);
    to.front_end.load_state(&state).unwrap();
    assert_eq!(writeback(&mut to), 0);
    assert!(to.front_end.load_state(&state[..state.len() - 1]).is_err());
    assert!(to.front_end.load_state(b"something else").is_err());
    assert_eq!(writeback(&mut to), 0, "nothing has changed");
    to.end();
    from.end();
}
