//! Power button and soft off: the registers of hardware-reduced ACPI, and of the generic event
//! device through which the guest learns of the button.

use std::sync::{Mutex, MutexGuard, PoisonError};

use boot::layout::power::{BUTTON_PRESSED, EVENTS, SLEEP_CONTROL, SLEEP_ENABLE, SWITCH_OFF};

use super::{Event, Line, Report};
use crate::bus::Device;

/// The bits of a sleep control register that say what to do: enable, and the sleep type in bits 2
/// to 4.
const SLEEP_BITS: u8 = SLEEP_ENABLE | 0x1c;

/// The page of registers that [`boot::layout::power`] describes.
///
/// The interrupt is a level: high as long as there are events that were not read. So a press that comes
/// before the guest has a driver for it waits for the driver.
pub struct Power {
    /// The line is changed under this lock only, so that both are in step.
    events: Mutex<u32>,
    line: Box<dyn Line>,
    report: Report,
}

impl Power {
    /// Registers that interrupt the guest through `line` and report [`Event::PowerOff`].
    #[must_use]
    pub fn new(line: Box<dyn Line>, report: Report) -> Self {
        Self { events: Mutex::new(0), line, report }
    }

    /// Somebody presses the power button.
    pub fn press_button(&self) {
        let mut events = self.lock();
        *events |= BUTTON_PRESSED;
        self.line.set_level(true);
    }

    /// The events there were. There are none now.
    fn take(&self) -> u32 {
        let mut events = self.lock();
        self.line.set_level(false);
        std::mem::take(&mut *events)
    }

    fn lock(&self) -> MutexGuard<'_, u32> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Device for Power {
    /// Reading the events takes them; the other registers read zero.
    fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if offset == EVENTS
            && let Some(register) = data.first_chunk_mut()
        {
            *register = self.take().to_le_bytes();
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
        self.take();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use hypervisor::fake;
    use proptest::prelude::*;

    use super::*;
    use crate::devices::ioapic::Ioapic;

    #[derive(Default)]
    struct Level(AtomicBool);

    impl Level {
        fn is_high(&self) -> bool {
            self.0.load(Ordering::Relaxed)
        }
    }

    impl Line for Arc<Level> {
        fn set_level(&self, high: bool) {
            self.0.store(high, Ordering::Relaxed);
        }
    }

    fn power() -> (Power, Arc<Level>, Arc<Mutex<Vec<Event>>>) {
        let (line, events) = (Arc::<Level>::default(), Arc::<Mutex<Vec<_>>>::default());
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
        assert!(!line.is_high());
        power.press_button();
        power.press_button();
        assert!(line.is_high());
        assert_eq!((read_events(&power), read_events(&power)), (BUTTON_PRESSED, 0));
        assert!(!line.is_high());
        power.press_button();
        power.reset();
        assert!(!line.is_high());
        assert_eq!(read_events(&power), 0);
    }

    #[test]
    fn a_press_before_the_guest_has_a_driver_interrupts_it_once_it_has() {
        let machine = Arc::new(fake::Machine::new());
        let ioapic = Ioapic::new(machine.clone());
        let power = Power::new(Box::new(ioapic.pin(5)), Arc::new(|_| {}));
        let redirect = |entry: u32| {
            ioapic.write(0x00, &[0x10 + 2 * 5]);
            ioapic.write(0x10, &entry.to_le_bytes());
        };
        let (masked, level) = (1 << 16, 1 << 15);
        power.press_button();
        redirect(masked | level | 0x41);
        assert!(machine.messages().is_empty());
        redirect(level | 0x41);
        assert_eq!(machine.messages().len(), 1);
        // As Linux does: masked until a thread has called the method.
        redirect(masked | level | 0x41);
        ioapic.eoi(0x41);
        assert_eq!(read_events(&power), BUTTON_PRESSED);
        redirect(level | 0x41);
        assert!(machine.messages().is_empty(), "it was one press");
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
