//! What `stats` shows of the balloon's work.

use framework::stats::Counter;
use serde_json::{Map, Value};

macro_rules! counts {
    ($($(#[doc = $text:literal])+ $field:ident,)+) => {
        /// Counters, of which the worker is the only writer.
        #[derive(Debug, Default)]
        pub struct Counts {
            $($(#[doc = $text])+ pub $field: Counter,)+
        }

        impl Counts {
            /// All of them, by name.
            pub fn to_json(&self) -> Map<String, Value> {
                [$((stringify!($field), self.$field.get()),)+]
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value.into()))
                    .collect()
            }
        }
    };
}

counts! {
    /// Pages that went into the balloon.
    pages_inflated,
    /// Pages that came out of it.
    pages_deflated,
    /// Pages that were named but are not in guest memory.
    pages_outside,
    /// Pages that were named twice in one go.
    pages_repeated,
    /// Pages that were to come out and were not in.
    pages_not_inside,
    /// Lists with bytes left over at their end.
    lists_malformed,
    /// Lists that are longer than is read in one go.
    lists_too_long,
    /// Reports of free pages.
    reports,
    /// Bytes that were reported as free.
    reported_bytes,
    /// Reported bytes that stayed, since the driver wants to find its poison in them.
    poisoned_bytes,
    /// Bytes that were not given back when the driver gave them, since the VMM forbids it.
    forbidden_bytes,
    /// Holes that were made in the files of guest memory.
    holes,
    /// Bytes of these holes.
    punched_bytes,
    /// Bytes by which the files of guest memory became smaller, as the host says.
    returned_bytes,
    /// Bytes that stayed since they are no whole pages of the file, such as parts of huge pages.
    partial_bytes,
    /// Holes that the host refused.
    refused_holes,
    /// Statistics that came.
    statistics,
    /// Times that what is in the balloon could not be kept.
    unkept,
}
