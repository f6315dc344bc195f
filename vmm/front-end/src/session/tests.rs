//! What is said when, against a back-end that keeps to the protocol.

use virtio_spec::DeviceType;
use virtio_spec::features::{RING_PACKED, RING_RESET, VERSION_1, mask};
use virtio_spec::vhost_user::{F_LOG_ALL, F_PROTOCOL_FEATURES, ProtocolFeatures};

use super::model::{HIGH, Kind, REGION, Stand, network, ring};
use super::wanted::MAX_CONFIG_WRITES;
use super::{Answer, Base, Effect, Step};
use crate::Error;
use crate::config::Config;

fn plain() -> Kind {
    Kind { features: mask(VERSION_1), protocol: ProtocolFeatures::empty(), ..Kind::default() }
}

fn effects(stand: &mut Stand) -> Vec<Effect> {
    std::iter::from_fn(|| stand.session.effects().take()).collect()
}

#[test]
fn the_handshake_asks_for_all_that_is_offered() {
    let mut stand = Stand::connected(Kind::default());
    let handshake = [
        "GET_FEATURES",
        "GET_PROTOCOL_FEATURES",
        "SET_PROTOCOL_FEATURES",
        "SET_OWNER",
        "GET_QUEUE_NUM",
        "GET_MAX_MEM_SLOTS",
        "SET_BACKEND_REQ_FD",
    ];
    let said = stand.said();
    assert_eq!(said.get(..7), Some(&handshake[..]));
    // 96 and 72 bytes of configuration are more than it has.
    assert_eq!(said.get(7..), Some(&["GET_CONFIG"; 3][..]));
    assert_eq!(stand.session.queues(), 4);
    assert_eq!(stand.session.config_size(), 60);
    assert!(stand.session.offered().has(VERSION_1));
    assert!(!stand.session.offered().has(F_PROTOCOL_FEATURES));
}

#[test]
fn a_back_end_without_any_extension_is_served() {
    let mut stand = Stand::connected(plain());
    assert_eq!(stand.said(), ["GET_FEATURES", "SET_OWNER"]);
    stand.start(0, &[0]);
    stand.run().unwrap();
    let expected = [
        "SET_FEATURES",
        "SET_MEM_TABLE",
        "SET_VRING_NUM",
        "SET_VRING_BASE",
        "SET_VRING_ADDR",
        "SET_VRING_ERR",
        "SET_VRING_CALL",
        "SET_VRING_KICK",
    ];
    assert_eq!(stand.said(), expected);
    assert_eq!(effects(&mut stand), [Effect::Kick(0)]);
    stand.session.reset();
    assert!(!stand.session.is_reset());
    stand.run().unwrap();
    assert!(stand.session.is_reset());
    assert_eq!(stand.said(), ["GET_VRING_BASE"]);
}

#[test]
fn a_device_is_started_and_reset_and_started_again() {
    let mut stand = Stand::connected(Kind::default());
    for _ in 0..2 {
        stand.said();
        stand.start(0, &[0, 1]);
        stand.run().unwrap();
        assert_eq!(stand.model().running(), [0, 1]);
        assert_eq!(stand.model().status, 15);
        assert_eq!(stand.model().memory, [REGION, HIGH]);
        let said = stand.said();
        assert!(said.contains(&"GET_INFLIGHT_FD") && said.contains(&"SET_INFLIGHT_FD"));
        stand.session.reset();
        stand.run().unwrap();
        assert!(stand.session.is_reset());
        assert_eq!(stand.said(), ["GET_VRING_BASE", "GET_VRING_BASE", "RESET_DEVICE"]);
    }
}

#[test]
fn without_reset_device_rings_are_disabled_and_the_status_is_cleared() {
    let protocol = ProtocolFeatures::all() - ProtocolFeatures::RESET_DEVICE;
    let mut stand = Stand::connected(Kind { protocol, ..Kind::default() });
    stand.start(0, &[3]);
    stand.run().unwrap();
    stand.said();
    stand.session.reset();
    stand.run().unwrap();
    assert_eq!(stand.said(), ["GET_VRING_BASE", "SET_VRING_ENABLE", "SET_STATUS"]);
    assert_eq!(stand.model().status, 0);
    assert!(stand.session.is_reset());
}

