//! The IOAPIC: interrupt pins for devices without MSI (Intel 82093AA, with the EOI register of
//! later chips).
//!
//! # Theory of operation
//! The local APICs are the hypervisor's; this is the other half of a split irqchip. A pin's
//! interrupt becomes a message, which the pin's redirection entry describes.
//! - An edge is delivered at once, or lost if the pin is masked (82093AA, 3.2.4, interrupt mask).
//! - A level is delivered when it is high, the pin is not masked, and the last one has been
//!   acknowledged (remote IRR clear); delivery sets remote IRR. The acknowledgement is the guest's
//!   EOI of the vector, which the hypervisor reports if the pin has a route with that vector; so
//!   each level pin has one from when it is first unmasked. A masked pin keeps it, because guests
//!   mask a pin between its interrupt and the EOI. An EOI clears remote IRR and delivers again if
//!   the line is still high.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hypervisor::layout::IOAPIC_PINS;
use hypervisor::{Gsi, Machine, Msi};

use super::Line;
use crate::bus::Device;

/// Offset of the register select.
const SELECT: u64 = 0x00;
/// Offset of the window to the selected register.
const WINDOW: u64 = 0x10;
/// Offset of the EOI register.
const EOI: u64 = 0x40;

/// Register: identification, in bits 24 to 27.
const ID: u8 = 0;
/// Register: version, and the number of the last pin from bit 16 on.
const VERSION: u8 = 1;
/// Register: arbitration id.
const ARBITRATION: u8 = 2;
/// The first of the registers that hold redirection entries, low half first.
const FIRST_ENTRY: u8 = 0x10;

/// A version with an EOI register.
const VERSION_WITH_EOI: u32 = 0x20;
const ID_BITS: u32 = 0x0f00_0000;
const PINS: usize = IOAPIC_PINS as usize;

/// What a pin's interrupt becomes (82093AA, 3.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Redirection(u64);

impl Redirection {
    const DELIVERY_STATUS: u64 = 1 << 12;
    const REMOTE_IRR: u64 = 1 << 14;
    const LEVEL: u64 = 1 << 15;
    const MASK: u64 = 1 << 16;
    /// The guest cannot write these.
    const READ_ONLY: u64 = Self::DELIVERY_STATUS | Self::REMOTE_IRR;
    /// Vector, delivery mode, destination mode, status, polarity, remote IRR, trigger mode, mask;
    /// destination, with seven more bits below it.
    const IMPLEMENTED: u64 = 0xfffe_0000_0001_ffff;
    /// As after a reset: masked.
    const RESET: Self = Self(Self::MASK);
    /// Delivery mode of a pin with an 8259 behind it, which this machine has not.
    const EXTERNAL: u64 = 7;

    fn has(self, bit: u64) -> bool {
        self.0 & bit != 0
    }

    fn is_masked(self) -> bool {
        self.has(Self::MASK) || self.0 >> 8 & 7 == Self::EXTERNAL
    }

    fn is_level(self) -> bool {
        self.has(Self::LEVEL)
    }

    fn vector(self) -> u8 {
        self.0.to_le_bytes()[0]
    }

    /// The entry after the guest wrote `value`. An edge has no remote IRR.
    fn written(self, value: u64) -> Self {
        let kept = if value & Self::LEVEL == 0 { 0 } else { self.0 & Self::READ_ONLY };
        Self(value & Self::IMPLEMENTED & !Self::READ_ONLY | kept)
    }

    /// The message (Intel SDM 3A, 11.11). Bits 49 to 55 extend the destination, as KVM offers it to
    /// guests with more than 255 CPUs.
    fn message(self) -> Msi {
        let destination = self.0 >> 56;
        let extension = self.0 >> 49 & 0x7f;
        let logical = self.0 >> 11 & 1;
        let address = 0xfee0_0000 | destination << 12 | extension << 5 | logical << 2;
        // Vector, delivery mode; level triggers are asserted.
        let trigger = if self.is_level() { 0xc000 } else { 0 };
        let low = u32::from(self.vector()) | u32::from(self.0.to_le_bytes()[1] & 7) << 8;
        Msi { address, data: low | trigger }
    }
}

/// Registers and lines.
struct State {
    select: u8,
    id: u32,
    entries: [Redirection; PINS],
    /// Lines that are high, a bit each.
    high: u32,
    /// What the hypervisor was told about level pins.
    routes: [Option<Msi>; PINS],
}

impl State {
    const RESET: Self = Self {
        select: 0,
        id: 0,
        entries: [Redirection::RESET; PINS],
        high: 0,
        routes: [None; PINS],
    };

    fn register(&self) -> u32 {
        match self.select {
            ID | ARBITRATION => self.id,
            VERSION => VERSION_WITH_EOI | (IOAPIC_PINS - 1) << 16,
            select => self.half(select).unwrap_or(0),
        }
    }

    /// The half of a redirection entry that a register number selects.
    fn half(&self, select: u8) -> Option<u32> {
        let (pin, high) = entry_of(select)?;
        let [low_half, high_half] = halves(self.entries.get(pin)?.0);
        Some(if high { high_half } else { low_half })
    }

    /// The pin whose redirection entry was written, if it was one.
    fn write_register(&mut self, value: u32) -> Option<usize> {
        if self.select == ID {
            self.id = value & ID_BITS;
            return None;
        }
        let (pin, high) = entry_of(self.select)?;
        let entry = self.entries.get_mut(pin)?;
        let [low_half, high_half] = halves(entry.0);
        let (low_half, high_half) = if high { (low_half, value) } else { (value, high_half) };
        *entry = entry.written(u64::from(high_half) << 32 | u64::from(low_half));
        Some(pin)
    }
}

