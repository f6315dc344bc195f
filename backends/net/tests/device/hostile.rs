//! What a hostile driver tries, class by class. The card lives on, and nothing that was not negotiated
//! goes out.

use std::sync::atomic::{AtomicBool, Ordering};

use driver::{Part, Placement};
use virtio_spec::net::control::{ACK_ERR, Command as Kind};
use virtio_spec::net::{
    CSUM, CTRL_RX, CTRL_VQ, GsoType, HASH_REPORT, HOST_TSO4, Header, MRG_RXBUF,
};

use crate::guest::{Setup, frame};

const SEGMENTED: Header = Header {
    flags: 1,
    gso_type: GsoType::TcpV4 as u8,
    hdr_len: 54,
    gso_size: 1448,
    csum_start: 34,
    csum_offset: 16,
    num_buffers: 0,
};

/// The class of CVE-2024-41090 and CVE-2024-41091.
#[test]
fn short_or_split_headers_and_frames_under_14_bytes() {
    for setup in Setup::each(&[]) {
        let mut guest = setup.start();
        for length in [0, 1, 11, 12, 13, 25] {
            let bytes = vec![0; length.max(1)];
            guest.transmit_bytes(&bytes[..], &[length / 2]);
            assert!(guest.sent().is_empty(), "{length}");
        }
        guest.transmit(&[0; 12], &frame(14), &[3, 3, 3, 3, 7]);
        assert_eq!(guest.sent().len(), 1);
        assert_eq!((guest.stat("tx_malformed"), guest.stat("tx_frames")), (6, 1));
        guest.assert_alive();
    }
}

/// The class of CVE-2024-11614.
#[test]
fn gso_and_checksum_fields_trusted() {
    let mut guest = Setup::with(&[CSUM, HOST_TSO4]).start();
    for bad in [
        Header { csum_start: 13, ..SEGMENTED },
        Header { csum_start: 0xffff, csum_offset: 0xffff, ..SEGMENTED },
        Header { csum_start: 89, csum_offset: 0, ..SEGMENTED },
        Header { gso_size: 0, ..SEGMENTED },
        Header { flags: 0, ..SEGMENTED },
        Header { hdr_len: 90, ..SEGMENTED },
        Header { gso_type: 2, ..SEGMENTED },
        Header { gso_type: 0x61, ..SEGMENTED },
        Header { gso_type: 0x7f, ..SEGMENTED },
    ] {
        guest.transmit(&bad.to_bytes(), &frame(90), &[12]);
        assert!(guest.sent().is_empty(), "{bad:?}");
    }
    guest.transmit(&SEGMENTED.to_bytes(), &frame(90), &[12]);
    assert_eq!(guest.sent().len(), 1);
    guest.assert_alive();
}

/// The class of CVE-2026-93683 and CVE-2026-86848: a driver that changes a header while it is looked at
/// has sent one or the other, each of which was checked.
#[test]
fn a_header_fetched_twice() {
    const BAD: Header = Header { csum_start: 0xffff, gso_size: 0, ..SEGMENTED };
    let mut guest = Setup::with(&[CSUM, HOST_TSO4]).start();
    let header = guest.memory.alloc_with(&SEGMENTED.to_bytes()).unwrap();
    let body = guest.memory.alloc_with(&frame(90)).unwrap();
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                for one in [BAD, SEGMENTED, Header::default()] {
                    header.write(0, &one.to_bytes());
                }
            }
        });
        for _ in 0..3000 {
            guest.transmit_parts(&[header.readable(), body.readable()]);
        }
        ended.store(true, Ordering::Relaxed);
    });
    let sent = guest.sent();
    assert!(!sent.is_empty());
    for packet in sent {
        let sent = Header::from_prefix(&packet).unwrap();
        let sensible = sent.gso_type == 0 || sent.gso_size > 0;
        let inside = usize::from(sent.csum_start) + usize::from(sent.csum_offset) + 2 <= 90;
        assert!(sensible && inside, "{sent:?}");
        assert_eq!(packet[12..], frame(90));
    }
    guest.assert_alive();
}

