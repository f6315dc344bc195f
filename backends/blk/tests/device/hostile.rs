//! What a hostile driver tries, class by class. The device answers, and lives on.

use driver::{Operation, Part, Placement};
use framework::worker::{Answer, Command};
use outrigger_blk::request::{MAX_RANGES, SEG_MAX, SIZE_MAX};
use rustix::io::Errno;
use virtio_spec::block::{RequestHeader, RequestType, Segment, Status};

use crate::guest::{DISK, Guest, Setup, pattern};
use crate::medium::{Fault, When};

fn raw(request_type: u32, sector: u64, data: &[u8], room: usize) -> Operation {
    let header = RequestHeader { request_type, reserved: 0, sector };
    Operation::Raw { header, data: data.to_vec(), room }
}

fn header(kind: RequestType, sector: u64) -> [u8; 16] {
    RequestHeader { request_type: kind.number(), reserved: 0, sector }.to_bytes()
}

/// Shows a chain of these parts and waits until it is used; gives the used length.
fn run(guest: &mut Guest, parts: &[Part]) -> u32 {
    guest.block.queue().add(parts, Placement::Indirect).unwrap();
    guest.block.publish();
    for _ in 0..100 {
        guest.turn();
        if let Some(used) = guest.block.queue().reap().unwrap() {
            return used.written;
        }
    }
    panic!("the device does not answer");
}

#[test]
fn io_not_a_multiple_of_the_sector_or_past_the_end_of_the_disk() {
    let mut guest = Setup::default().start();
    let end = (DISK / 512) as u64;
    for (sector, len) in [
        (0, 511),
        (0, 513),
        (end - 1, 1024),
        (end, 512),
        (u64::MAX, 512),
        (u64::MAX / 512, 512),
        (1 << 55, 512),
    ] {
        assert_eq!(guest.status(Operation::Read { sector, len }), Status::IoErr, "{sector} {len}");
        let write = Operation::Write { sector, data: vec![1; len] };
        assert_eq!(guest.status(write), Status::IoErr, "{sector} {len}");
    }
    assert!(guest.medium.lock().asked.is_empty());
    assert!(guest.medium.lock().bytes == pattern());
}

#[test]
fn writes_discards_and_zeroes_on_a_read_only_device() {
    let mut guest = Setup::read_only().start();
    assert_eq!(guest.status(Operation::Write { sector: 0, data: vec![1; 512] }), Status::IoErr);
    assert_eq!(guest.status(Operation::discard(0, 8)), Status::Unsupported);
    assert_eq!(guest.status(Operation::write_zeroes(0, 8, false)), Status::Unsupported);
    let range = Segment { sector: 0, num_sectors: 8, flags: 0 };
    assert_eq!(guest.status(Operation::SecureErase(vec![range])), Status::Unsupported);
    assert!(guest.medium.lock().asked.is_empty());
    assert_eq!(guest.status(Operation::Flush), Status::Ok);
    guest.assert_alive();
}

#[test]
fn request_types_that_do_not_exist() {
    let mut guest = Setup::default().start();
    for number in [2, 3, 5, 6, 7, 9, 10, 12, 15, 16, 18, 20, 22, 24, 26, 27, 0x8000_0000, u32::MAX]
    {
        let done = guest.run(raw(number, 0, &[0; 16], 0));
        assert_eq!((number, done.status), (number, Status::Unsupported.number()));
        let done = guest.run(raw(number, 0, &[], 512));
        assert_eq!((number, done.status), (number, Status::Unsupported.number()));
    }
    guest.assert_alive();
}

#[test]
fn chains_without_a_whole_header() {
    let mut guest = Setup::default().start();
    let short = guest.memory.alloc_with(&header(RequestType::In, 0)[..15]).unwrap();
    let room = guest.memory.alloc(513).unwrap();
    run(&mut guest, &[short.readable(), room.writable()]);
    assert_eq!(room.to_vec()[512], Status::IoErr.number());
    // Nothing to read at all.
    room.fill(0);
    run(&mut guest, &[room.writable()]);
    assert_eq!(room.to_vec()[512], Status::IoErr.number());
    guest.assert_alive();
}

