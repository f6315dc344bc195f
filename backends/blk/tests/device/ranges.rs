//! Discard, write zeroes, secure erase.

use driver::Operation;
use framework::engine::Allocate::{PunchHole, ZeroRange};
use outrigger_blk::disk::MAIN;
use outrigger_blk::image::Medium as Kind;
use rustix::io::Errno;
use virtio_spec::block::{Segment, Status};

use crate::guest::{DISK, Guest, Setup, pattern};
use crate::medium::{Asked, Fault, When};

const KIB4: u64 = 4096;

fn zeroes(sector: u64, num_sectors: u32) -> Segment {
    Segment { sector, num_sectors, flags: 0 }
}

fn allocate(mode: framework::engine::Allocate, offset: u64, len: u64) -> Asked {
    Asked::Allocate { mode, offset, len }
}

fn asked(guest: &Guest) -> Vec<Asked> {
    std::mem::take(&mut guest.medium.lock().asked)
}

#[test]
fn files_punch_holes_and_zero_ranges() {
    let mut guest = Setup::default().start();
    assert_eq!(guest.status(Operation::discard(8, 8)), Status::Ok);
    assert_eq!(guest.status(Operation::write_zeroes(8, 8, true)), Status::Ok);
    assert_eq!(guest.status(Operation::write_zeroes(8, 8, false)), Status::Ok);
    let punch = allocate(PunchHole, KIB4, KIB4);
    assert_eq!(asked(&guest), [punch, punch, allocate(ZeroRange, KIB4, KIB4)]);
}

#[test]
fn block_devices_have_operations_of_their_own() {
    let mut guest = Setup::of(Kind::BlockDevice).start();
    for operation in [
        Operation::discard(8, 8),
        Operation::write_zeroes(8, 8, true),
        Operation::write_zeroes(8, 8, false),
        Operation::SecureErase(vec![zeroes(8, 8)]),
    ] {
        assert_eq!(guest.status(operation), Status::Ok);
    }
    let (offset, len) = (KIB4, KIB4);
    assert_eq!(
        asked(&guest),
        [
            Asked::Discard { offset, len },
            Asked::ZeroOut { offset, len, unmap: true },
            Asked::ZeroOut { offset, len, unmap: false },
            Asked::SecureErase { offset, len },
        ]
    );
}

#[test]
fn ranges_are_done_one_after_the_other() {
    for when in [When::AtOnce, When::Later] {
        let mut guest = Setup::default().start();
        guest.medium.lock().when = when;
        let ranges = (0..32).map(|n| zeroes(n * 16, 8)).collect();
        assert_eq!(guest.status(Operation::WriteZeroes(ranges)), Status::Ok);
        let expected: Vec<_> = (0..32).map(|n| allocate(ZeroRange, n * 8192, KIB4)).collect();
        assert_eq!(asked(&guest), expected);
        let bytes = &guest.medium.lock().bytes;
        assert!(bytes[..KIB4 as usize] == [0; KIB4 as usize]);
        assert!(bytes[4096..8192] == pattern()[4096..8192]);
    }
}

#[test]
fn empty_ranges_are_nothing_to_do() {
    let mut guest = Setup::default().start();
    let ranges = vec![zeroes(0, 0), zeroes(8, 8), zeroes((DISK / 512) as u64, 0)];
    assert_eq!(guest.status(Operation::Discard(ranges)), Status::Ok);
    assert_eq!(asked(&guest), [allocate(PunchHole, KIB4, KIB4)]);
}

#[test]
fn no_range_is_touched_when_one_of_them_is_wrong() {
    let mut guest = Setup::default().start();
    let past = zeroes((DISK / 512) as u64 - 1, 2);
    let flag = Segment { flags: 4, ..zeroes(0, 8) };
    for (wrong, status) in [(past, Status::IoErr), (flag, Status::Unsupported)] {
        let ranges = vec![zeroes(0, 8), wrong];
        assert_eq!(guest.status(Operation::WriteZeroes(ranges.clone())), status);
        assert_eq!(guest.status(Operation::Discard(ranges)), status);
    }
    assert!(asked(&guest).is_empty());
    assert!(guest.medium.lock().bytes == pattern());
}

