//! The dirty log is shared: with other workers, and with the front-end, which clears it meanwhile.

use std::sync::Arc;

use framework::memory::{DirtyLog, GuestAddress};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::pread;

const PAGE: u64 = 4096;

/// vhost-user, "Migration": eight pages share a byte, and no mark gets lost.
#[test]
fn marks_that_are_set_at_once_are_all_there() {
    const BYTES: u64 = 4096;
    let file = memfd_create("log", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&file, BYTES).unwrap();
    let log = Arc::new(DirtyLog::map(&file, 0, BYTES).unwrap());
    let threads: Vec<_> = (0..8)
        .map(|n| {
            let log = Arc::clone(&log);
            std::thread::spawn(move || {
                for byte in 0..BYTES {
                    log.mark(GuestAddress((byte * 8 + n) * PAGE), 1);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let mut bits = vec![0; BYTES as usize];
    pread(&file, &mut bits, 0).unwrap();
    assert!(bits.iter().all(|byte| *byte == 0xff));
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
