//! What the guest receives.

use framework::worker::Command;
use virtio_spec::net::{
    CTRL_VQ, GUEST_CSUM, GUEST_TSO4, GsoType, HASH_REPORT, Header, MRG_RXBUF, MTU,
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

#[test]
fn frames_come_in_however_buffers_are_cut() {
    for setup in Setup::each(&[GUEST_CSUM]) {
        for sizes in [&[2048][..], &[12, 2048], &[5, 4, 3, 20, 300], &[6, 2000]] {
            let mut guest = setup.start();
            guest.post(sizes);
            let received = guest.receive(&frame(200)).unwrap();
            assert_eq!((received.frame, received.chains), (frame(200), 1), "{sizes:?}");
            assert_eq!(received.header, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
        }
    }
}

#[test]
fn long_packets_fill_as_many_mergeable_chains_as_they_need() {
    for setup in Setup::each(&[GUEST_CSUM, GUEST_TSO4]) {
        if !setup.has(MRG_RXBUF) {
            continue;
        }
        let mut guest = Setup { queue_size: 256, ..setup }.start();
        for _ in 0..40 {
            guest.post(&[1000, 1000]);
        }
        for length in [60, 1988, 1989, 20_000, 60, 30_000] {
            guest.arrive(SEGMENTED, &frame(length));
            guest.nudge();
            let received = guest.next_received().unwrap();
            assert!(received.frame == frame(length));
            let chains = (length + 12).div_ceil(2000);
            assert_eq!((received.chains, received.header().num_buffers), (chains, chains as u16));
            for _ in 0..chains {
                guest.post(&[1000, 1000]);
            }
        }
    }
}

#[test]
fn a_ring_that_never_holds_the_longest_packet_gets_the_others() {
    for setup in Setup::each(&[GUEST_CSUM, GUEST_TSO4]) {
        let mut guest = Setup { queue_size: 16, ..setup }.start();
        for _ in 0..16 {
            guest.post(&[1500]);
        }
        guest.arrive(SEGMENTED, &frame(60_000));
        guest.arrive(Header::default(), &frame(60));
        guest.nudge();
        assert_eq!(guest.next_received().unwrap().frame, frame(60));
        assert_eq!(guest.stat("rx_too_long"), 1);
    }
}

#[test]
fn unused_chains_stay_at_hand() {
    let mut guest = Setup::with(&[GUEST_CSUM, GUEST_TSO4, MRG_RXBUF]).start();
    for _ in 0..50 {
        guest.post(&[2000]);
    }
    guest.nudge();
    guest.command(0, Command::Stop { queue: 0 });
    guest.run();
    let answers = guest.answers.lock().unwrap();
    let stopped =
        |answer: &_| matches!(answer, framework::worker::Answer::Stopped { queue: 0, base: 0 });
    assert!(answers.iter().any(stopped), "no chain was taken: {answers:?}");
}

#[test]
fn without_mergeable_buffers_one_chain_holds_one_packet() {
    let mut guest = Setup::with(&[GUEST_CSUM, GUEST_TSO4]).start();
    guest.post(&[65_700]);
    guest.post(&[65_700]);
    guest.arrive(SEGMENTED, &frame(60_000));
    guest.arrive(Header::default(), &frame(60));
    guest.nudge();
    let long = guest.next_received().unwrap();
    assert_eq!((long.chains, long.header().gso_size, long.frame.len()), (1, 1448, 60_000));
    assert_eq!(guest.next_received().unwrap().frame.len(), 60);
}

#[test]
fn what_the_driver_does_not_take_is_not_left_to_it() {
    let mut guest = Setup::with(&[GUEST_CSUM]).start();
    guest.post(&[65_700]);
    guest.arrive(SEGMENTED, &frame(3000));
    guest.nudge();
    assert_eq!(guest.next_received(), None);
    assert_eq!(guest.stat("rx_unnegotiated"), 1);
    // A checksum that was checked is news only to those who negotiated it.
    for (bits, flags) in [(&[GUEST_CSUM][..], 2), (&[], 0)] {
        let mut guest = Setup::with(bits).start();
        guest.post(&[2000]);
        guest.arrive(Header { flags: 2, ..Header::default() }, &frame(60));
        guest.nudge();
        assert_eq!(guest.next_received().unwrap().header().flags, flags);
    }
    let mut guest = Setup::with(&[]).start();
    guest.post(&[2000]);
    guest.arrive(Header { gso_type: 0, ..SEGMENTED }, &frame(600));
    guest.nudge();
    assert_eq!(guest.next_received(), None);
}

#[test]
fn frames_longer_than_the_mtu_are_dropped_unless_they_are_to_be_cut() {
    let mut guest = Setup::with(&[MTU, GUEST_CSUM, GUEST_TSO4]).start();
    guest.post(&[65_700]);
    guest.post(&[65_700]);
    assert_eq!(guest.receive(&frame(1519)), None);
    assert_eq!(guest.stat("rx_too_long"), 1);
    assert!(guest.receive(&frame(1518)).is_some(), "with a VLAN tag");
    guest.arrive(SEGMENTED, &frame(9000));
    guest.nudge();
    assert!(guest.next_received().is_some());
}

#[test]
fn hashes_are_reported_once_the_driver_has_chosen_a_key() {
    for setup in Setup::each(&[CTRL_VQ, HASH_REPORT, GUEST_CSUM]) {
        let mut guest = setup.start();
        let mut packet = frame(14);
        packet.extend([0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0]);
        packet.extend([66, 9, 149, 187, 161, 142, 100, 80]);
        packet.extend([0x0a, 0xea, 0x06, 0xe6, 0, 0, 0, 0]);
        guest.post(&[15, 2000]);
        let received = guest.receive(&packet).unwrap();
        assert_eq!(received.header[12..], [0; 8], "before the driver has set a key");
        let mut config = vec![0x3f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 40];
        config.extend(KEY);
        guest.set(virtio_spec::net::control::Command::MqHashConfig, &config);
        guest.post(&[15, 2000]);
        let received = guest.receive(&packet).unwrap();
        assert_eq!(received.header[12..], [0x78, 0xc1, 0xcc, 0x51, 2, 0, 0, 0]);
        assert_eq!(received.frame, packet);
    }
}

/// The key of the verification suite that Microsoft publishes for RSS.
const KEY: [u8; 40] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

#[test]
fn without_a_link_nothing_comes_in() {
    let mut guest = Setup::with(&[]).start();
    guest.post(&[2000]);
    guest.link("down");
    assert_eq!(guest.receive(&frame(60)), None);
    guest.link("up");
    assert!(guest.next_received().is_some());
}

#[test]
fn a_disabled_ring_is_given_nothing_until_it_is_enabled() {
    let mut guest = Setup::with(&[]).start();
    guest.command(0, Command::Enable { queue: 0, enabled: false });
    guest.post(&[2000]);
    assert_eq!(guest.receive(&frame(60)), None);
    guest.command(0, Command::Enable { queue: 0, enabled: true });
    guest.run();
    assert!(guest.next_received().is_some());
}

#[test]
fn a_frame_waits_for_a_buffer() {
    let mut guest = Setup::with(&[]).start();
    assert_eq!(guest.receive(&frame(60)), None);
    guest.post(&[2000]);
    guest.run();
    assert_eq!(guest.next_received().unwrap().frame, frame(60));
    assert_eq!((guest.stat("rx_too_long"), guest.stat("uplink_errors")), (0, 0));
}