#[test]
fn a_failing_range_ends_the_request() {
    let mut guest = Setup::default().start();
    guest.medium.lock().faults.extend([Fault::None, Fault::Error(Errno::IO)]);
    let ranges = vec![zeroes(0, 8), zeroes(8, 8), zeroes(16, 8)];
    assert_eq!(guest.status(Operation::WriteZeroes(ranges)), Status::IoErr);
    assert_eq!(asked(&guest).len(), 2);
    guest.assert_alive();
}

#[test]
fn zeroes_are_written_where_the_medium_has_no_better_way() {
    let mut guest = Setup::default().start();
    guest.medium.lock().refuses = vec![PunchHole, ZeroRange];
    assert_eq!(guest.status(Operation::write_zeroes(1, 40, true)), Status::Ok);
    let write = |offset, len| Asked::Write { file: MAIN, offset, len, durable: false };
    assert_eq!(
        asked(&guest),
        [
            allocate(PunchHole, 512, 20480),
            allocate(ZeroRange, 512, 20480),
            write(512, 8192),
            write(512 + 8192, 8192),
            write(512 + 16384, 4096),
        ]
    );
    assert!(guest.medium.lock().bytes[512..512 + 20480] == [0; 20480]);
    assert!(guest.medium.lock().bytes[512 + 20480..] == pattern()[512 + 20480..]);
    // What was refused once is not tried again.
    assert_eq!(guest.status(Operation::write_zeroes(0, 8, true)), Status::Ok);
    assert_eq!(asked(&guest), [write(0, 4096)]);
}

#[test]
fn many_zeroes_hold_up_nobody() {
    let mut guest = Setup::default().start();
    guest.medium.lock().refuses = vec![PunchHole, ZeroRange];
    guest.medium.lock().when = When::AtOnce;
    let all = (DISK / 512) as u32;
    let zeroing = guest.submit(Operation::write_zeroes(0, all, false));
    let reading = guest.submit(Operation::Read { sector: 1, len: 512 });
    guest.turn();
    let first = guest.next_done();
    assert_eq!(first.token, reading);
    assert_eq!(guest.next_done().token, zeroing);
    assert!(guest.medium.lock().bytes.iter().all(|byte| *byte == 0));
}

#[test]
fn a_short_write_of_zeroes_is_continued() {
    let mut guest = Setup::default().start();
    guest.medium.lock().refuses = vec![ZeroRange];
    guest.medium.lock().faults.extend([Fault::None, Fault::Short(700)]);
    assert_eq!(guest.status(Operation::write_zeroes(0, 8, false)), Status::Ok);
    assert!(guest.medium.lock().bytes[..4096] == [0; 4096]);
}

#[test]
fn zeroes_are_durable_in_writethrough_mode() {
    let mut guest = Setup::writethrough().start();
    assert_eq!(guest.status(Operation::write_zeroes(0, 8, false)), Status::Ok);
    assert_eq!(asked(&guest), [allocate(ZeroRange, 0, KIB4), Asked::Sync]);
    assert_eq!(guest.status(Operation::discard(0, 8)), Status::Ok);
    assert_eq!(asked(&guest), [allocate(PunchHole, 0, KIB4)]);
}

#[test]
fn a_discard_that_the_medium_refuses_is_unsupported() {
    let mut guest = Setup::default().start();
    guest.medium.lock().refuses = vec![PunchHole];
    assert_eq!(guest.status(Operation::discard(0, 8)), Status::Unsupported);
}

#[test]
fn block_devices_discard_whole_blocks_and_zero_every_sector() {
    let mut setup = Setup::of(Kind::BlockDevice);
    setup.facts.block_size = 4096;
    let mut guest = setup.start();
    assert_eq!(guest.status(Operation::discard(7, 10)), Status::Ok);
    assert_eq!(asked(&guest), [Asked::Discard { offset: 4096, len: 4096 }]);
    assert_eq!(guest.status(Operation::discard(1, 6)), Status::Ok);
    assert!(asked(&guest).is_empty(), "not one whole block");
    assert_eq!(guest.status(Operation::write_zeroes(7, 10, true)), Status::Ok);
    let write = Asked::Write { file: MAIN, offset: 3584, len: 5120, durable: false };
    assert_eq!(asked(&guest), [write]);
    assert!(guest.read(6, 512) == pattern()[3072..3584]);
    assert!(guest.read(7, 5120) == [0; 5120]);
}
