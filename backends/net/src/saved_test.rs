use proptest::prelude::*;
use virtio_spec::features::mask;
use virtio_spec::net::CTRL_VQ;

use super::*;
use crate::driver_state::OFFLOAD_BITS;
use crate::filter::Modes;

fn coalesce() -> impl Strategy<Value = Coalesce> {
    (any::<u32>(), any::<u32>())
        .prop_map(|(max_packets, max_usecs)| Coalesce { max_packets, max_usecs })
}

fn state() -> impl Strategy<Value = DriverState> {
    let addresses = || proptest::collection::vec(any::<Mac>(), 0..300);
    let vlans = proptest::collection::vec(0..4096_u16, 0..20);
    let hash = (0..64_u32, proptest::collection::vec(any::<u8>(), 0..=KEY_MAX));
    let table = proptest::collection::vec(any::<u8>().prop_map(u16::from), 1 << 5);
    let rss = (0..64_u32, table, any::<u8>(), 1..256_u16);
    let queues = proptest::collection::btree_map(any::<u16>(), coalesce(), 0..20);
    (
        (
            any::<u64>(),
            0..128_u32,
            any::<[bool; 2]>(),
            0..64_u8,
            any::<Option<Mac>>(),
            1..=u16::MAX,
        ),
        (addresses(), addresses(), vlans, proptest::option::of(hash)),
        (coalesce(), coalesce(), queues),
        proptest::option::of(rss),
    )
        .prop_map(|(simple, lists, (receive, transmit, queues), rss)| {
            let (features, offloads, [commanded, announce], modes, mac, pairs) = simple;
            let (unicast, multicast, vlans, hash) = lists;
            let mut state = DriverState::begin(Negotiated::assume(features));
            state.offloads &= Offloads::from_bits_retain(offloads);
            state.modes = Modes::from_bits_retain(modes);
            state.table = MacTable::new(&unicast, &multicast);
            for vlan in vlans {
                assert!(state.vlans.set(vlan, true));
            }
            state.hash = hash.map(|(types, key)| HashSettings {
                types: HashTypes::from_bits_retain(types),
                key,
            });
            state.rss = rss.map(|(types, table, unclassified, transmit)| {
                let types = HashTypes::from_bits_retain(types);
                let hash = HashSettings { types, key: vec![9; KEY_MAX] };
                RssSettings { hash, table, unclassified: unclassified.into(), transmit }
            });
            state.coalescing = Coalescing { receive, transmit, queues };
            DriverState { commanded, announce, mac, pairs, ..state }
        })
}

proptest! {
    #[test]
    fn every_state_round_trips(state in state()) {
        let bytes = state.to_bytes();
        prop_assert!(bytes.len() < 16 * 1024);
        prop_assert_eq!(DriverState::from_bytes(&bytes).unwrap(), state);
    }

    #[test]
    fn a_part_of_a_state_is_none(state in state(), cut in any::<prop::sample::Index>()) {
        let bytes = state.to_bytes();
        let cut = cut.index(bytes.len());
        prop_assert!(DriverState::from_bytes(&bytes[..cut]).is_err());
    }

    #[test]
    fn no_bytes_are_too_odd(
        state in state(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..9),
        more in proptest::collection::vec(any::<u8>(), 0..9),
    ) {
        let mut bytes = state.to_bytes();
        bytes.extend(more);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(state) = DriverState::from_bytes(&bytes) {
            prop_assert!(state.to_bytes().len() <= bytes.len());
        }
    }
}

#[test]
fn offloads_that_were_not_negotiated_are_refused() {
    let mut state = DriverState::begin(Negotiated::assume(mask(CTRL_VQ)));
    state.offloads = OFFLOAD_BITS[0].1;
    assert!(DriverState::from_bytes(&state.to_bytes()).is_err());
}

#[test]
fn another_version_is_named() {
    let Err(error) = DriverState::from_bytes(&[9, 0]) else { panic!("it was taken") };
    assert!(error.to_string().contains("Some(9)"), "{error}");
}
