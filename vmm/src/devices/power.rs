//! Power button and soft off: the registers of hardware-reduced ACPI, and of the generic event
//! device through which the guest learns of the button.

use std::sync::atomic::{AtomicU32, Ordering};

use boot::layout::power::{BUTTON_PRESSED, EVENTS, SLEEP_CONTROL, SLEEP_ENABLE, SWITCH_OFF};

use super::{Event, Line, Report};
use crate::bus::Device;

/// The bits of a sleep control register that say what to do: enable, and the sleep type in bits 2
/// to 4.
const SLEEP_BITS: u8 = SLEEP_ENABLE | 0x1c;

/// The page of registers that [`boot::layout::power`] describes.
pub struct Power {
    events: AtomicU32,
    line: Box<dyn Line>,
    report: Report,
}

impl Power {
    /// Registers that interrupt the guest through `line` and report [`Event::PowerOff`].
    #[must_use]
    pub fn new(line: Box<dyn Line>, report: Report) -> Self {
        Self { events: AtomicU32::new(0), line, report }
    }

    /// Somebody presses the power button.
    pub fn press_button(&self) {
        self.events.fetch_or(BUTTON_PRESSED, Ordering::AcqRel);
        self.line.pulse();
    }
}

impl Device for Power {
    /// Reading the events takes them; the other registers read zero.
    fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if offset == EVENTS
            && let Some(register) = data.first_chunk_mut()
        {
            *register = self.events.swap(0, Ordering::AcqRel).to_le_bytes();
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let control = data.first().filter(|_| offset == SLEEP_CONTROL);
        if control.is_some_and(|byte| byte & SLEEP_BITS == SWITCH_OFF) {
            (self.report)(Event::PowerOff);
        }
    }

    /// A press that the guest has not seen is meant for the guest that was.
    fn reset(&self) {
        self.events.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Line for Arc<Counter> {
        fn pulse(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn power() -> (Power, Arc<Counter>, Arc<Mutex<Vec<Event>>>) {
        let (line, events) = (Arc::<Counter>::default(), Arc::<Mutex<Vec<_>>>::default());
        let seen = Arc::clone(&events);
        let report: Report = Arc::new(move |event| seen.lock().unwrap().push(event));
        (Power::new(Box::new(Arc::clone(&line)), report), line, events)
    }

    fn read_events(power: &Power) -> u32 {
        let mut data = [0xff; 4];
        power.read(EVENTS, &mut data);
        u32::from_le_bytes(data)
    }

    #[test]
    fn a_press_interrupts_and_is_read_once() {
        let (power, line, _) = power();
        assert_eq!(read_events(&power), 0);
        power.press_button();
        power.press_button();
        assert_eq!(line.0.load(Ordering::Relaxed), 2);
        assert_eq!((read_events(&power), read_events(&power)), (BUTTON_PRESSED, 0));
        power.press_button();
        power.reset();
        assert_eq!(read_events(&power), 0);
    }

    #[test]
    fn only_the_type_of_s5_with_enable_switches_off() {
        for value in 0..=255_u8 {
            let (power, _, events) = power();
            power.write(SLEEP_CONTROL, &[value]);
            assert_eq!(events.lock().unwrap().len(), usize::from(value & 0x3c == 0x34));
        }
    }

    proptest! {
        #[test]
        fn no_access_of_any_shape_panics(
            offset in 0u64..4096, length in 0usize..17, byte: u8,
        ) {
            let (power, ..) = power();
            power.press_button();
            power.write(offset, &vec![byte; length]);
            let mut data = vec![0xff; length];
            power.read(offset, &mut data);
            let expected = u32::from(offset == EVENTS && length >= 4);
            prop_assert_eq!(data.iter().map(|&byte| u32::from(byte)).sum::<u32>(), expected);
        }
    }
}
