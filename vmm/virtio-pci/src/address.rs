//! Where a function is on the bus.

use std::fmt;

/// The number of a function on bus 0: its slot (0 to 31) and its function in it (0 to 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionAddress(u8);

impl FunctionAddress {
    /// The host bridge.
    pub const HOST_BRIDGE: Self = Self(0);
    /// Slots that devices can have.
    const DEVICE_SLOTS: usize = 31;
    /// Functions that devices can have: eight in each slot but that of the host bridge.
    pub(crate) const MOST_DEVICES: usize = Self::DEVICE_SLOTS * 8;

    /// The place of the `n`th device, counted from 0: slots are filled first, so that up to 31
    /// devices have one of their own.
    pub(crate) fn of_device(n: usize) -> Option<Self> {
        let slot = n % Self::DEVICE_SLOTS + 1;
        let function = n / Self::DEVICE_SLOTS;
        let number = u8::try_from(slot * 8 + function).ok()?;
        (function < 8).then_some(Self(number))
    }

    /// The function with this number: slot times eight plus function.
    #[must_use]
    pub const fn from_number(number: u8) -> Self {
        Self(number)
    }

    /// Slot times eight plus function.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// The slot.
    #[must_use]
    pub const fn slot(self) -> u8 {
        self.0 >> 3
    }

    /// The function in the slot.
    #[must_use]
    pub const fn function(self) -> u8 {
        self.0 & 7
    }
}

impl fmt::Display for FunctionAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0000:00:{:02x}.{}", self.slot(), self.function())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn devices_fill_slots_before_functions() {
        let shown = |n| FunctionAddress::of_device(n).map(|address| address.to_string());
        assert_eq!(shown(0).as_deref(), Some("0000:00:01.0"));
        assert_eq!(shown(30).as_deref(), Some("0000:00:1f.0"));
        assert_eq!(shown(31).as_deref(), Some("0000:00:01.1"));
        assert_eq!(shown(247).as_deref(), Some("0000:00:1f.7"));
        assert_eq!(shown(248), None);
    }

    #[test]
    fn no_two_devices_share_a_place() {
        let places: HashSet<_> = (0..FunctionAddress::MOST_DEVICES)
            .map(|n| FunctionAddress::of_device(n).unwrap())
            .collect();
        assert_eq!(places.len(), FunctionAddress::MOST_DEVICES);
        assert!(!places.contains(&FunctionAddress::HOST_BRIDGE));
    }
}