#[test]
fn a_device_that_was_not_started_is_reset_at_once() {
    let mut stand = Stand::new(Kind::default());
    stand.session.reset();
    assert!(stand.session.is_reset());
    stand.connect();
    stand.step().unwrap();
    stand.session.reset();
    assert!(stand.session.is_reset());
}

#[test]
fn a_reset_that_overtakes_the_start_waits_for_what_was_said() {
    for steps in 0..80 {
        let mut stand = Stand::connected(Kind::default());
        stand.start(0, &[0, 1]);
        for _ in 0..steps {
            stand.step().unwrap();
        }
        stand.session.reset();
        stand.run().unwrap();
        assert!(stand.session.is_reset());
        assert!(stand.model().running().is_empty());
        assert!(stand.session.effects().take().is_none());
    }
}

#[test]
fn a_reset_is_over_when_the_connection_is() {
    let mut stand = Stand::connected(Kind::default());
    stand.start(0, &[0]);
    stand.run().unwrap();
    stand.session.reset();
    stand.session.next_step();
    assert!(!stand.session.is_reset());
    stand.lose();
    assert!(stand.session.is_reset());
}

#[test]
fn one_queue_is_reset_and_enabled_again_while_the_other_runs() {
    let mut stand = Stand::connected(Kind::default());
    stand.start(0, &[0, 1]);
    stand.run().unwrap();
    stand.said();
    stand.session.reset_queue(1);
    assert!(!stand.session.queue_is_reset(1) && stand.session.queue_is_reset(0));
    stand.run().unwrap();
    assert!(stand.session.queue_is_reset(1));
    assert_eq!(stand.model().running(), [0]);
    assert_eq!(stand.said(), ["GET_VRING_BASE", "SET_VRING_ENABLE"]);
    stand.session.start_queue(ring(1));
    stand.run().unwrap();
    assert_eq!(stand.model().running(), [0, 1]);
    assert_eq!(stand.model().rings.get(&1).unwrap().base, Some(Base::At(0)));
}

#[test]
fn after_a_loss_all_is_said_again_with_the_region_that_there_was() {
    let mut stand = Stand::connected(Kind::default());
    stand.start(0, &[0, 1]);
    stand.run().unwrap();
    effects(&mut stand);
    stand.lose();
    // Reset while nobody is there to be told.
    stand.session.reset_queue(1);
    assert!(stand.session.queue_is_reset(1));
    stand.connect();
    stand.run().unwrap();
    assert_eq!(stand.model().running(), [0]);
    let handed = Step::SetInFlight { clear: vec![1], packed: false };
    assert!(stand.model().said.contains(&handed));
    assert!(!stand.said().contains(&"GET_INFLIGHT_FD"));
    assert_eq!(stand.model().rings.get(&0).unwrap().base, Some(Base::UsedIndex(0x2002)));
    assert_eq!(effects(&mut stand), [Effect::Kick(0), Effect::Call(0)]);
}

/// Class: lost notifications. A back-end serves a ring from SET_VRING_KICK on, and may die before we have
/// its answer.
#[test]
fn a_ring_that_was_just_being_started_is_called_after_a_loss() {
    let mut stand = Stand::connected(Kind::default());
    stand.start(0, &[0]);
    while stand.session.outstanding() != Some(&Step::RingKick(0)) {
        assert!(stand.step().unwrap());
    }
    stand.lose();
    stand.connect();
    stand.run().unwrap();
    assert_eq!(stand.model().rings.get(&0).unwrap().base, Some(Base::UsedIndex(0x2002)));
    assert_eq!(effects(&mut stand), [Effect::Kick(0), Effect::Call(0)]);
}

/// Class: ring size against in-flight table mismatch.
#[test]
fn the_region_holds_what_a_queue_may_grow_to() {
    for (features, size) in [(0, 64), (mask(RING_RESET), 256)] {
        let mut stand = Stand::connected(Kind::default());
        stand.start(features, &[0, 1]);
        stand.run().unwrap();
        assert!(stand.model().said.contains(&Step::GetInFlight { queues: 4, size }));
    }
}