#[test]
fn chains_without_room_for_a_status() {
    let mut guest = Setup::default().start();
    let whole = guest.memory.alloc_with(&header(RequestType::Flush, 0)).unwrap();
    assert_eq!(run(&mut guest, &[whole.readable()]), 0);
    assert!(guest.medium.lock().asked.is_empty());
    guest.assert_alive();
}

#[test]
fn chains_with_empty_descriptors() {
    let mut guest = Setup::default().start();
    let header = guest.memory.alloc_with(&header(RequestType::In, 0)).unwrap();
    let room = guest.memory.alloc(513).unwrap();
    let empty = Part::readable(header.addr(), 0);
    let nothing = Part::writable(room.addr(), 0);
    run(&mut guest, &[empty, header.readable(), empty, nothing, room.writable(), nothing]);
    assert_eq!(room.to_vec()[512], 0);
    assert!(room.to_vec()[..512] == pattern()[..512]);
}

#[test]
fn more_segments_or_longer_ones_than_offered() {
    let mut guest = Setup { queue_size: 512, ..Setup::default() }.start();
    let header = guest.memory.alloc_with(&header(RequestType::In, 0)).unwrap();
    let room = guest.memory.alloc(512).unwrap();
    let status = guest.memory.alloc(1).unwrap();
    let ask = |guest: &mut Guest, data: Vec<Part>| {
        status.fill(0xff);
        let mut parts = vec![header.readable()];
        parts.extend(data);
        parts.push(status.writable());
        run(guest, &parts);
        status.to_vec()[0]
    };
    let many = |n: usize| vec![room.writable(); n];
    assert_eq!(ask(&mut guest, many(SEG_MAX.into())), 0);
    assert_eq!(ask(&mut guest, many(2 * usize::from(SEG_MAX))), Status::IoErr.number());
    let long = guest.memory.alloc(SIZE_MAX as usize + 512).unwrap();
    guest.disk.set_bytes(1 << 40);
    assert_eq!(ask(&mut guest, vec![long.writable()]), Status::IoErr.number());
    guest.assert_alive();
}

#[test]
fn more_ranges_or_longer_ones_than_offered() {
    let mut guest = Setup::default().start();
    guest.disk.set_bytes(1 << 50);
    let range = Segment { sector: 0, num_sectors: 1, flags: 0 };
    let long = Segment { num_sectors: u32::MAX, ..range };
    for make in [Operation::Discard, Operation::WriteZeroes, Operation::SecureErase] {
        assert_eq!(guest.status(make(vec![range; MAX_RANGES + 1])), Status::IoErr);
        assert_eq!(guest.status(make(vec![range; 100])), Status::IoErr);
        assert_eq!(guest.status(make(vec![long])), Status::IoErr);
        assert_eq!(guest.status(make(Vec::new())), Status::IoErr);
    }
    let number = RequestType::Discard.number();
    assert_eq!(guest.status(raw(number, 0, &[0; 17], 0)), Status::IoErr);
    assert!(guest.medium.lock().asked.is_empty());
}

#[test]
fn data_where_a_request_has_none_is_left_alone() {
    let mut guest = Setup::default().start();
    let flush = RequestType::Flush.number();
    assert_eq!(guest.status(raw(flush, 77, &[1; 100], 0)), Status::Ok);
    let out = RequestType::Out.number();
    let done = guest.run(raw(out, 0, &[3; 512], 100));
    assert_eq!(done.status, 0);
    assert_eq!(done.data, [0xff; 100], "a write writes no guest memory");
}

