//! What `stats` shows of a card: frames by fate.

use std::sync::Arc;

use framework::stats::Counter;
use serde_json::{Map, Value};

macro_rules! counts {
    ($($(#[doc = $text:literal])+ $field:ident,)+) => {
        /// Counters of one queue pair, whose worker is their only writer.
        #[derive(Debug, Default)]
        pub struct Counts {
            $($(#[doc = $text])+ pub $field: Counter,)+
        }

        impl Counts {
            fn rows(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($field), self.$field.get()),)+]
            }
        }
    };
}

counts! {
    /// Frames from the guest that the uplink took.
    tx_frames,
    /// Their bytes.
    tx_bytes,
    /// Frames from the guest that were no frames, or asked for what was not negotiated.
    tx_malformed,
    /// Frames from the guest that the uplink did not take.
    tx_dropped,
    /// Frames for the guest that it was given.
    rx_frames,
    /// Their bytes.
    rx_bytes,
    /// Frames for the guest that its filters do not let pass.
    rx_filtered,
    /// Frames for the guest for which its buffers are too small.
    rx_too_long,
    /// Times that the uplink had nothing to say but an error.
    uplink_errors,
}

impl Counts {
    /// The sums over all queue pairs.
    pub(crate) fn sum(pairs: &[Arc<Counts>]) -> Map<String, Value> {
        let mut sums = Counts::default().rows();
        for counts in pairs {
            for ((_, sum), (_, value)) in sums.iter_mut().zip(counts.rows()) {
                *sum = sum.wrapping_add(value);
            }
        }
        sums.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect()
    }
}
