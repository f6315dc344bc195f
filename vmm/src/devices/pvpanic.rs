//! pvpanic: where a guest says that its kernel has crashed.

use super::{Event, Report};
use crate::bus::Device;

/// The guest's kernel has panicked.
const PANICKED: u8 = 1;
/// It has, and its crash kernel takes over.
const CRASH_LOADED: u8 = 1 << 1;

/// The port.
pub struct Pvpanic(Report);

impl Pvpanic {
    /// A port that reports [`Event::Panic`].
    #[must_use]
    pub fn new(report: Report) -> Self {
        Self(report)
    }
}

impl Device for Pvpanic {
    /// Which events it knows.
    fn read(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let Some(first) = data.first_mut() {
            *first = PANICKED | CRASH_LOADED;
        }
    }

    fn write(&self, _offset: u64, data: &[u8]) {
        let events = data.first().copied().unwrap_or(0);
        if events & CRASH_LOADED != 0 {
            (self.0)(Event::Panic { loaded: true });
        } else if events & PANICKED != 0 {
            (self.0)(Event::Panic { loaded: false });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn a_panic_is_reported_once_with_what_happens_next() {
        let events = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&events);
        let device = Pvpanic::new(Arc::new(move |event| seen.lock().unwrap().push(event)));
        let mut data = [0xff; 2];
        device.read(0, &mut data);
        assert_eq!(data, [3, 0]);
        for value in 0..=255 {
            device.write(0, &[value]);
        }
        let loaded = |&value: &u8| value & 2 != 0;
        let expected: Vec<Event> = (0..=255)
            .filter(|value| value & 3 != 0)
            .map(|value| Event::Panic { loaded: loaded(&value) })
            .collect();
        assert_eq!(*events.lock().unwrap(), expected);
    }
}
