//! The guest's own statistics (virtio 1.4, 5.5.6.3).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use virtio_spec::balloon::{Stat, StatTag};

/// The most statistics that are read of one buffer. Linux 7 sends 16.
const MOST: usize = 256;

/// The most bytes of a buffer that are looked at.
pub const MOST_BYTES: usize = MOST * Stat::SIZE;

/// Statistics as they came last. Tags that the specification does not know are kept too.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    values: BTreeMap<u16, u64>,
    /// When they came, for people.
    at: Option<Instant>,
    /// When they came, in the worker's time.
    pub came: Option<Duration>,
}

impl Statistics {
    /// Reads a buffer: entries in any order; of a tag that comes twice the last counts.
    pub fn read(bytes: &[u8], now: Duration) -> Self {
        let entries = bytes.as_chunks::<{ Stat::SIZE }>().0.iter().take(MOST);
        let values = entries.map(Stat::from_bytes).map(|stat| (stat.tag, stat.value)).collect();
        Statistics { values, at: Some(Instant::now()), came: Some(now) }
    }

    /// A statistic that the driver has sent. Sizes are in bytes.
    pub fn get(&self, tag: StatTag) -> Option<u64> {
        self.values.get(&(tag as u16)).copied()
    }

    /// All of them, by name, or by number where there is no name.
    pub fn to_json(&self) -> Value {
        let Some(at) = self.at else { return Value::Null };
        let name = |tag| match StatTag::from_u16(tag) {
            Some(known) => known.name().to_owned(),
            None => format!("tag-{tag}"),
        };
        let values: Map<_, _> =
            self.values.iter().map(|(tag, value)| (name(*tag), (*value).into())).collect();
        let age = u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
        json!({ "age_ms": age, "values": values })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(stats: &[(u16, u64)]) -> Vec<u8> {
        stats.iter().flat_map(|&(tag, value)| Stat { tag, value }.to_bytes()).collect()
    }

    #[test]
    fn unknown_tags_are_kept_by_number() {
        let mut bytes = buffer(&[(999, 1), (4, 5 << 20), (999, 2)]);
        bytes.extend([1, 2, 3]);
        let statistics = Statistics::read(&bytes, Duration::ZERO);
        assert_eq!(statistics.get(StatTag::FreeMemory), Some(5 << 20));
        assert_eq!(statistics.get(StatTag::SwapIn), None);
        let values = json!({ "free-memory": 5 << 20, "tag-999": 2 });
        assert_eq!(statistics.to_json()["values"], values);
    }

    #[test]
    fn a_buffer_full_of_tags_is_not_kept_whole() {
        let stats: Vec<_> = (0..10_000).map(|tag| (tag, 0)).collect();
        assert_eq!(Statistics::read(&buffer(&stats), Duration::ZERO).values.len(), MOST);
    }

    #[test]
    fn any_order_of_tags_says_the_same() {
        let mut stats: Vec<_> = (0..20).map(|tag| (tag, u64::from(tag) * 7)).collect();
        let expected = Statistics::read(&buffer(&stats), Duration::ZERO).values;
        stats.reverse();
        assert_eq!(Statistics::read(&buffer(&stats), Duration::ZERO).values, expected);
        stats.rotate_left(7);
        assert_eq!(Statistics::read(&buffer(&stats), Duration::ZERO).values, expected);
    }

    #[test]
    fn nothing_has_come_yet() {
        assert_eq!(Statistics::default().to_json(), Value::Null);
    }
}
