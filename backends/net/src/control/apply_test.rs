use proptest::prelude::*;
use virtio_spec::features::{Negotiated, mask};
use virtio_spec::net::{CTRL_VQ, GUEST_CSUM, GUEST_TSO4, HashTypes};

use super::*;
use crate::filter::MacTable;
use crate::hash::HashSettings;
use crate::rss::RssSettings;
use crate::uplink::tap::Offloads;

const GIVEN: Given = Given { mac: None, mtu: None, max_pairs: 4, link_up: true };

fn state(bits: &[u32]) -> DriverState {
    DriverState::begin(Negotiated::assume(bits.iter().map(|bit| mask(*bit)).sum()))
}

fn apply(state: &mut DriverState, command: Command) -> Result<Effect, Refused> {
    command.apply(state, &GIVEN)
}

/// All packets by one pair.
fn rss(pair: u16) -> RssSettings {
    let hash = HashSettings { types: HashTypes::IPV4, key: vec![1; 40] };
    RssSettings { hash, table: vec![pair; 4], unclassified: 0, transmit: 1 }
}

#[test]
fn receive_side_scaling_lasts_until_pairs_are_set() {
    let mut state = state(&[CTRL_VQ, RSS]);
    let effect = apply(&mut state, Command::Rss(rss(3))).unwrap();
    assert!(effect.steering_changed && effect.pairs_changed);
    assert_eq!((state.pairs_in_use(&GIVEN), state.rss.clone()), (4, Some(rss(3))));
    assert_eq!(apply(&mut state, Command::Rss(rss(4))), Err(Refused::Value));
    assert_eq!(state.rss, Some(rss(3)));
    let mut state = DriverState { features: self::state(&[CTRL_VQ, RSS, MQ]).features, ..state };
    assert!(apply(&mut state, Command::Pairs(2)).unwrap().steering_changed);
    assert_eq!((state.pairs, state.rss), (2, None));
}

#[test]
fn each_command_needs_its_feature() {
    let coalesce = Coalesce { max_packets: 1, max_usecs: 1 };
    for command in [
        Command::Mode(Modes::PROMISCUOUS, true),
        Command::Mode(Modes::NO_UNICAST, true),
        Command::MacTable(MacTable::default()),
        Command::MacAddress([2; 6]),
        Command::Vlan(1, true),
        Command::AnnounceAck,
        Command::Pairs(1),
        Command::Rss(rss(0)),
        Command::GuestOffloads(0),
        Command::CoalesceAll { receive: true, coalesce },
        Command::CoalesceQueue { queue: 0, coalesce },
        Command::CoalesceGet { queue: 0 },
    ] {
        let mut without = state(&[CTRL_VQ]);
        assert_eq!(apply(&mut without, command.clone()), Err(Refused::NotNegotiated));
        assert!(!without.commanded);
        let mut with = state(&[CTRL_VQ, command.feature()]);
        assert!(apply(&mut with, command.clone()).is_ok(), "{command:?}");
        assert!(with.commanded);
    }
}

#[test]
fn the_own_address_shows_in_the_config_space_if_that_was_negotiated() {
    let mut with = state(&[CTRL_VQ, CTRL_MAC_ADDR, MAC]);
    let effect = apply(&mut with, Command::MacAddress([2; 6])).unwrap();
    assert!(effect.config_changed && with.mac == Some([2; 6]));
    assert_eq!(apply(&mut with, Command::MacAddress([3; 6])), Err(Refused::Value));
    let mut without = state(&[CTRL_VQ, CTRL_MAC_ADDR]);
    assert!(!apply(&mut without, Command::MacAddress([2; 6])).unwrap().config_changed);
}

/// The most pairs that a card can have (virtio 1.4, 5.1.6.5.5): twice as many queues have no number.
#[test]
fn as_many_pairs_as_there_can_be() {
    let mut state = state(&[CTRL_VQ, MQ]);
    let given = Given { max_pairs: 0x8000, ..GIVEN };
    assert!(Command::Pairs(0x8000).apply(&mut state, &given).is_ok());
    assert_eq!(state.pairs_in_use(&given), 0x8000);
}

#[test]
fn pairs_are_one_to_the_most() {
    let mut state = state(&[CTRL_VQ, MQ]);
    assert_eq!(state.pairs_in_use(&GIVEN), 1, "until the driver says otherwise");
    for pairs in [0, 5, u16::MAX] {
        assert_eq!(apply(&mut state, Command::Pairs(pairs)), Err(Refused::Value));
    }
    assert!(apply(&mut state, Command::Pairs(4)).unwrap().pairs_changed);
    assert_eq!(state.pairs_in_use(&GIVEN), 4);
}

#[test]
fn without_a_control_queue_of_ours_all_pairs_are_in_use() {
    assert_eq!(state(&[MQ]).pairs_in_use(&GIVEN), 4);
    assert_eq!(state(&[]).pairs_in_use(&GIVEN), 1);
}

#[test]
fn only_offloads_that_were_negotiated_can_be_chosen() {
    let mut state = state(&[CTRL_VQ, CTRL_GUEST_OFFLOADS, GUEST_CSUM, GUEST_TSO4]);
    assert_eq!(state.offloads, Offloads::CSUM | Offloads::TSO4);
    assert!(apply(&mut state, Command::GuestOffloads(1 << GUEST_CSUM)).unwrap().offloads_changed);
    assert_eq!(state.offloads, Offloads::CSUM);
    let refused = apply(&mut state, Command::GuestOffloads(1 << 8));
    assert_eq!((refused, state.offloads), (Err(Refused::NotNegotiated), Offloads::CSUM));
}

#[test]
fn segments_without_checksums_are_never_asked_of_an_uplink() {
    let mut state = state(&[CTRL_VQ, CTRL_GUEST_OFFLOADS, GUEST_CSUM, GUEST_TSO4]);
    apply(&mut state, Command::GuestOffloads(1 << GUEST_TSO4)).unwrap();
    assert_eq!(state.effective_offloads(), Offloads::empty());
}

#[test]
fn only_enabled_queues_coalesce() {
    let mut state = state(&[CTRL_VQ, MQ, VQ_NOTF_COAL]);
    let coalesce = Coalesce { max_packets: 7, max_usecs: 8 };
    let set = |queue| Command::CoalesceQueue { queue, coalesce };
    assert_eq!(apply(&mut state, set(2)), Err(Refused::Value));
    assert_eq!(apply(&mut state, Command::CoalesceGet { queue: 8 }), Err(Refused::Value));
    apply(&mut state, Command::Pairs(2)).unwrap();
    apply(&mut state, set(2)).unwrap();
    let got = apply(&mut state, Command::CoalesceGet { queue: 2 }).unwrap();
    assert_eq!(got.result, Some(coalesce));
    apply(&mut state, Command::Pairs(1)).unwrap();
    apply(&mut state, Command::Pairs(2)).unwrap();
    let got = apply(&mut state, Command::CoalesceGet { queue: 2 }).unwrap();
    assert_eq!(got.result, Some(Coalesce::default()));
}

proptest! {
    #[test]
    fn a_refused_command_changes_nothing(
        class in 0..9_u8, command in 0..6_u8, bits in any::<u64>(),
        data in proptest::collection::vec(prop_oneof![0..5_u8, any::<u8>()], 0..60),
    ) {
        let mut state = DriverState::begin(Negotiated::assume(bits));
        let before = state.clone();
        if let Ok(command) = Command::parse(&[&[class, command], &data[..]].concat())
            && command.apply(&mut state, &GIVEN).is_err()
        {
            prop_assert_eq!(state, before);
        }
    }
}
