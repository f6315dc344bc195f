//! The memory balloon (virtio 1.4, 5.5): features, configuration space, statistics.

use crate::layout::le_struct;

/// Feature: the driver tells before it uses pages of the balloon again.
pub const MUST_TELL_HOST: u32 = 0;
/// Feature: there is a queue for memory statistics.
pub const STATS_VQ: u32 = 1;
/// Feature: the driver may deflate when memory runs out.
pub const DEFLATE_ON_OOM: u32 = 2;
/// Feature: there is a queue for hints of free pages.
pub const FREE_PAGE_HINT: u32 = 3;
/// Feature: the configuration holds the pattern that free pages are filled with.
pub const PAGE_POISON: u32 = 4;
/// Feature: there is a queue for reports of free pages.
pub const PAGE_REPORTING: u32 = 5;

/// The feature bits' names.
pub(crate) const NAMES: &[(u32, &str)] = &[
    (MUST_TELL_HOST, "MUST_TELL_HOST"),
    (STATS_VQ, "STATS_VQ"),
    (DEFLATE_ON_OOM, "DEFLATE_ON_OOM"),
    (FREE_PAGE_HINT, "FREE_PAGE_HINT"),
    (PAGE_POISON, "PAGE_POISON"),
    (PAGE_REPORTING, "PAGE_REPORTING"),
];

/// Queue of pages that go into the balloon.
pub const INFLATE_QUEUE: u16 = 0;
/// Queue of pages that come out of it. Queues of optional features follow, without gaps, in the
/// order statistics, free page hints, reporting.
pub const DEFLATE_QUEUE: u16 = 1;

/// A page number is a guest address shifted right by this, whatever the guest's page size.
pub const PFN_SHIFT: u32 = 12;
/// Bytes of the pages that page numbers count.
pub const PAGE_SIZE: u64 = 1 << PFN_SHIFT;

/// `free_page_hint_cmd_id`: hints are to end, the pages stay unused.
pub const FREE_PAGE_HINT_STOP: u32 = 0;
/// `free_page_hint_cmd_id`: hints are over, the driver may use the pages again.
pub const FREE_PAGE_HINT_DONE: u32 = 1;

le_struct! {
    /// The configuration space (5.5.4).
    #[derive(Default)]
    pub struct Config {
        /// Pages that the device wants in the balloon.
        pub num_pages: u32,
        /// Pages that are in the balloon; the driver writes it.
        pub actual: u32,
        /// Which round of hints the device wants (`FREE_PAGE_HINT`).
        pub free_page_hint_cmd_id: u32,
        /// What free pages are filled with; the driver writes it (`PAGE_POISON`).
        pub poison_val: u32,
    }
}

/// Offset of `actual`.
pub const ACTUAL_OFFSET: usize = 4;
/// Offset of `poison_val`.
pub const POISON_VAL_OFFSET: usize = 12;

le_struct! {
    /// One statistic (5.5.6.3).
    #[derive(Default)]
    pub struct Stat {
        /// A [`StatTag`]'s number. Drivers may send tags that a device does not know.
        pub tag: u16,
        /// The value.
        pub value: u64,
    }
}

macro_rules! stat_tags {
    ($( $(#[$meta:meta])* $item:ident = $number:literal, $word:literal; )*) => {
        /// What a [`Stat`] counts. Up to `HUGETLB_PGFAIL` in the specification, the others as
        /// Linux numbers them. Sizes are in bytes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum StatTag {
            $( $(#[$meta])* $item = $number, )*
        }

        impl StatTag {
            /// All tags.
            pub const ALL: &'static [Self] = &[$(Self::$item),*];

            /// The tag with this number.
            #[must_use]
            pub const fn from_u16(number: u16) -> Option<Self> {
                match number {
                    $( $number => Some(Self::$item), )*
                    _ => None,
                }
            }

            /// The statistic's name, in the words that QEMU shows.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $( Self::$item => $word, )*
                }
            }
        }
    };
}

stat_tags! {
    /// Memory swapped in.
    SwapIn = 0, "swap-in";
    /// Memory swapped out.
    SwapOut = 1, "swap-out";
    /// Major page faults.
    MajorFaults = 2, "major-faults";
    /// Minor page faults.
    MinorFaults = 3, "minor-faults";
    /// Memory that nobody uses.
    FreeMemory = 4, "free-memory";
    /// Memory in all.
    TotalMemory = 5, "total-memory";
    /// Memory that a new program could have.
    AvailableMemory = 6, "available-memory";
    /// Memory that holds cached files.
    DiskCaches = 7, "disk-caches";
    /// Huge pages allocated.
    HugetlbAllocations = 8, "hugetlb-allocations";
    /// Huge pages that could not be allocated.
    HugetlbFailures = 9, "hugetlb-failures";
    /// Processes killed for want of memory.
    OomKills = 10, "oom-kills";
    /// Allocations that had to wait.
    AllocStalls = 11, "alloc-stalls";
    /// Pages that background reclaim looked at.
    AsyncScans = 12, "async-scans";
    /// Pages that allocations looked at.
    DirectScans = 13, "direct-scans";
    /// Pages that background reclaim freed.
    AsyncReclaims = 14, "async-reclaims";
    /// Pages that allocations freed.
    DirectReclaims = 15, "direct-reclaims";
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // `virtio-bindings` has no balloon; the numbers are those of the specification's structures.
    #[test]
    fn layouts_are_those_of_the_specification() {
        assert_eq!(Config::SIZE, 16);
        let offsets: Vec<_> = Config::FIELDS.iter().map(|f| f.offset).collect();
        assert_eq!(offsets, [0, ACTUAL_OFFSET, 8, POISON_VAL_OFFSET]);
        assert_eq!(Stat::SIZE, 10);
    }

    #[test]
    fn tags_round_trip_through_their_numbers() {
        assert_eq!(StatTag::ALL.len(), 16);
        for number in 0..100 {
            let tag = StatTag::from_u16(number);
            assert_eq!(tag.map(|t| t as u16), (number < 16).then_some(number));
        }
    }

    proptest! {
        #[test]
        fn statistics_round_trip(tag: u16, value: u64) {
            let stat = Stat { tag, value };
            let bytes = stat.to_bytes();
            prop_assert_eq!(Stat::from_bytes(&bytes), stat);
            prop_assert_eq!(&bytes[2..], value.to_le_bytes());
        }
    }
}