/// The class of CVE-2023-6693.
#[test]
fn un_negotiated_offload_headers() {
    for setup in Setup::each(&[]) {
        let mut guest = setup.start();
        guest.transmit(&SEGMENTED.to_bytes(), &frame(90), &[12]);
        guest.transmit(&Header { gso_type: 0, ..SEGMENTED }.to_bytes(), &frame(90), &[12]);
        assert!(guest.sent().is_empty());
        guest.assert_alive();
    }
    // A header as long as that of another choice of features is a part of the frame.
    let mut guest = Setup::with(&[HASH_REPORT]).start();
    guest.transmit_bytes(&[0; 33], &[12]);
    assert!(guest.sent().is_empty(), "20 bytes of header leave 13 of the frame");
    guest.transmit_bytes(&[0; 34], &[12]);
    assert_eq!(guest.sent().len(), 1);
}

/// The class of firecracker#3905.
#[test]
fn a_frame_that_fits_no_buffer_spins_the_device() {
    for setup in Setup::each(&[]) {
        let mut guest = setup.start();
        guest.post(&[100]);
        if !setup.has(MRG_RXBUF) {
            assert_eq!(guest.receive(&frame(500)), None);
            assert_eq!(guest.stat("rx_too_long"), 1);
        }
        // The next one that fits has the buffer.
        assert_eq!(guest.receive(&frame(60)).unwrap().frame, frame(60));
        guest.assert_alive();
    }
}

#[test]
fn buffers_without_room_for_a_header() {
    for setup in Setup::each(&[]) {
        let mut guest = setup.start();
        guest.post(&[1]);
        guest.post(&[11]);
        assert_eq!(guest.receive(&frame(60)), None);
        assert!(guest.stat("rx_frames") == 0);
    }
}

#[test]
fn chains_with_nothing_to_send_or_of_the_wrong_direction() {
    let mut guest = Setup::with(&[]).start();
    let room = guest.memory.alloc(100).unwrap();
    room.fill(7);
    guest.transmit_parts(&[room.writable()]);
    guest.transmit_parts(&[Part::readable(room.addr(), 0)]);
    guest.transmit_parts(&[Part::readable(room.addr(), 0), room.writable()]);
    assert!(guest.sent().is_empty() && room.to_vec() == [7; 100]);
    guest.assert_alive();
}

#[test]
fn frames_longer_than_any_packet() {
    let mut guest = Setup::with(&[CSUM, HOST_TSO4]).start();
    guest.transmit(&[0; 12], &frame(70_000), &[12]);
    guest.transmit(&SEGMENTED.to_bytes(), &frame(65_594), &[12, 30_000]);
    assert!(guest.sent().is_empty());
    guest.transmit(&SEGMENTED.to_bytes(), &frame(65_593), &[12, 30_000]);
    assert_eq!(guest.sent().len(), 1);
}

/// The class of CVE-2018-1059.
#[test]
fn a_guest_range_that_spans_two_regions() {
    let mut guest = Setup::with(&[]).start();
    let end = (1 << 20) + (64 << 20);
    guest.queue(0, 1).add(&[Part::readable(end - 10, 100)], Placement::Direct).unwrap();
    guest.queue(0, 1).publish();
    guest.run();
    // There is no region behind the first: the ring fails, and nothing goes out.
    assert!(guest.sent().is_empty());
    let failed =
        |answer: &_| matches!(answer, framework::worker::Answer::RingFailed { queue: 1, .. });
    assert!(guest.answers.lock().unwrap().iter().any(failed));
    // The other ring runs on.
    guest.post(&[2000]);
    assert!(guest.receive(&frame(60)).is_some());
}

#[test]
fn commands_that_are_none() {
    for setup in Setup::each(&[CTRL_VQ, CTRL_RX]) {
        let mut guest = setup.start();
        for bytes in [
            &[0][..],
            &[0, 0],
            &[0, 0, 2],
            &[9, 9, 9],
            &[0xff; 64],
            &[1, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],
            &[4, 0, 1, 0],
        ] {
            assert_eq!(guest.ask(bytes, &[1], &[1]), [ACK_ERR], "{bytes:?}");
        }
        // Nothing to read, no room for an answer, and more than anybody needs.
        assert_eq!(guest.ask(&[], &[], &[1]), [ACK_ERR]);
        assert!(guest.ask(&[0, 0, 1], &[], &[]).is_empty());
        assert_eq!(guest.ask(&vec![1; 70_000], &[2, 4], &[1]), [ACK_ERR]);
        assert_eq!(guest.device_filters(), Some(false), "none of them was carried out");
        guest.set(Kind::RxPromisc, &[0]);
        assert_eq!(guest.device_filters(), Some(true));
        guest.assert_alive();
    }
}