/// Pin and half (true: high) of a redirection entry's register.
fn entry_of(select: u8) -> Option<(usize, bool)> {
    let at = select.checked_sub(FIRST_ENTRY)?;
    Some((usize::from(at / 2), at % 2 == 1))
}

/// Low and high half.
fn halves(entry: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = entry.to_le_bytes();
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
}

/// The IOAPIC of a machine.
pub struct Ioapic {
    state: Mutex<State>,
    machine: Arc<dyn Machine>,
    /// A failure was logged; the guest could cause it again and again.
    complained: AtomicBool,
}

impl Ioapic {
    /// An IOAPIC whose messages `machine` delivers.
    #[must_use]
    pub fn new(machine: Arc<dyn Machine>) -> Arc<Self> {
        let complained = AtomicBool::new(false);
        Arc::new(Self { state: Mutex::new(State::RESET), machine, complained })
    }

    /// The line to a pin.
    #[must_use]
    pub fn pin(self: &Arc<Self>, pin: u32) -> Pin {
        Pin { ioapic: Arc::clone(self), pin }
    }

    /// The guest acknowledged the interrupt with this vector.
    pub fn eoi(&self, vector: u8) {
        let mut state = self.lock();
        for pin in 0..PINS {
            if let Some(entry) = state.entries.get_mut(pin)
                && entry.is_level()
                && entry.vector() == vector
                && entry.has(Redirection::REMOTE_IRR)
            {
                entry.0 &= !Redirection::REMOTE_IRR;
                self.deliver_level(&mut state, pin);
            }
        }
    }

    /// Sets the level of a pin's line.
    pub fn set_level(&self, pin: u32, high: bool) {
        let mut state = self.lock();
        let bit = 1_u32.checked_shl(pin).unwrap_or(0);
        let was_high = state.high & bit != 0;
        state.high = if high { state.high | bit } else { state.high & !bit };
        let Ok(pin) = usize::try_from(pin) else { return };
        match state.entries.get(pin) {
            Some(entry) if entry.is_level() => self.deliver_level(&mut state, pin),
            Some(&entry) if high && !was_high && !entry.is_masked() => self.send(entry),
            _ => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Delivers a level-triggered pin's interrupt if one is due.
    fn deliver_level(&self, state: &mut State, pin: usize) {
        let Some(entry) = state.entries.get_mut(pin) else { return };
        let is_high = state.high >> pin & 1 == 1;
        if is_high && entry.is_level() && !entry.is_masked() && !entry.has(Redirection::REMOTE_IRR)
        {
            entry.0 |= Redirection::REMOTE_IRR;
            self.send(*entry);
        }
    }

    fn send(&self, entry: Redirection) {
        if let Err(error) = self.machine.signal(entry.message()) {
            self.complain("an interrupt was not delivered", &error);
        }
    }

    /// Keeps the hypervisor's route for a pin in step with its entry.
    fn route(&self, state: &mut State, pin: usize) {
        let (Some(entry), Some(known)) = (state.entries.get(pin), state.routes.get_mut(pin)) else {
            return;
        };
        let wanted = match entry.is_level() {
            true if entry.is_masked() => *known,
            true => Some(entry.message()),
            false => None,
        };
        if *known != wanted {
            *known = wanted;
            let line = Gsi(u32::try_from(pin).unwrap_or(u32::MAX));
            if let Err(error) = self.machine.route(line, wanted) {
                self.complain("a pin was not routed", &error);
            }
        }
    }

    fn complain(&self, what: &str, error: &hypervisor::Error) {
        if !self.complained.swap(true, Ordering::Relaxed) {
            tracing::warn!("IOAPIC: {what}: {error} (this is said once)");
        }
    }
}

impl Device for Ioapic {
    /// Registers are 32 bits wide; what is read beyond one is zero.
    fn read(&self, offset: u64, data: &mut [u8]) {
        let state = self.lock();
        let register = match offset {
            SELECT => u32::from(state.select),
            WINDOW => state.register(),
            _ => 0,
        };
        data.fill(0);
        for (byte, value) in data.iter_mut().zip(register.to_le_bytes()) {
            *byte = value;
        }
    }

    /// Registers are written whole; the select is a byte.
    fn write(&self, offset: u64, data: &[u8]) {
        match (offset, data.first(), data.first_chunk()) {
            (SELECT, Some(&select), _) => self.lock().select = select,
            (WINDOW, _, Some(&value)) => {
                let mut state = self.lock();
                if let Some(pin) = state.write_register(u32::from_le_bytes(value)) {
                    self.route(&mut state, pin);
                    self.deliver_level(&mut state, pin);
                }
            }
            (EOI, Some(&vector), _) => self.eoi(vector),
            _ => {}
        }
    }

    fn reset(&self) {
        let mut state = self.lock();
        // Lines belong to the devices, which are reset on their own.
        let (high, routes) = (state.high, state.routes);
        *state = State { high, routes, ..State::RESET };
        for pin in 0..PINS {
            self.route(&mut state, pin);
        }
    }
}

/// The line to a pin of an IOAPIC.
pub struct Pin {
    ioapic: Arc<Ioapic>,
    pin: u32,
}

impl Line for Pin {
    fn set_level(&self, high: bool) {
        self.ioapic.set_level(self.pin, high);
    }
}

#[cfg(test)]
#[path = "ioapic_test.rs"]
mod tests;
