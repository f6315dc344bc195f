//! What `stats` shows of a card: frames by fate.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use framework::stats::Counter;
use rustix::io::Errno;
use serde_json::{Map, Value};

use crate::view::Unwanted;

macro_rules! counts {
    ($($(#[doc = $text:literal])+ $field:ident,)+) => {
        /// Counters of one queue pair, whose worker is their only writer.
        #[derive(Debug, Default)]
        pub struct Counts {
            $($(#[doc = $text])+ pub $field: Counter,)+
            /// What went wrong at the uplink last: an error number, 0 if nothing ever did.
            last_error: AtomicI32,
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
    /// Frames for the guest that were no frames.
    rx_malformed,
    /// Frames for the guest that its filters do not let pass.
    rx_filtered,
    /// Frames for the guest for which its buffers are too small, or longer than the MTU.
    rx_too_long,
    /// Frames for the guest that leave to it what it does not take.
    rx_unnegotiated,
    /// Times that the uplink had nothing to say but an error.
    uplink_errors,
    /// Commands of the driver that were carried out.
    commands,
    /// Commands of the driver that were refused.
    commands_refused,
}

impl Counts {
    /// A packet is not given to the guest.
    #[cold]
    pub(crate) fn unwanted(&self, why: Unwanted) {
        let counter = match why {
            Unwanted::Filtered => &self.rx_filtered,
            Unwanted::TooLong => &self.rx_too_long,
            Unwanted::Offload => &self.rx_unnegotiated,
        };
        counter.add(1);
    }

    /// The uplink has failed.
    #[cold]
    pub(crate) fn uplink_failed(&self, error: Errno) {
        self.uplink_errors.add(1);
        self.last_error.store(error.raw_os_error(), Ordering::Relaxed);
    }

    /// What went wrong at the uplink last, in words.
    pub(crate) fn last_error(&self) -> Option<String> {
        match self.last_error.load(Ordering::Relaxed) {
            0 => None,
            number => Some(Errno::from_raw_os_error(number).to_string()),
        }
    }

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
