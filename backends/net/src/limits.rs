//! The limits of both directions: what the user sets, and what a worker does about them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::counts::Counts;
use crate::error::Error;
use crate::rate::{Admission, Limit, Meter};

/// Which way frames go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the uplink to the guest.
    Receive,
    /// From the guest to the uplink.
    Transmit,
}

/// How fast frames may cross, for all queue pairs together.
#[derive(Debug, Default)]
pub struct Limits {
    receive: Meter,
    transmit: Meter,
    /// Counts the changes; 0 while there is no limit.
    changes: AtomicU32,
}

impl Limits {
    /// These limits from the start.
    pub fn new(receive: Limit, transmit: Limit) -> Self {
        let limits = Limits::default();
        limits.receive.set(receive);
        limits.transmit.set(transmit);
        limits.changed();
        limits
    }

    /// Whether frames cross as fast as they come.
    #[inline]
    pub fn are_none(&self) -> bool {
        self.changes.load(Ordering::Acquire) == 0
    }

    /// Carries out `{"cmd":"rate","direction":"tx","bytes_per_second":N,"packets_per_second":N}`.
    ///
    /// # Errors
    /// [`Error::Rate`]; nothing has changed then.
    pub fn command(&self, arguments: &Value) -> Result<Value, Error> {
        let meter = match arguments.get("direction").and_then(Value::as_str) {
            Some("tx") => &self.transmit,
            Some("rx") => &self.receive,
            _ => return Err(Error::Rate { what: "the direction is missing".into() }),
        };
        let limit = Limit {
            bytes_per_second: number(arguments, "bytes_per_second")?,
            packets_per_second: number(arguments, "packets_per_second")?,
        };
        meter.set(limit);
        self.changed();
        Ok(self.to_json())
    }

    fn changed(&self) {
        let any = self.receive.limit().is_any() || self.transmit.limit().is_any();
        // Another number each time, so that workers begin to count anew.
        let next =
            if any { self.changes.load(Ordering::Relaxed).wrapping_add(1).max(1) } else { 0 };
        self.changes.store(next, Ordering::Release);
    }

    /// The limits as `stats` shows them.
    pub fn to_json(&self) -> Value {
        json!({ "rx": self.receive.limit(), "tx": self.transmit.limit() })
    }

    fn meter(&self, way: Way) -> &Meter {
        match way {
            Way::Receive => &self.receive,
            Way::Transmit => &self.transmit,
        }
    }
}

fn number(arguments: &Value, name: &str) -> Result<Option<u64>, Error> {
    match arguments.as_object().and_then(|arguments: &Map<String, Value>| arguments.get(name)) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64() {
            Some(number @ 1..) => Ok(Some(number)),
            _ => Err(Error::Rate { what: format!("{name} is {value}") }),
        },
    }
}

/// What a worker has told the meters of its frames: they are told of a round before the next one.
#[derive(Debug, Default)]
pub(crate) struct Metered {
    changes: u32,
    received: (u64, u64),
    transmitted: (u64, u64),
}

impl Metered {
    /// How many frames may cross now, at most `most`.
    pub(crate) fn admit(
        &mut self,
        limits: &Limits,
        counts: &Counts,
        way: Way,
        most: usize,
        now: Duration,
    ) -> Admission {
        let changes = limits.changes.load(Ordering::Acquire);
        let received = (counts.rx_frames.get(), counts.rx_bytes.get());
        let transmitted = (counts.tx_frames.get(), counts.tx_bytes.get());
        if changes != self.changes {
            // What crossed before the limit does not count.
            *self = Metered { changes, received, transmitted };
        }
        let (total, told) = match way {
            Way::Receive => (received, &mut self.received),
            Way::Transmit => (transmitted, &mut self.transmitted),
        };
        let meter = limits.meter(way);
        meter.charge(total.0.wrapping_sub(told.0), total.1.wrapping_sub(told.1));
        *told = total;
        meter.admit(most, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn admit(metered: &mut Metered, limits: &Limits, counts: &Counts, now: Duration) -> Admission {
        metered.admit(limits, counts, Way::Transmit, 256, now)
    }

    #[test]
    fn limits_are_set_and_lifted() {
        let limits = Limits::default();
        assert!(limits.are_none());
        let command = json!({ "direction": "tx", "bytes_per_second": 1000 });
        let answer = limits.command(&command).unwrap();
        assert_eq!(answer["tx"]["bytes_per_second"], 1000);
        assert_eq!(answer["rx"]["bytes_per_second"], Value::Null);
        assert!(!limits.are_none());
        limits.command(&json!({ "direction": "tx" })).unwrap();
        assert!(limits.are_none());
    }

    #[test]
    fn there_may_be_limits_from_the_start() {
        assert!(Limits::new(Limit::default(), Limit::default()).are_none());
        let limit = Limit { packets_per_second: Some(100), ..Limit::default() };
        let limits = Limits::new(Limit::default(), limit);
        assert!(!limits.are_none());
        let (counts, mut metered) = (Counts::default(), Metered::default());
        assert_eq!(admit(&mut metered, &limits, &counts, SECOND), Admission::Frames(5));
        limits.command(&json!({ "direction": "tx" })).unwrap();
        assert!(limits.are_none());
    }

    #[test]
    fn mistakes_are_explained_and_change_nothing() {
        let limits = Limits::default();
        for wrong in [
            json!({}),
            json!({ "direction": "up" }),
            json!({ "direction": "rx", "bytes_per_second": 0 }),
            json!({ "direction": "rx", "packets_per_second": -1 }),
            json!({ "direction": "rx", "packets_per_second": "many" }),
        ] {
            let error = limits.command(&wrong).unwrap_err().to_string();
            assert!(error.contains("bytes_per_second"), "{error}");
        }
        assert!(limits.are_none());
    }

    #[test]
    fn what_crossed_before_the_limit_does_not_count() {
        let (limits, counts, mut metered) =
            (Limits::default(), Counts::default(), Metered::default());
        counts.tx_frames.add(1_000_000);
        let command = json!({ "direction": "tx", "packets_per_second": 100 });
        limits.command(&command).unwrap();
        assert_eq!(admit(&mut metered, &limits, &counts, SECOND), Admission::Frames(5));
        counts.tx_frames.add(5);
        let wait = Duration::from_millis(10);
        assert_eq!(admit(&mut metered, &limits, &counts, SECOND), Admission::Wait(wait));
        assert_eq!(admit(&mut metered, &limits, &counts, SECOND + wait), Admission::Frames(1));
        // The same limit again begins anew.
        counts.tx_frames.add(500);
        limits.command(&command).unwrap();
        assert_eq!(admit(&mut metered, &limits, &counts, SECOND + wait), Admission::Frames(5));
    }
}
