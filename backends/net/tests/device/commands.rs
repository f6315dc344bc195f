//! Commands of the driver.

use framework::device::Device;
use virtio_spec::net::control::{ACK_ERR, ACK_OK, Command as Kind};
use virtio_spec::net::{
    CTRL_GUEST_OFFLOADS, CTRL_MAC_ADDR, CTRL_RX, CTRL_RX_EXTRA, CTRL_VLAN, CTRL_VQ, Config,
    GUEST_ANNOUNCE, GUEST_CSUM, GUEST_TSO4, MAC as HAS_MAC, MQ,
};

use crate::guest::{Guest, MAC, Setup, frame, frame_to};

const ALL: [u32; 6] = [CTRL_VQ, CTRL_RX, CTRL_RX_EXTRA, CTRL_VLAN, CTRL_MAC_ADDR, HAS_MAC];
const STRANGER: [u8; 6] = [2, 0, 0, 0, 0, 1];
const GROUP: [u8; 6] = [1, 0, 0x5e, 0, 0, 1];

fn guest() -> Guest {
    let mut guest = Setup::with(&ALL).start();
    for _ in 0..40 {
        guest.post(&[2000]);
    }
    guest
}

fn gets(guest: &mut Guest, frame: &[u8]) -> bool {
    guest.receive(frame).is_some()
}

#[test]
fn nothing_is_filtered_before_the_first_command() {
    let mut guest = guest();
    assert!(gets(&mut guest, &frame_to(STRANGER)));
    assert!(gets(&mut guest, &frame_to(GROUP)));
    let tagged = [&frame(12)[..], &[0x81, 0, 0, 7, 8, 0], &[0; 46]].concat();
    assert!(gets(&mut guest, &tagged));
}

#[test]
fn modes_and_tables_decide_what_is_received() {
    let mut guest = guest();
    guest.set(Kind::RxPromisc, &[0]);
    assert!(gets(&mut guest, &frame(60)));
    assert!(!gets(&mut guest, &frame_to(STRANGER)));
    assert!(!gets(&mut guest, &frame_to(GROUP)));
    assert_eq!(guest.stat("rx_filtered"), 2);
    let table = [&[1, 0, 0, 0][..], &STRANGER, &[1, 0, 0, 0], &GROUP].concat();
    guest.set(Kind::MacTableSet, &table);
    assert!(gets(&mut guest, &frame_to(STRANGER)) && gets(&mut guest, &frame_to(GROUP)));
    guest.set(Kind::RxNoUni, &[1]);
    assert!(!gets(&mut guest, &frame(60)));
    guest.set(Kind::RxPromisc, &[1]);
    assert!(gets(&mut guest, &frame(60)));
}

#[test]
fn vlans_decide_what_is_received() {
    let mut guest = guest();
    let tagged = [&frame(12)[..], &[0x81, 0, 0, 7, 8, 0], &[0; 46]].concat();
    guest.set(Kind::VlanAdd, &[7, 0]);
    assert!(gets(&mut guest, &tagged));
    guest.set(Kind::VlanDel, &[7, 0]);
    assert!(!gets(&mut guest, &tagged));
    assert_eq!(guest.command_ack(Kind::VlanAdd, &[0, 16]), ACK_ERR);
}

#[test]
fn the_address_is_in_the_config_space_once_it_is_acknowledged() {
    let mut guest = guest();
    let mac = |guest: &Guest| Config::from_prefix(&guest.device.config()).unwrap().mac;
    assert_eq!(mac(&guest), MAC);
    guest.set(Kind::MacAddrSet, &STRANGER);
    assert_eq!(mac(&guest), STRANGER);
    assert!(gets(&mut guest, &frame_to(STRANGER)) && !gets(&mut guest, &frame(60)));
}

#[test]
fn commands_are_understood_however_they_are_cut() {
    for setup in Setup::each(&ALL) {
        let mut guest = setup.start();
        let table = [&[1, 0, 0, 0][..], &STRANGER, &[0; 4]].concat();
        let bytes = [&Kind::MacTableSet.header().to_bytes()[..], &table].concat();
        for cuts in [&[][..], &[1], &[2, 4, 6], &[1, 1, 1, 1, 1, 1, 1], &[15]] {
            assert_eq!(guest.ask(&bytes, cuts, &[1]), [ACK_OK], "{cuts:?}");
            assert_eq!(guest.ask(&bytes[..10], cuts, &[1]), [ACK_ERR], "{cuts:?}");
        }
    }
}

#[test]
fn an_announcement_ends_when_it_is_acknowledged() {
    let mut guest = Setup::with(&[CTRL_VQ, GUEST_ANNOUNCE]).start();
    let status = |guest: &Guest| Config::from_prefix(&guest.device.config()).unwrap().status;
    guest.device.send_rarp(MAC).unwrap();
    assert_eq!(status(&guest), 3);
    guest.set(Kind::AnnounceAck, &[]);
    assert_eq!(status(&guest), 1);
}

#[test]
fn only_pairs_in_use_are_given_packets() {
    let mut setup = Setup::with(&[CTRL_VQ, MQ]);
    setup.pairs = 4;
    let mut guest = setup.start();
    assert_eq!(guest.stat("pairs_in_use"), 1);
    guest.set(Kind::MqPairsSet, &[3, 0]);
    assert_eq!(guest.stat("pairs_in_use"), 3);
    for refused in [0, 5] {
        assert_eq!(guest.command_ack(Kind::MqPairsSet, &[refused, 0]), ACK_ERR);
    }
    assert_eq!(guest.stat("pairs_in_use"), 3);
}

#[test]
fn offloads_can_be_given_up_and_taken_again() {
    let mut guest = Setup::with(&[CTRL_VQ, CTRL_GUEST_OFFLOADS, GUEST_CSUM, GUEST_TSO4]).start();
    let both = 1_u64 << GUEST_CSUM | 1 << GUEST_TSO4;
    for (bits, ack) in [(0, ACK_OK), (both, ACK_OK), (both | 1 << 8, ACK_ERR), (1, ACK_ERR)] {
        assert_eq!(guest.command_ack(Kind::GuestOffloadsSet, &bits.to_le_bytes()), ack);
    }
}

#[test]
fn a_reset_forgets_what_was_set() {
    let mut guest = guest();
    guest.set(Kind::RxNoUni, &[1]);
    assert!(!gets(&mut guest, &frame(60)));
    let features = guest.setup.features;
    guest.device.reset();
    guest.device.negotiated(virtio_spec::features::Negotiated::assume(features));
    assert!(gets(&mut guest, &frame_to(STRANGER)));
}