#[test]
fn a_bad_chain_leaks_nothing() {
    let mut guest = Setup { queue_size: 16, ..Setup::default() }.start();
    for _ in 0..100 {
        assert_eq!(guest.status(Operation::Read { sector: u64::MAX, len: 512 }), Status::IoErr);
        guest.medium.lock().faults.push_back(Fault::Error(Errno::IO));
        assert_eq!(guest.status(Operation::write_zeroes(0, 8, true)), Status::IoErr);
    }
    assert_eq!(guest.block.queue().in_flight(), 0);
    guest.assert_alive();
}

/// The class of CVE-2018-1059.
#[test]
fn a_guest_range_that_spans_two_regions() {
    let border = 16 << 20;
    let regions = [(1 << 20, border - (1 << 20)), (border, 16 << 20)];
    let mut guest = Setup { regions, ..Setup::default() }.start();
    let at = |offset: i64| border.wrapping_add_signed(offset);
    // The header, the data and the status each lie across the border, in a request of their own.
    let status = guest.memory.alloc(1).unwrap();
    guest.memory.write(at(-7), &header(RequestType::In, 1)).unwrap();
    let room = guest.memory.alloc(512).unwrap();
    run(&mut guest, &[Part::readable(at(-7), 16), room.writable(), status.writable()]);
    assert_eq!(status.to_vec()[0], 0);
    assert!(room.to_vec() == pattern()[512..1024]);

    let whole = guest.memory.alloc_with(&header(RequestType::In, 1)).unwrap();
    run(&mut guest, &[whole.readable(), Part::writable(at(-300), 512), status.writable()]);
    let mut data = vec![0; 512];
    guest.memory.read(at(-300), &mut data).unwrap();
    assert!(data == pattern()[512..1024]);

    run(&mut guest, &[whole.readable(), Part::writable(at(-512), 513)]);
    let mut data = vec![0xff; 513];
    guest.memory.read(at(-512), &mut data).unwrap();
    assert!(data[..512] == pattern()[512..1024] && data[512] == 0);
}

/// The class "an asynchronous operation outlives its buffer or mapping" (CVE-2026-45782).
#[test]
fn a_ring_stops_when_its_last_operation_has_ended() {
    for setup in [Setup::default(), Setup { buffers: 1, ..Setup::direct(512, 512) }] {
        let mut guest = setup.start();
        guest.medium.lock().when = When::Held;
        for n in 0..4 {
            guest.submit(Operation::Read { sector: n, len: 512 });
        }
        guest.turn();
        guest.command(Command::Stop { queue: 0 });
        for _ in 0..10 {
            guest.turn();
        }
        let stopped = |guest: &Guest| {
            let answers = guest.answers.lock().unwrap();
            answers.iter().any(|answer| matches!(answer, Answer::Stopped { base: 4, .. }))
        };
        assert!(!stopped(&guest));
        guest.medium.lock().release();
        for n in 0..20 {
            guest.turn();
            if stopped(&guest) {
                break;
            }
            assert!(n < 19, "the ring does not stop");
        }
        for _ in 0..4 {
            assert_eq!(guest.next_done().status, 0);
        }
    }
}

#[test]
fn header_fields_changed_after_the_chain_was_taken_change_nothing() {
    let mut guest = Setup::default().start();
    guest.medium.lock().when = When::Held;
    let first = guest.memory.alloc_with(&header(RequestType::In, 1)).unwrap();
    let room = guest.memory.alloc(513).unwrap();
    guest.block.queue().add(&[first.readable(), room.writable()], Placement::Direct).unwrap();
    guest.block.publish();
    guest.medium.lock().faults.push_back(Fault::Short(100));
    guest.turn();
    first.write(0, &header(RequestType::Out, u64::MAX));
    guest.medium.lock().release();
    for _ in 0..5 {
        guest.turn();
    }
    assert!(guest.block.queue().reap().unwrap().is_some());
    assert!(room.to_vec()[..512] == pattern()[512..1024]);
    assert_eq!(room.to_vec()[512], 0);
}
