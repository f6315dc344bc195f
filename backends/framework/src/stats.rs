//! Counters of a queue: written by the one worker that owns the ring, read by anybody.
//!
//! An increment is a relaxed load and a relaxed store, no locked instruction: there is a single
//! writer, and a reader may be a moment behind. Each queue's counters fill cache lines of their own, so
//! that workers do not slow each other down.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use crossbeam_utils::CachePadded;
use serde_json::{Map, Value};

use crate::control::prometheus::{Kind, Metric};

/// A number with a single writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the thread that owns the counter may call this; an addition by another
    /// thread at the same time may be lost.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Sets a value that goes up and down. Only the thread that owns the counter may call this.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// The value now, or a moment ago.
    #[inline]
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Declares the counters once: field, kind and help text.
macro_rules! queue_counters {
    ($($(#[doc = $help:literal])+ $field:ident: $kind:ident,)+) => {
        /// The counters of one queue.
        #[derive(Debug, Default)]
        pub struct QueueCounters {
            $($(#[doc = $help])+ pub $field: Counter,)+
        }

        impl QueueCounters {
            /// Name, kind, help text and value of each counter, in the order of declaration.
            fn rows(&self) -> impl Iterator<Item = Row> {
                [$(Row {
                    name: stringify!($field),
                    kind: Kind::$kind,
                    help: concat!($($help),+).trim_ascii(),
                    value: self.$field.get(),
                },)+]
                .into_iter()
            }
        }
    };
}

struct Row {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    value: u64,
}

queue_counters! {
    /// Kicks received from the driver.
    kicks: Counter,
    /// Times the worker woke up for this queue.
    wakes: Counter,
    /// Calls sent to the driver.
    calls: Counter,
    /// Calls that the driver had asked not to get.
    calls_suppressed: Counter,
    /// Descriptor chains completed.
    chains: Counter,
    /// Bytes that the device read from guest memory.
    bytes_read: Counter,
    /// Bytes that the device wrote to guest memory.
    bytes_written: Counter,
    /// Requests that ended with an error.
    errors: Counter,
    /// Times the ring failed because the driver broke its rules.
    ring_failures: Counter,
    /// Rounds of polling that found nothing to do.
    poll_spins: Counter,
    /// Descriptor chains taken and not yet completed.
    in_flight: Gauge,
}

/// The counters of one queue, shared between its worker and the control socket.
#[derive(Debug, Clone, Default)]
pub struct QueueStats(Arc<CachePadded<QueueCounters>>);

impl QueueStats {
    /// Counters that start at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The values as a JSON object.
    #[must_use]
    pub fn to_json(&self) -> Map<String, Value> {
        self.0.rows().map(|row| (row.name.to_owned(), row.value.into())).collect()
    }

    /// The values for Prometheus, labelled with the device's name and the queue's index.
    pub fn metrics(&self, device: &str, queue: usize) -> impl Iterator<Item = Metric> {
        let labels = vec![("device", device.to_owned()), ("queue", queue.to_string())];
        self.0.rows().map(move |row| Metric {
            name: match row.kind {
                Kind::Counter => format!("outrigger_queue_{}_total", row.name),
                Kind::Gauge => format!("outrigger_queue_{}", row.name),
            },
            help: row.help,
            kind: row.kind,
            labels: labels.clone(),
            value: row.value.into(),
        })
    }
}

impl std::ops::Deref for QueueStats {
    type Target = QueueCounters;

    #[inline]
    fn deref(&self) -> &QueueCounters {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counter_is_shown_under_its_own_name() {
        let stats = QueueStats::new();
        stats.kicks.add(3);
        stats.bytes_read.add(4096);
        stats.in_flight.set(2);
        let json = stats.to_json();
        assert_eq!(json["kicks"], 3);
        assert_eq!(json["bytes_read"], 4096);
        assert_eq!(json["in_flight"], 2);
        assert_eq!(json["errors"], 0);
        assert_eq!(json.len(), 11);
    }

    #[test]
    fn counters_of_two_queues_share_no_cache_line() {
        assert_eq!(align_of::<CachePadded<QueueCounters>>() % 64, 0);
        assert_eq!(size_of::<CachePadded<QueueCounters>>() % 64, 0);
    }

    #[test]
    fn metrics_follow_the_naming_rules() {
        let stats = QueueStats::new();
        stats.calls.add(7);
        let metrics: Vec<_> = stats.metrics("disk0", 1).collect();
        let calls = metrics.iter().find(|m| m.name == "outrigger_queue_calls_total").unwrap();
        assert_eq!(calls.value, 7.into());
        assert_eq!(calls.labels, [("device", "disk0".to_owned()), ("queue", "1".to_owned())]);
        assert_eq!(calls.help, "Calls sent to the driver.");
        assert!(metrics.iter().any(|m| m.name == "outrigger_queue_in_flight"));
    }

    #[test]
    fn a_reader_on_another_thread_sees_the_writers_sum() {
        let stats = QueueStats::new();
        let reader = stats.clone();
        std::thread::spawn(move || (0..1000).for_each(|_| stats.chains.add(1))).join().unwrap();
        assert_eq!(reader.chains.get(), 1000);
    }
}
