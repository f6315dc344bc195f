//! Which message each interrupt line sends: the table behind `KVM_SET_GSI_ROUTING`.
//!
//! KVM takes the whole table at once, and refuses all of it for one entry it does not like. A guest
//! chooses the addresses, so whatever KVM would not like never gets into the table: a line with
//! such a message sends nothing.

use std::collections::BTreeMap;

use kvm_bindings::{
    KVM_IRQ_ROUTING_MSI, kvm_irq_routing_entry, kvm_irq_routing_entry__bindgen_ty_1,
    kvm_irq_routing_msi, kvm_msi,
};

use crate::{Error, Gsi, Msi, Result, layout};

/// Where messages to interrupt controllers go: 1 MiB (Intel SDM 3, 11.11.1).
const INTERRUPT_WINDOW: u64 = 0xfee;

/// The lines there are, each with its message.
#[derive(Clone, Debug)]
pub(super) struct Routes {
    lines: BTreeMap<Gsi, Option<Msi>>,
    capacity: usize,
}

impl Routes {
    /// The IOAPIC's pins, without routes, in a table that holds `capacity` lines in all.
    pub(super) fn new(capacity: usize) -> Self {
        let lines = (0..layout::IOAPIC_PINS).map(|pin| (Gsi(pin), None)).collect();
        Routes { lines, capacity }
    }

    /// Lines that nobody had, the lowest there are.
    pub(super) fn allocate(&mut self, n: usize) -> Result<Vec<Gsi>> {
        if n > self.capacity.saturating_sub(self.lines.len()) {
            return Err(Error::Vectors { asked: n, capacity: self.capacity });
        }
        let lines = (layout::IOAPIC_PINS..).map(Gsi);
        let free: Vec<Gsi> = lines.filter(|line| !self.lines.contains_key(line)).take(n).collect();
        self.lines.extend(free.iter().map(|&line| (line, None)));
        Ok(free)
    }

    /// Forgets lines. True if one of them had a route.
    pub(super) fn free(&mut self, lines: &[Gsi]) -> Result<bool> {
        for line in lines {
            if line.0 < layout::IOAPIC_PINS {
                return Err(Error::Gsi(line.0));
            }
            self.check(*line)?;
        }
        let mut routed = false;
        for line in lines {
            routed |= self.lines.remove(line).flatten().is_some();
        }
        Ok(routed)
    }

    /// Whether a line exists.
    pub(super) fn check(&self, line: Gsi) -> Result<()> {
        if self.lines.contains_key(&line) { Ok(()) } else { Err(Error::Gsi(line.0)) }
    }

    /// Changes routes, all or none. True if that made a difference.
    pub(super) fn set(&mut self, routes: &[(Gsi, Option<Msi>)]) -> Result<bool> {
        routes.iter().try_for_each(|&(line, _)| self.check(line))?;
        let mut changed = false;
        for &(line, route) in routes {
            changed |= self.lines.insert(line, route) != Some(route);
        }
        Ok(changed)
    }

    /// The table as KVM wants it.
    pub(super) fn entries(&self) -> Vec<kvm_irq_routing_entry> {
        self.lines.iter().filter_map(|(&line, &route)| Some(entry(line, encode(route?)?))).collect()
    }
}

/// A message in KVM's encoding, or nothing if it would not reach an interrupt controller.
///
/// Without an IOMMU a message has room for 8 bits of APIC id. KVM's guests put 7 more into bits 5
/// to 11 of the address (`KVM_FEATURE_MSI_EXT_DEST_ID`); KVM itself wants them in the upper half.
pub(super) fn encode(message: Msi) -> Option<kvm_msi> {
    if message.address >> 20 != INTERRUPT_WINDOW {
        return None;
    }
    let low = u32::try_from(message.address).ok()?;
    Some(kvm_msi {
        address_lo: low & !(0x7f << 5),
        address_hi: (low >> 5 & 0x7f) << 8,
        data: message.data,
        ..Default::default()
    })
}

