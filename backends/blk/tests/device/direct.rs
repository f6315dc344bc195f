//! Direct I/O, whose demands guest memory does not always meet. The medium refuses what the kernel
//! would refuse.

use driver::{Buffer, Cut, Layout, Operation, Part, Placement};
use outrigger_blk::disk::{BUFFERED, MAIN};
use proptest::prelude::*;
use rustix::io::Errno;
use virtio_spec::block::{RequestHeader, RequestType, Status};

use crate::guest::{DISK, Guest, Setup, pattern};
use crate::medium::{Asked, Fault, When};

/// Reads into guest memory that is aligned to a page.
fn read_aligned(guest: &mut Guest, sector: u64, len: usize) -> (u8, Vec<u8>) {
    let request_type = RequestType::In.number();
    let header = RequestHeader { request_type, reserved: 0, sector };
    let header = guest.memory.alloc_with(&header.to_bytes()).unwrap();
    let data = guest.memory.alloc_aligned(len, 4096).unwrap();
    let status = guest.memory.alloc(1).unwrap();
    let parts: [Part; 3] = [header.readable(), data.writable(), status.writable()];
    run(guest, &parts);
    (status.to_vec()[0], data.to_vec())
}

fn run(guest: &mut Guest, parts: &[Part]) {
    guest.block.queue().add(parts, Placement::Direct).unwrap();
    guest.block.publish();
    for _ in 0..1000 {
        guest.turn();
        if guest.block.queue().reap().unwrap().is_some() {
            return;
        }
    }
    panic!("the device does not answer");
}

#[test]
fn aligned_memory_goes_straight() {
    let mut guest = Setup::direct(512, 4096).start();
    let (status, data) = read_aligned(&mut guest, 8, 16384);
    assert_eq!(status, 0);
    assert!(data == pattern()[4096..4096 + 16384]);
    assert_eq!(guest.medium.lock().asked, [Asked::Read { file: MAIN, offset: 4096, len: 16384 }]);
}

#[test]
fn other_memory_goes_through_buffers_piece_by_piece() {
    for when in [When::AtOnce, When::Later] {
        let mut guest = Setup::direct(512, 512).start();
        guest.medium.lock().when = when;
        let data: Vec<u8> = (0..20480).map(|n| (n % 233) as u8).collect();
        guest.write(8, &data);
        assert!(guest.medium.lock().bytes[4096..4096 + 20480] == data);
        assert!(guest.read(8, 20480) == data);
        let read = |offset, len| Asked::Read { file: MAIN, offset, len };
        assert_eq!(
            guest.medium.lock().asked[3..],
            [read(4096, 8192), read(12288, 8192), read(20480, 4096)]
        );
    }
}

#[test]
fn less_than_a_block_goes_through_the_page_cache() {
    let mut guest = Setup::direct(512, 4096).start();
    guest.write(9, &[5; 512]);
    assert!(guest.read(9, 512) == [5; 512]);
    assert!(guest.medium.lock().asked.iter().all(|asked| match asked {
        Asked::Read { file, .. } | Asked::Write { file, .. } => *file == BUFFERED,
        _ => false,
    }));
}

#[test]
fn a_short_piece_is_continued_where_it_ended() {
    let mut guest = Setup::direct(512, 512).start();
    guest.medium.lock().faults.extend([Fault::Short(512), Fault::Short(100)]);
    assert!(guest.read(0, 8192) == pattern()[..8192]);
    guest.medium.lock().faults.extend([Fault::Short(512), Fault::Short(100)]);
    let data: Vec<u8> = (0..8192).map(|n| (n % 229) as u8).collect();
    guest.write(0, &data);
    assert!(guest.medium.lock().bytes[..8192] == data);
}

#[test]
fn a_piece_that_fails_gives_its_buffer_back() {
    let mut guest = Setup::direct(512, 512).start();
    for _ in 0..10 {
        guest.medium.lock().faults.extend([Fault::Error(Errno::INTR), Fault::Error(Errno::IO)]);
        assert_eq!(guest.status(Operation::Read { sector: 0, len: 4096 }), Status::IoErr);
    }
    guest.assert_alive();
}

#[test]
fn requests_wait_for_a_buffer_first_come_first_served() {
    let setup = Setup { buffers: 1, ..Setup::direct(512, 512) };
    let mut guest = setup.start();
    guest.medium.lock().when = When::Held;
    let odd = Layout::cut(Cut::At { readable: Vec::new(), writable: vec![100] });
    let tokens: Vec<_> =
        (0..8).map(|sector| guest.submit_as(Operation::Read { sector, len: 512 }, &odd)).collect();
    guest.turn();
    guest.turn();
    assert_eq!(guest.medium.lock().asked.len(), 1, "one buffer, one operation");
    guest.medium.lock().release();
    for (n, token) in tokens.into_iter().enumerate() {
        let done = guest.next_done();
        assert_eq!(done.token, token);
        assert!(done.into_data().unwrap() == pattern()[n * 512..][..512]);
    }
}

#[test]
fn zeroes_are_written_from_a_buffer_too() {
    let mut guest = Setup::direct(512, 4096).start();
    guest.medium.lock().refuses = vec![framework::engine::Allocate::ZeroRange];
    assert_eq!(guest.status(Operation::write_zeroes(1, 23, false)), Status::Ok);
    assert!(guest.medium.lock().bytes[512..12288] == [0; 11776]);
    assert!(guest.medium.lock().bytes[..512] == pattern()[..512]);
}

/// One descriptor of a request's data: where it begins in its page, and how long it is.
type Piece = (u64, usize);

fn buffers(guest: &Guest, pieces: &[Piece]) -> Vec<(Buffer, u64, usize)> {
    let alloc = |(shift, len): &Piece| {
        (guest.memory.alloc_aligned(len + 4096, 4096).unwrap(), *shift, *len)
    };
    pieces.iter().map(alloc).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn guest_memory_of_any_alignment_is_served(
        pieces in proptest::collection::vec(
            (prop_oneof![Just(0_u64), Just(512), 0..4096_u64], 1..9000_usize), 1..6,
        ),
        sector in 0..100_u64,
        at_once: bool,
        short in proptest::collection::vec(1..3000_usize, 0..3),
    ) {
        let mut guest = Setup::direct(512, 4096).start();
        guest.medium.lock().when = if at_once { When::AtOnce } else { When::Later };
        guest.medium.lock().faults.extend(short.into_iter().map(Fault::Short));
        let mut pieces = pieces;
        let odd = pieces.iter().map(|(_, len)| len).sum::<usize>() % 512;
        pieces.push((77, 512 - odd));
        let len: usize = pieces.iter().map(|(_, len)| len).sum();
        prop_assume!(sector as usize * 512 + len <= DISK);
        let header = RequestHeader { request_type: RequestType::In.number(), reserved: 0, sector };
        let header = guest.memory.alloc_with(&header.to_bytes()).unwrap();
        let status = guest.memory.alloc(1).unwrap();
        let data = buffers(&guest, &pieces);
        let mut parts = vec![header.readable()];
        parts.extend(data.iter().map(|(buffer, shift, len)| {
            Part::writable(buffer.addr() + shift, *len as u32)
        }));
        parts.push(status.writable());
        run(&mut guest, &parts);
        prop_assert_eq!(status.to_vec()[0], 0);
        let read: Vec<u8> = data
            .iter()
            .flat_map(|(buffer, shift, len)| buffer.to_vec()[*shift as usize..][..*len].to_vec())
            .collect();
        prop_assert!(read == pattern()[sector as usize * 512..][..len]);
    }
}
