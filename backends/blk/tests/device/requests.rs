//! Every kind of request, as it should be.

use driver::{Cut, Layout, Operation, Placement};
use outrigger_blk::disk::MAIN;
use outrigger_blk::image::Medium as Kind;
use rustix::io::Errno;
use virtio_spec::block::{CONFIG_WCE, FLUSH, RequestHeader, RequestType, Status};

use crate::guest::{DISK, Guest, Setup, pattern};
use crate::medium::{Asked, Fault, When};

#[test]
fn what_is_written_is_read_back() {
    for setup in [Setup::default(), Setup::packed()] {
        let mut guest = setup.start();
        let data: Vec<u8> = (0..8192_u32).map(|n| (n % 253) as u8).collect();
        guest.write(16, &data);
        assert!(guest.read(16, 8192) == data);
        assert!(guest.read(0, 8192) == pattern()[..8192]);
        assert!(guest.read((DISK / 512) as u64 - 1, 512) == pattern()[DISK - 512..]);
    }
}

#[test]
fn operations_that_end_at_once_lead_to_the_same_end() {
    for when in [When::AtOnce, When::Later] {
        let mut guest = Setup::default().start();
        guest.medium.lock().when = when;
        guest.write(8, &[7; 4096]);
        let done = guest.run(Operation::Read { sector: 8, len: 4096 });
        assert_eq!(done.written, Some(4097));
        assert!(done.into_data().unwrap() == [7; 4096]);
        assert_eq!(guest.run(Operation::Flush).written, Some(1));
        assert_eq!(guest.status(Operation::write_zeroes(8, 8, true)), Status::Ok);
        assert!(guest.read(8, 4096) == [0; 4096]);
    }
}

#[test]
fn requests_end_in_any_order() {
    let mut guest = Setup::default().start();
    let tokens: Vec<_> = (0..32)
        .map(|n| guest.block.submit(Operation::Read { sector: n, len: 512 }, &Layout::default()))
        .map(Result::unwrap)
        .collect();
    guest.block.publish();
    let mut done: Vec<_> = (0..32).map(|_| guest.next_done()).collect();
    assert_ne!(done[0].token, tokens[0], "the medium ends them in reverse");
    done.sort_by_key(|done| tokens.iter().position(|token| *token == done.token));
    for (n, done) in done.into_iter().enumerate() {
        assert!(done.into_data().unwrap() == pattern()[n * 512..][..512]);
    }
}

#[test]
fn more_requests_than_one_go_takes_are_all_served() {
    for when in [When::AtOnce, When::Later] {
        let setup = Setup { queue_size: 512, ..Setup::default() };
        let mut guest = setup.start();
        guest.medium.lock().when = when;
        let layout = Layout::placed(Placement::Indirect);
        for _ in 0..500 {
            guest.block.submit(Operation::Read { sector: 3, len: 512 }, &layout).unwrap();
        }
        guest.block.publish();
        for _ in 0..500 {
            assert!(guest.next_done().into_data().is_ok());
        }
    }
}

#[test]
fn headers_and_statuses_may_be_split_in_any_way() {
    let cuts = [
        Cut::Whole,
        Cut::Every(1000),
        Cut::Every(7),
        Cut::At { readable: vec![1, 1, 13, 3], writable: vec![1, 4094] },
        Cut::At { readable: vec![15], writable: vec![4095] },
        Cut::At { readable: vec![17], writable: vec![1] },
    ];
    for cut in cuts {
        // 4 KiB in pieces of 7 bytes are more than the 126 segments a request may have.
        let len = if cut == Cut::Every(7) { 512 } else { 4096 };
        let layout = Layout { placement: Placement::Indirect, cut };
        let mut guest = Setup::default().start();
        let data: Vec<u8> = (0..len).map(|n| (n % 241) as u8).collect();
        let write = Operation::Write { sector: 5, data: data.clone() };
        assert_eq!(guest.run_as(write, &layout).status, 0, "{layout:?}");
        let read = guest.run_as(Operation::Read { sector: 5, len }, &layout);
        assert_eq!(read.written, Some(len as u32 + 1));
        assert!(read.into_data().unwrap() == data, "{layout:?}");
    }
}

#[test]
fn the_serial_is_told() {
    let mut guest = Setup::default().start();
    let done = guest.run(Operation::GetId);
    assert_eq!(done.written, Some(21));
    assert_eq!(done.into_data().unwrap(), b"serial-0123456789abc");
}

#[test]
fn a_serial_in_less_room_is_cut_and_in_more_room_left_short() {
    let mut guest = Setup::default().start();
    let header =
        RequestHeader { request_type: RequestType::GetId.number(), ..RequestHeader::default() };
    let ask = |room| Operation::Raw { header, data: Vec::new(), room };
    let less = guest.run(ask(6));
    assert_eq!((less.status, less.data.as_slice()), (0, &b"serial"[..]));
}

#[test]
fn a_flush_is_a_sync() {
    let mut guest = Setup::default().start();
    assert_eq!(guest.status(Operation::Flush), Status::Ok);
    assert_eq!(guest.medium.lock().asked, [Asked::Sync]);
    guest.medium.lock().faults.push_back(Fault::Error(Errno::IO));
    assert_eq!(guest.status(Operation::Flush), Status::IoErr);
}

/// virtio 1.4, 5.2.6.2: when a write is stable.
#[test]
fn writes_are_durable_when_the_driver_cannot_make_them_so() {
    let durable = |guest: &mut Guest| {
        guest.write(0, &[1; 512]);
        let asked = guest.medium.lock().asked.pop();
        asked == Some(Asked::Write { file: MAIN, offset: 0, len: 512, durable: true })
    };
    assert!(!durable(&mut Setup::default().start()));
    assert!(!durable(&mut Setup::default().without(&[CONFIG_WCE]).start()));
    assert!(durable(&mut Setup::default().without(&[CONFIG_WCE, FLUSH]).start()));
    let mut writethrough = Setup::writethrough().start();
    assert!(durable(&mut writethrough));
    let features = virtio_spec::Negotiated::assume(Setup::default().features);
    writethrough.disk.set_cache_mode(true, features);
    assert!(!durable(&mut writethrough), "the driver has changed `writeback`");
}

#[test]
fn a_larger_disk_is_served_as_soon_as_its_size_is_known() {
    let mut guest = Setup::default().start();
    let behind = Operation::Read { sector: (DISK / 512) as u64, len: 512 };
    assert_eq!(guest.status(behind.clone()), Status::IoErr);
    guest.medium.lock().bytes.resize(2 * DISK, 9);
    guest.disk.set_bytes(2 * DISK as u64);
    assert!(guest.run(behind).into_data().unwrap() == [9; 512]);
}

#[test]
fn with_nothing_behind_it_everything_succeeds_and_nothing_is_asked() {
    let mut guest = Setup::of(Kind::Null).start();
    guest.write(0, &[1; 4096]);
    for operation in
        [Operation::Flush, Operation::discard(0, 8), Operation::write_zeroes(0, 8, true)]
    {
        assert_eq!(guest.status(operation), Status::Ok);
    }
    let behind = Operation::Write { sector: (DISK / 512) as u64, data: vec![0; 512] };
    assert_eq!(guest.status(behind), Status::IoErr);
    assert!(guest.medium.lock().asked.is_empty());
}
