//! The two ports by which PCs are reset. ACPI's reset register is the first of them.

use boot::layout::reset::VALUE;

use super::{Event, Report};
use crate::bus::Device;

/// Full or warm, a reset happens when this bit of the reset control register rises.
const RESET_CPU: u8 = VALUE & 0x04;
/// The keyboard controller's command that pulses the reset line.
const PULSE_RESET: u8 = 0xfe;

/// The reset control register, port 0xcf9.
pub struct ResetControl(Report);

impl ResetControl {
    /// A register that reports [`Event::Reset`].
    #[must_use]
    pub fn new(report: Report) -> Self {
        Self(report)
    }
}

impl Device for ResetControl {
    fn read(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&self, _offset: u64, data: &[u8]) {
        if data.first().is_some_and(|byte| byte & RESET_CPU != 0) {
            (self.0)(Event::Reset);
        }
    }
}

/// The keyboard controller's command port, 0x64: there is no keyboard, but guests without ACPI
/// pulse the reset line through it.
pub struct KeyboardController(Report);

impl KeyboardController {
    /// A port that reports [`Event::Reset`].
    #[must_use]
    pub fn new(report: Report) -> Self {
        Self(report)
    }
}

impl Device for KeyboardController {
    /// Nothing to read, and ready for a command: whoever polls before the reset need not wait.
    fn read(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&self, _offset: u64, data: &[u8]) {
        if data.first() == Some(&PULSE_RESET) {
            (self.0)(Event::Reset);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What each value, written to a port, leads to.
    fn resets(port: impl Fn(Report) -> Box<dyn Device>) -> Vec<u8> {
        let events = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&events);
        let device = port(Arc::new(move |event| seen.lock().unwrap().push(event)));
        let is_reset = |value: &u8| {
            device.write(0, &[*value]);
            events.lock().unwrap().drain(..).any(|event| event == Event::Reset)
        };
        (0..=255).filter(is_reset).collect()
    }

    #[test]
    fn the_values_of_the_acpi_register_and_of_pcs_reset() {
        let values = resets(|report| Box::new(ResetControl::new(report)));
        assert!(values.contains(&VALUE) && values.contains(&0x0e));
        assert!(!values.contains(&0x02), "the bit that only says how");
        assert_eq!(resets(|report| Box::new(KeyboardController::new(report))), [0xfe]);
    }

    #[test]
    fn an_empty_write_does_nothing() {
        ResetControl::new(Arc::new(|_| unreachable!())).write(0, &[]);
        KeyboardController::new(Arc::new(|_| unreachable!())).write(0, &[]);
    }
}
