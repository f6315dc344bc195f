use virtio_spec::features::{Offered, mask};
use virtio_spec::net::{
    Config, ConfigStatus, GUEST_CSUM, HASH_REPORT, MQ, MTU, NOTF_COAL, RSS, STATUS, control,
};

use super::*;
use crate::control::Command;
use crate::uplink::tap::Offloads;

const MAC: Mac = [0x52, 0x54, 0, 1, 2, 3];

fn settings() -> Settings {
    let (mac, mtu) = (Some(MAC), Some(1500));
    Settings { mac, mtu, pairs: 4, queue_size: 256, offloads: true, ctrl_vq: true }
}

fn device(settings: Settings) -> NetDevice {
    NetDevice::new(Uplink::Null { load: 0 }, settings)
}

fn offered(settings: Settings) -> Offered {
    Offered::new(device(settings).features())
}

fn negotiate(device: &mut NetDevice, bits: &[u32]) {
    device.negotiated(Negotiated::assume(bits.iter().map(|bit| mask(*bit)).sum()));
}

fn space(device: &NetDevice) -> Config {
    Config::from_prefix(&device.config()).unwrap()
}

#[test]
fn commands_are_offered_only_where_they_arrive() {
    let with = offered(settings());
    let without = offered(Settings { ctrl_vq: false, ..settings() });
    for bit in [CTRL_VQ, GUEST_ANNOUNCE, HASH_REPORT, NOTF_COAL] {
        assert!(with.has(bit) && !without.has(bit), "{bit}");
    }
    assert!(with.has(MQ) && without.has(MQ) && !with.has(RSS));
}

#[test]
fn nothing_is_offered_that_the_user_has_switched_off() {
    let offered = offered(Settings { offloads: false, mtu: None, ..settings() });
    assert!(!offered.has(GUEST_CSUM) && !offered.has(MTU) && offered.has(STATUS));
}

#[test]
fn the_config_space_describes_the_card() {
    let space = space(&device(settings()));
    assert_eq!((space.mac, space.mtu, space.max_virtqueue_pairs), (MAC, 1500, 4));
    assert_eq!(space.status, ConfigStatus::LINK_UP.bits());
    assert_eq!((space.rss_max_key_size, space.supported_hash_types), (40, 0x3f));
    assert_eq!((space.speed, space.duplex), (u32::MAX, u8::MAX));
}

#[test]
fn the_control_queue_is_counted() {
    assert_eq!(device(settings()).limits().count, 9);
    assert_eq!(device(Settings { ctrl_vq: false, ..settings() }).limits().count, 8);
}

#[test]
fn the_link_goes_down_and_up_again() {
    let mut device = device(settings());
    let set = |device: &mut NetDevice, state: &str| {
        device.control("link", &json!({ "state": state }), Vec::new()).unwrap()
    };
    let down = set(&mut device, "down").unwrap();
    assert!(down.config_changed && down.nudge);
    assert_eq!(space(&device).status, 0);
    assert!(!set(&mut device, "down").unwrap().config_changed);
    assert!(set(&mut device, "up").unwrap().config_changed);
    assert!(set(&mut device, "sideways").unwrap_err().to_string().contains("\"down\""));
}

#[test]
fn a_driver_that_can_is_asked_to_announce_itself() {
    let mut device = device(settings());
    negotiate(&mut device, &[CTRL_VQ, GUEST_ANNOUNCE, STATUS]);
    device.send_rarp(MAC).unwrap();
    assert_eq!(space(&device).status, 3);
    assert!(device.rung().config_changed);
    let given = device.card.state.given();
    let effect =
        device.card.state.change(|state, _| Command::AnnounceAck.apply(state, &given)).unwrap();
    assert!(effect.config_changed);
    assert_eq!(space(&device).status, ConfigStatus::LINK_UP.bits());
}

#[test]
fn a_card_announces_a_driver_that_cannot() {
    let mut card = device(settings());
    negotiate(&mut card, &[STATUS]);
    let outcome = card.control("announce", &Value::Null, Vec::new()).unwrap().unwrap();
    assert_eq!(outcome.answer, json!({ "announced_by": "card" }));
    let mut nameless = device(Settings { mac: None, ..settings() });
    let error = nameless.control("announce", &Value::Null, Vec::new()).unwrap().unwrap_err();
    assert!(error.to_string().contains("--mac"), "{error}");
}

#[test]
fn an_mtu_is_within_what_is_specified() {
    let mut device = device(settings());
    for mtu in [0, 67, 65_536, u64::MAX] {
        assert!(device.set_mtu(mtu).is_err(), "{mtu}");
    }
    device.set_mtu(9000).unwrap();
    assert_eq!(space(&device).mtu, 9000);
}

#[test]
fn what_the_driver_has_set_goes_to_a_successor_and_ends_with_a_reset() {
    let bits = [CTRL_VQ, virtio_spec::net::CTRL_MAC_ADDR, virtio_spec::net::MAC, NOTF_COAL];
    let mut first = device(settings());
    negotiate(&mut first, &bits);
    let other = [2, 0, 0, 0, 0, 9];
    let coalesce = control::Coalesce { max_packets: 4, max_usecs: 5 };
    for command in [Command::MacAddress(other), Command::CoalesceAll { receive: true, coalesce }] {
        first.card.state.change(|state, given| command.apply(state, given)).unwrap();
    }
    let mut second = device(settings());
    second.load(&first.save()).unwrap();
    negotiate(&mut second, &bits);
    assert_eq!(space(&second).mac, other);
    assert_eq!(second.card.state.get(), first.card.state.get());
    // Another choice of features is another driver.
    negotiate(&mut second, &bits[..3]);
    assert_eq!(space(&second).mac, MAC);
    second.load(&first.save()).unwrap();
    second.reset();
    assert_eq!(space(&second).mac, MAC);
    assert_eq!(second.card.state.get(), DriverState::default());
}

#[test]
fn a_state_that_is_none_changes_nothing() {
    let mut device = device(settings());
    negotiate(&mut device, &[CTRL_VQ]);
    let before = device.save();
    assert!(device.load(&[7; 40]).is_err());
    assert_eq!(device.save(), before);
    device.load(&[]).unwrap();
    assert_eq!(device.save(), before);
}

#[test]
fn the_config_space_is_not_written_by_drivers() {
    let mut device = device(settings());
    assert!(device.write_config(0, &[1; 6], ConfigWriter::Driver).is_err());
    assert!(device.write_config(0, &[1; 6], ConfigWriter::Migration).is_ok());
}

#[test]
fn offloads_that_no_checksum_comes_with_are_left_out() {
    let state = DriverState { offloads: Offloads::TSO4, ..DriverState::default() };
    assert!(state.effective_offloads().is_empty());
}