#[test]
fn a_packed_ring_needs_a_region_to_go_on() {
    let packed = mask(RING_PACKED);
    for tracked in [true, false] {
        let mut kind = Kind::default();
        kind.protocol.set(ProtocolFeatures::INFLIGHT_SHMFD, tracked);
        let mut stand = Stand::connected(kind);
        stand.start(packed, &[0]);
        stand.run().unwrap();
        assert_eq!(stand.model().rings.get(&0).unwrap().base, Some(Base::At(0x8000_8000)));
        effects(&mut stand);
        stand.lose();
        assert_eq!(effects(&mut stand).contains(&Effect::NeedsReset), !tracked);
        stand.connect();
        stand.run().unwrap();
        assert_eq!(stand.model().running().is_empty(), !tracked);
        stand.session.reset();
        stand.run().unwrap();
        stand.start(packed, &[0]);
        stand.run().unwrap();
        assert_eq!(stand.model().running(), [0]);
    }
}

#[test]
fn a_pause_stops_rings_where_they_go_on_later_whatever_happens_in_between() {
    for lost in [false, true] {
        let mut stand = Stand::connected(Kind::default());
        stand.start(0, &[0, 2]);
        stand.run().unwrap();
        stand.session.set_paused(true);
        assert!(!stand.session.is_paused());
        stand.run().unwrap();
        assert!(stand.session.is_paused());
        if lost {
            stand.lose();
            assert!(stand.session.is_paused());
            stand.connect();
            stand.run().unwrap();
            assert!(stand.model().running().is_empty());
        }
        stand.session.set_paused(false);
        stand.run().unwrap();
        assert_eq!(stand.model().running(), [0, 2]);
        assert_eq!(stand.model().rings.get(&2).unwrap().base, Some(Base::At(102)));
    }
}

#[test]
fn the_end_stops_rings_and_starts_none() {
    let mut stand = Stand::connected(Kind::default());
    stand.start(0, &[0]);
    stand.run().unwrap();
    stand.said();
    stand.session.stop_for_good();
    assert!(!stand.session.is_stopped());
    stand.run().unwrap();
    assert!(stand.session.is_stopped());
    assert_eq!(stand.said(), ["GET_VRING_BASE"]);
}

#[test]
fn a_new_back_end_has_to_live_up_to_what_was_promised() {
    let start = || {
        let mut stand = Stand::connected(Kind::default());
        stand.start(mask(RING_PACKED), &[0]);
        stand.run().unwrap();
        stand.lose();
        stand
    };
    let mut stand = start();
    stand.kind.features &= !mask(RING_PACKED);
    stand.connect();
    let error = stand.run().unwrap_err();
    assert!(matches!(error, Error::FeaturesLost { bits } if bits == mask(RING_PACKED)));
    let mut stand = start();
    stand.kind.queues = 3;
    stand.connect();
    assert!(matches!(stand.run(), Err(Error::TooFewQueues { found: 3, needed: 4 })));
    let mut stand = start();
    stand.kind.config.truncate(36);
    stand.connect();
    assert!(matches!(stand.run(), Err(Error::ConfigLost { size: 60 })));
    // And then one comes that does.
    let mut stand = start();
    stand.connect();
    stand.run().unwrap();
    assert_eq!(stand.model().running(), [0]);
}

#[test]
fn back_ends_that_cannot_serve_are_refused() {
    let error = |kind: Kind| {
        let mut stand = Stand::new(kind);
        stand.connect();
        stand.run().unwrap_err()
    };
    assert!(matches!(error(Kind { features: 0, ..Kind::default() }), Error::Legacy));
    let none = Kind { queues: 0, ..Kind::default() };
    assert!(matches!(error(none), Error::WrongAnswer { .. }));
    let narrow = Kind { slots: 1, ..Kind::default() };
    assert!(matches!(error(narrow), Error::TooFewSlots { found: 1, needed: 2 }));
}

