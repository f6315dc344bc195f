//! What is where in the one BAR of a virtio function.
//!
//! Registers first, then the MSI-X table, its pending bits and the doorbells, each on pages of its
//! own: software may map them apart (PCI 3.0, 6.8.2).

/// Length of the common configuration structure, bytes (virtio 1.4, 4.1.4.3).
pub(crate) const COMMON_SIZE: u32 = 0x40;
/// The longest configuration space of a device, bytes.
pub(crate) const LONGEST_CONFIG: u32 = PAGE;
/// Bytes between the doorbells of two queues: `notify_off_multiplier` (virtio 1.4, 4.1.4.4).
pub(crate) const DOORBELL: u32 = 4;

const PAGE: u32 = 0x1000;
const COMMON: u32 = 0;
const ISR: u32 = 0x100;
const CONFIG: u32 = PAGE;
const TABLE: u32 = 2 * PAGE;
const ENTRY: u32 = 16;

/// The layout of a BAR.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) common: Area,
    pub(crate) isr: Area,
    pub(crate) config: Area,
    pub(crate) table: Area,
    pub(crate) pending: Area,
    pub(crate) doorbells: Area,
    /// The whole, a power of two.
    pub(crate) size: u64,
}

/// A part of a BAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Area {
    pub(crate) offset: u32,
    pub(crate) length: u32,
}

/// What an access reaches, with the offset in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Common(u32),
    Isr,
    Config(u32),
    Table(u32),
    Pending(u32),
    Doorbell(u32),
    Nothing,
}

impl Layout {
    /// The layout for so many queues and vectors, and a configuration space of `config` bytes.
    pub(crate) fn new(queues: u16, vectors: u16, config: u32) -> Self {
        let table = Area { offset: TABLE, length: u32::from(vectors) * ENTRY };
        let words = u32::from(vectors).div_ceil(64);
        let pending = Area { offset: table.next_page(), length: words * 8 };
        let doorbells =
            Area { offset: pending.next_page(), length: u32::from(queues).max(1) * DOORBELL };
        Self {
            common: Area { offset: COMMON, length: COMMON_SIZE },
            isr: Area { offset: ISR, length: 4 },
            config: Area { offset: CONFIG, length: config },
            table,
            pending,
            doorbells,
            size: u64::from(doorbells.next_page()).next_power_of_two(),
        }
    }

    /// What is at an offset.
    pub(crate) fn locate(&self, offset: u64) -> Target {
        let within = |area: Area| {
            let from = u32::try_from(offset).ok()?.checked_sub(area.offset)?;
            (from < area.length).then_some(from)
        };
        let candidates = [
            (within(self.common), Target::Common as fn(u32) -> Target),
            (within(self.isr), |_| Target::Isr),
            (within(self.config), Target::Config),
            (within(self.table), Target::Table),
            (within(self.pending), Target::Pending),
            (within(self.doorbells), Target::Doorbell),
        ];
        candidates
            .into_iter()
            .find_map(|(found, target)| found.map(target))
            .unwrap_or(Target::Nothing)
    }
}

impl Area {
    /// The first page boundary at or after its end.
    fn next_page(self) -> u32 {
        (self.offset + self.length).next_multiple_of(PAGE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_common_device_needs_32_kibibytes() {
        let layout = Layout::new(4, 5, 60);
        assert_eq!(layout.size, 0x8000);
        assert_eq!(layout.locate(0x14), Target::Common(0x14));
        assert_eq!(layout.locate(0x40), Target::Nothing);
        assert_eq!(layout.locate(0x1004), Target::Config(4));
        assert_eq!(layout.locate(u64::MAX), Target::Nothing);
    }

    proptest! {
        #[test]
        fn areas_are_apart_and_inside(queues in 0_u16..1024, config in 0..=LONGEST_CONFIG) {
            let layout = Layout::new(queues, queues + 1, config);
            let areas = [
                layout.common,
                layout.isr,
                layout.config,
                layout.table,
                layout.pending,
                layout.doorbells,
            ];
            prop_assert!(layout.size.is_power_of_two());
            for pair in areas.windows(2) {
                prop_assert!(pair[0].offset + pair[0].length <= pair[1].offset);
            }
            let last = areas[5];
            prop_assert!(u64::from(last.offset + last.length) <= layout.size);
        }
    }
}
