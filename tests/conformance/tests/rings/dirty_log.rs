//! The dirty log is shared: with other workers, and with the front-end, which clears it meanwhile.

use std::sync::Barrier;

use framework::memory::{DirtyLog, GuestAddress};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::pread;

const PAGE: u64 = 4096;

/// vhost-user, "Migration": eight pages share a byte, and no mark gets lost.
#[test]
fn marks_that_are_set_at_once_are_all_there() {
    const BYTES: u64 = 16 << 10;
    let file = memfd_create("log", MemfdFlags::CLOEXEC).unwrap();
    for _ in 0..20 {
        ftruncate(&file, 0).unwrap();
        ftruncate(&file, BYTES).unwrap();
        let log = DirtyLog::map(&file, 0, BYTES).unwrap();
        let begin = Barrier::new(2);
        let mark_every_other = |first| {
            begin.wait();
            for page in (first..BYTES * 8).step_by(2) {
                log.mark(GuestAddress(page * PAGE), 1);
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| mark_every_other(0));
            scope.spawn(|| mark_every_other(1));
        });
        let mut bits = vec![0; BYTES as usize];
        pread(&file, &mut bits, 0).unwrap();
        assert!(bits.iter().all(|byte| *byte == 0xff));
    }
}

/// vhost-user, "Migration": a range marks each page that it touches, bit `page % 8` of byte
/// `page / 8`, and nothing is marked behind the end of the log.
#[test]
fn a_range_marks_the_pages_that_it_touches() {
    let file = memfd_create("log", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&file, 2 * PAGE).unwrap();
    let log = DirtyLog::map(&file, PAGE, 2).unwrap();
    log.mark(GuestAddress(PAGE - 1), 2);
    log.mark(GuestAddress(9 * PAGE + 5), 0);
    log.mark(GuestAddress(10 * PAGE), PAGE);
    log.mark(GuestAddress(15 * PAGE), 100 * PAGE);
    log.mark(GuestAddress(u64::MAX), 1);
    let mut bytes = [0; 4];
    pread(&file, &mut bytes, PAGE).unwrap();
    assert_eq!(bytes, [0b11, 0b1000_0100, 0, 0]);
}