#[test]
fn a_count_beyond_all_reason_is_cut() {
    let stand = Stand::connected(Kind { queues: u64::MAX, slots: u64::MAX, ..Kind::default() });
    assert_eq!(stand.session.queues(), 256);
}

#[test]
fn the_configuration_follows_the_back_end() {
    let mut stand = Stand::connected(Kind::default());
    stand.start(0, &[0]);
    stand.run().unwrap();
    effects(&mut stand);
    let mut bytes = [0; 4];
    let version = stand.session.read_config(0, &mut bytes);
    assert_eq!(bytes, [7; 4]);
    stand.session.config_may_have_changed();
    stand.run().unwrap();
    assert!(effects(&mut stand).is_empty());
    stand.model().kind.config.fill(8);
    stand.session.config_may_have_changed();
    stand.run().unwrap();
    assert_eq!(effects(&mut stand), [Effect::ConfigChanged]);
    assert_ne!(stand.session.read_config(58, &mut bytes), version);
    assert_eq!(bytes, [8, 8, 0, 0]);
    stand.session.read_config(u32::MAX, &mut bytes);
    assert_eq!(bytes, [0; 4]);
}

#[test]
fn the_driver_reads_what_it_wrote_and_the_back_end_gets_it() {
    let mut stand = Stand::connected(Kind::default());
    stand.session.write_config(59, &[1, 2, 3, 4]);
    stand.session.write_config(60, &[1]);
    stand.session.write_config(u32::MAX, &[1]);
    let mut byte = [0];
    stand.session.read_config(59, &mut byte);
    assert_eq!(byte, [1]);
    stand.lose();
    stand.connect();
    stand.run().unwrap();
    assert_eq!(stand.model().kind.config.last(), Some(&1));
    stand.said();
    for _ in 0..1000 {
        stand.session.write_config(0, &[5]);
    }
    stand.run().unwrap();
    let writes = stand.said().iter().filter(|name| **name == "SET_CONFIG").count();
    assert_eq!(writes, MAX_CONFIG_WRITES);
}

#[test]
fn a_refused_write_is_taken_back() {
    let mut stand = Stand::connected(Kind::default());
    stand.session.write_config(0, &[9]);
    assert!(matches!(stand.session.next_step(), Some(Step::SetConfig { .. })));
    stand.session.answered(Answer::Refused(1)).unwrap();
    stand.run().unwrap();
    let mut byte = [0];
    stand.session.read_config(0, &mut byte);
    assert_eq!(byte, [7]);
}

#[test]
fn a_ring_that_is_refused_needs_a_reset_and_the_others_run() {
    let kind = Kind { refuses: [1].into(), ..Kind::default() };
    let mut stand = Stand::connected(kind);
    stand.start(0, &[0, 1, 2]);
    stand.run().unwrap();
    assert_eq!(stand.model().running(), [0, 2]);
    assert!(effects(&mut stand).contains(&Effect::NeedsReset));
    stand.session.reset();
    stand.run().unwrap();
    assert!(stand.session.is_reset());
}

#[test]
fn a_ring_outside_memory_needs_a_reset() {
    let mut stand = Stand::connected(Kind::default());
    stand.start(0, &[0]);
    stand.session.start_queue(super::Ring { device: 0xf_ffff, ..ring(1) });
    stand.run().unwrap();
    assert_eq!(stand.model().running(), [0]);
    assert!(effects(&mut stand).contains(&Effect::NeedsReset));
}

#[test]
fn a_status_that_needs_a_reset_is_seen_at_a_config_change() {
    let mut stand = Stand::connected(Kind::default());
    stand.start(0, &[0]);
    stand.run().unwrap();
    effects(&mut stand);
    stand.model().kind.status = 64 | 15;
    for _ in 0..3 {
        stand.session.config_may_have_changed();
        stand.run().unwrap();
    }
    assert_eq!(effects(&mut stand), [Effect::NeedsReset]);
}

