use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

const OWN: Mac = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

fn frame(destination: Mac, vlan: Option<u16>) -> Vec<u8> {
    let mut frame = [destination, [2, 0, 0, 0, 0, 9]].concat();
    if let Some(vlan) = vlan {
        frame.extend(TAG);
        frame.extend(vlan.to_be_bytes());
    }
    frame.extend([8, 0, 0x45, 0]);
    frame
}

fn own() -> Filter {
    Filter { mac: Some(OWN), ..Filter::default() }
}

#[test]
fn a_card_takes_its_own_address_and_broadcasts() {
    let filter = own();
    assert!(filter.accepts(&frame(OWN, None)));
    assert!(filter.accepts(&frame(BROADCAST, None)));
    assert!(!filter.accepts(&frame([2, 0, 0, 0, 0, 1], None)));
    assert!(!filter.accepts(&frame([1, 0, 0x5e, 0, 0, 1], None)));
}

#[test]
fn a_card_whose_address_nobody_knows_takes_every_unicast_frame() {
    assert!(Filter::default().accepts(&frame([2, 0, 0, 0, 0, 1], None)));
}

#[test]
fn promiscuous_beats_everything() {
    let modes = Modes::all();
    let filter = Filter { modes, vlans: Some(Vlans::default()), ..own() };
    assert!(filter.accepts(&frame(BROADCAST, Some(7))));
    assert!(filter.accepts(&[]));
}

#[test]
fn suppression_beats_permission() {
    for (mode, address) in [
        (Modes::NO_MULTICAST | Modes::ALL_MULTICAST, [1, 0, 0x5e, 0, 0, 1]),
        (Modes::NO_UNICAST | Modes::ALL_UNICAST, OWN),
        (Modes::NO_BROADCAST | Modes::ALL_MULTICAST, BROADCAST),
    ] {
        let filter = Filter { modes: mode, ..own() };
        assert!(!filter.accepts(&frame(address, None)), "{mode:?}");
    }
    let filter = Filter { modes: Modes::NO_MULTICAST, ..own() };
    assert!(filter.accepts(&frame(BROADCAST, None)), "a broadcast is no multicast");
}

#[test]
fn a_table_that_is_too_long_lets_its_kind_pass() {
    let many: Vec<Mac> = (0..=u16::MAX)
        .take(MacTable::MOST + 1)
        .map(u16::to_be_bytes)
        .map(|[a, b]| [2, 0, 0, 1, a, b])
        .collect();
    let filter = Filter { table: MacTable::new(&many, &[]), ..own() };
    assert!(filter.accepts(&frame([6, 6, 6, 6, 6, 6], None)));
    assert!(!filter.accepts(&frame([1, 0, 0x5e, 0, 0, 1], None)));
    assert!(filter.table.addresses().is_empty());
}

#[test]
fn a_tag_with_a_priority_alone_passes() {
    let filter = Filter { vlans: Some(Vlans::default()), ..own() };
    assert!(filter.accepts(&frame(OWN, Some(0xe000))));
    assert!(!filter.accepts(&frame(OWN, Some(0xe001))));
}

/// The rules once more, as sentences of the specification.
struct Model {
    modes: Modes,
    table: HashSet<Mac>,
    vlans: HashSet<u16>,
    filters_vlans: bool,
}

impl Model {
    fn accepts(&self, to: Mac, vlan: Option<u16>) -> bool {
        let is = |mode| self.modes.contains(mode);
        let group = to[0] & 1 == 1;
        let known = self.table.contains(&to) || to == OWN;
        let by_address = match (to == BROADCAST, group) {
            (true, _) => !is(Modes::NO_BROADCAST),
            (_, true) if is(Modes::NO_MULTICAST) => false,
            (_, true) => is(Modes::ALL_MULTICAST) || self.table.contains(&to),
            (_, false) if is(Modes::NO_UNICAST) => false,
            (_, false) => is(Modes::ALL_UNICAST) || known,
        };
        let by_vlan = match vlan.map(|tag| tag & 0xfff) {
            None | Some(0) => true,
            Some(vlan) => !self.filters_vlans || self.vlans.contains(&vlan),
        };
        is(Modes::PROMISCUOUS) || (by_address && by_vlan)
    }
}

/// Few addresses, so that they meet.
fn address() -> impl Strategy<Value = Mac> {
    (0..4_u8, 0..4_u8).prop_map(|(first, last)| match (first, last) {
        (0, 0) => OWN,
        (1, 1) => BROADCAST,
        _ => [first, 0, 0, 0, 0, last],
    })
}

proptest! {
    #[test]
    fn the_filter_agrees_with_the_model(
        modes in 0..64_u8,
        table in proptest::collection::vec(address(), 0..6),
        vlans in proptest::option::of(proptest::collection::hash_set(0..6_u16, 0..4)),
        frames in proptest::collection::vec(
            (address(), proptest::option::of((0..6_u16, 0..8_u16))), 1..20),
    ) {
        let (multicast, unicast): (Vec<Mac>, Vec<Mac>) =
            table.iter().partition(|address| address[0] & 1 == 1);
        let mut set = Vlans::default();
        for vlan in vlans.iter().flatten() {
            prop_assert!(set.set(*vlan, true));
        }
        let modes = Modes::from_bits_retain(modes);
        let filter = Filter {
            modes,
            mac: Some(OWN),
            table: MacTable::new(&unicast, &multicast),
            vlans: vlans.is_some().then_some(set),
        };
        let model = Model {
            modes,
            table: table.into_iter().collect(),
            filters_vlans: vlans.is_some(),
            vlans: vlans.unwrap_or_default(),
        };
        for (to, tag) in frames {
            let tag = tag.map(|(vlan, priority)| vlan | priority << 13);
            prop_assert_eq!(filter.accepts(&frame(to, tag)), model.accepts(to, tag));
        }
    }

    #[test]
    fn a_set_of_vlans_is_a_set(changes in proptest::collection::vec((0..5000_u16, any::<bool>()), 0..40)) {
        let (mut vlans, mut model) = (Vlans::default(), HashSet::new());
        for (vlan, there) in changes {
            prop_assert_eq!(vlans.set(vlan, there), vlan < 4096);
            if there && vlan < 4096 { model.insert(vlan); } else { model.remove(&vlan); }
        }
        for vlan in 0..5000 {
            prop_assert_eq!(vlans.has(vlan), model.contains(&vlan));
        }
        prop_assert_eq!(Vlans::from_words(*vlans.words()), vlans);
    }
}