fn entry(line: Gsi, message: kvm_msi) -> kvm_irq_routing_entry {
    let msi = kvm_irq_routing_msi {
        address_lo: message.address_lo,
        address_hi: message.address_hi,
        data: message.data,
        ..Default::default()
    };
    kvm_irq_routing_entry {
        gsi: line.0,
        type_: KVM_IRQ_ROUTING_MSI,
        u: kvm_irq_routing_entry__bindgen_ty_1 { msi },
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MSI: Msi = Msi { address: 0xfee0_3000, data: 0x4041 };

    #[test]
    fn apic_ids_beyond_8_bits_move_to_the_upper_half() {
        let plain = encode(MSI).unwrap();
        assert_eq!((plain.address_lo, plain.address_hi, plain.data), (0xfee0_3000, 0, 0x4041));
        let wide = encode(Msi { address: 0xfee0_3000 | 0x13 << 5, ..MSI }).unwrap();
        assert_eq!((wide.address_lo, wide.address_hi), (0xfee0_3000, 0x1300));
    }

    #[test]
    fn a_message_to_elsewhere_is_not_sent() {
        let mut routes = Routes::new(32);
        for address in [0, 0x1000, 0xfed0_0000, 0xfef0_0000, 0x1_fee0_0000, u64::MAX] {
            assert!(encode(Msi { address, data: 0 }).is_none());
            assert!(routes.set(&[(Gsi(4), Some(Msi { address, data: 0 }))]).unwrap());
            assert!(routes.entries().is_empty());
        }
    }

    #[test]
    fn routes_change_all_or_none() {
        let mut routes = Routes::new(25);
        assert!(routes.set(&[(Gsi(3), Some(MSI)), (Gsi(24), Some(MSI))]).is_err());
        assert!(routes.entries().is_empty());
        assert!(routes.set(&[(Gsi(3), Some(MSI))]).unwrap());
        assert!(!routes.set(&[(Gsi(3), Some(MSI))]).unwrap());
        assert_eq!(routes.entries().len(), 1);
    }

    #[test]
    fn pins_are_never_freed() {
        let mut routes = Routes::new(32);
        assert!(routes.free(&[Gsi(3)]).is_err());
    }

    #[derive(Clone, Debug)]
    enum Action {
        Allocate(usize),
        Free(usize),
        Set(u32, Option<u64>),
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            (0_usize..20).prop_map(Action::Allocate),
            any::<usize>().prop_map(Action::Free),
            (0_u32..80, any::<Option<u64>>())
                .prop_map(|(line, address)| Action::Set(line, address)),
        ]
    }

    proptest! {
        /// Lines are never handed out twice, the table never outgrows its capacity, and every
        /// entry is one that KVM accepts.
        #[test]
        fn the_table_stays_within_bounds(actions in prop::collection::vec(action(), 0..50)) {
            let mut routes = Routes::new(64);
            let mut held: Vec<Gsi> = Vec::new();
            for action in actions {
                match action {
                    Action::Allocate(n) => match routes.allocate(n) {
                        Ok(lines) => {
                            prop_assert!(lines.iter().all(|line| !held.contains(line)));
                            held.extend(lines);
                        }
                        Err(_) => prop_assert!(held.len() + n + 24 > 64),
                    },
                    Action::Free(which) if !held.is_empty() => {
                        let line = held.swap_remove(which % held.len());
                        prop_assert!(routes.free(&[line]).is_ok());
                    }
                    Action::Free(_) => {}
                    Action::Set(line, address) => {
                        let known = line < 24 || held.contains(&Gsi(line));
                        let route = address.map(|address| Msi { address, data: 1 });
                        prop_assert_eq!(routes.set(&[(Gsi(line), route)]).is_ok(), known);
                    }
                }
                prop_assert!(held.len() + 24 <= 64);
                for entry in routes.entries() {
                    prop_assert!(entry.gsi < 24 || held.contains(&Gsi(entry.gsi)));
                }
            }
        }
    }
}