#[test]
fn a_log_is_set_and_taken_away_with_rings_running() {
    let mut stand = Stand::connected(Kind::default());
    stand.start(0, &[0, 1]);
    stand.run().unwrap();
    stand.said();
    stand.session.set_log(Some(1)).unwrap();
    stand.run().unwrap();
    assert!(stand.session.log_is_set());
    let on = ["SET_LOG_BASE", "SET_FEATURES", "SET_VRING_ADDR", "SET_VRING_ADDR"];
    assert_eq!(stand.said(), on);
    assert!(stand.model().rings.values().all(|ring| ring.logged));
    stand.session.set_log(None).unwrap();
    stand.run().unwrap();
    assert!(stand.session.log_is_set());
    assert_eq!(stand.said(), ["SET_FEATURES", "SET_VRING_ADDR", "SET_VRING_ADDR"]);
    assert_eq!(stand.model().features.unwrap() & mask(F_LOG_ALL), 0);
    let mut without = Stand::connected(plain());
    assert!(matches!(without.session.set_log(Some(1)), Err(Error::Lacking(_))));
}

#[test]
fn memory_is_plugged_and_unplugged() {
    let more = virtio_spec::vhost_user::MemoryRegion { guest_addr: 2 << 32, ..HIGH };
    for slots in [true, false] {
        let mut kind = Kind::default();
        kind.protocol.set(ProtocolFeatures::CONFIGURE_MEM_SLOTS, slots);
        let mut stand = Stand::connected(kind);
        stand.start(0, &[0]);
        stand.run().unwrap();
        stand.said();
        stand.session.set_memory(vec![REGION, more]);
        stand.run().unwrap();
        let expected: &[&str] =
            if slots { &["REM_MEM_REG", "ADD_MEM_REG"] } else { &["SET_MEM_TABLE"] };
        assert_eq!(stand.said(), expected);
        assert_eq!(stand.model().memory, [REGION, more]);
    }
}

#[test]
fn a_network_card_is_told_its_mtu_and_announced() {
    let kind = network(ProtocolFeatures::all());
    let mut stand = Stand::of(Config::new("net0", DeviceType::NET), kind);
    stand.connect();
    stand.run().unwrap();
    stand.start(mask(virtio_spec::net::feature::MTU), &[0, 1]);
    stand.session.announce([2, 0, 0, 0, 0, 7]);
    stand.run().unwrap();
    assert!(stand.model().said.contains(&Step::SetMtu(1400)));
    assert!(stand.model().said.contains(&Step::Announce([2, 0, 0, 0, 0, 7])));
}

#[test]
fn a_network_back_end_without_configuration_gets_the_users() {
    let mut config = Config::new("net0", DeviceType::NET);
    config.mac = Some([2, 0, 0, 0, 0, 1]);
    let protocol = ProtocolFeatures::MQ | ProtocolFeatures::REPLY_ACK;
    let kind = Kind { queues: 128, ..network(protocol) };
    let kind = Kind { features: kind.features & !mask(virtio_spec::net::feature::MAC), ..kind };
    let mut stand = Stand::of(config, kind);
    stand.connect();
    stand.run().unwrap();
    let offered = stand.session.offered();
    assert!(offered.has(virtio_spec::net::feature::MAC));
    assert!(!offered.has(virtio_spec::net::feature::CTRL_VQ));
    assert_eq!(stand.session.queues(), 2);
    let mut mac = [0; 6];
    stand.session.read_config(0, &mut mac);
    assert_eq!(mac, [2, 0, 0, 0, 0, 1]);
    // The back-end did not offer it and does not get it.
    stand.start(mask(virtio_spec::net::feature::MAC), &[0, 1]);
    stand.run().unwrap();
    assert_eq!(stand.model().running(), [0, 1]);
}

#[test]
fn features_are_accepted_if_they_were_offered() {
    let stand = Stand::connected(Kind::default());
    let accepts = |bits| stand.session.accepts(virtio_spec::Negotiated::assume(bits));
    assert!(accepts(mask(VERSION_1)));
    assert!(!accepts(0));
    assert!(!accepts(mask(VERSION_1) | 1));
}
