//! What the guest sends.

use virtio_spec::net::{CSUM, GsoType, HASH_REPORT, HOST_TSO4, Header};

use crate::guest::{Setup, frame};

const OFFLOADED: Header = Header {
    flags: 1,
    gso_type: GsoType::TcpV4 as u8,
    hdr_len: 54,
    gso_size: 1448,
    csum_start: 34,
    csum_offset: 16,
    num_buffers: 0,
};

#[test]
fn frames_go_out_as_they_are_however_they_are_cut() {
    for setup in Setup::each(&[]) {
        let mut guest = setup.start();
        for cuts in [&[][..], &[12], &[1, 2, 3, 4], &[6, 6, 14], &[13], &[5, 50]] {
            guest.transmit(&[0; 12], &frame(90), cuts);
            assert_eq!(guest.sent(), [[&[0; 12][..], &frame(90)].concat()], "{cuts:?}");
        }
        assert_eq!(guest.stat("tx_frames"), 6);
    }
}

#[test]
fn offloads_that_were_negotiated_go_out() {
    let mut guest = Setup::with(&[CSUM, HOST_TSO4]).start();
    guest.transmit(&OFFLOADED.to_bytes(), &frame(30_000), &[12, 1000]);
    assert_eq!(guest.sent()[0][..12], OFFLOADED.to_bytes());
}

#[test]
fn a_header_with_a_hash_is_longer() {
    let mut guest = Setup::with(&[HASH_REPORT, CSUM]).start();
    guest.transmit(&[0; 20], &frame(64), &[15]);
    assert_eq!(guest.sent(), [[&[0; 20][..], &frame(64)].concat()]);
}

#[test]
fn flags_that_nobody_knows_are_ignored() {
    let mut guest = Setup::with(&[CSUM]).start();
    let header = Header { flags: 0xfe, csum_start: 7, csum_offset: 9, ..Header::default() };
    guest.transmit(&header.to_bytes(), &frame(64), &[12]);
    assert_eq!(guest.sent()[0][..12], [0; 12], "nor is what they would give a meaning");
}

#[test]
fn without_a_link_nothing_goes_out() {
    let mut guest = Setup::with(&[]).start();
    guest.link("down");
    guest.transmit(&[0; 12], &frame(64), &[12]);
    assert!(guest.sent().is_empty() && guest.stat("tx_dropped") == 1);
    guest.link("up");
    guest.transmit(&[0; 12], &frame(64), &[12]);
    assert_eq!(guest.sent().len(), 1);
}

#[test]
fn a_disabled_ring_is_emptied() {
    let mut guest = Setup::with(&[]).start();
    guest.command(0, framework::worker::Command::Enable { queue: 1, enabled: false });
    guest.transmit(&[0; 12], &frame(64), &[12]);
    assert!(guest.sent().is_empty());
    guest.command(0, framework::worker::Command::Enable { queue: 1, enabled: true });
    guest.assert_alive();
}
