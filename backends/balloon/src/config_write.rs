//! Writes to the configuration space.
//!
//! Some front-ends pass on what the driver wrote, some (QEMU) the whole space with it, from their own
//! copy. So fields that are not the writer's to set are not an error: they are ignored.

use framework::device::ConfigWriter;
use virtio_spec::balloon::Config;

use crate::balloon::Balloon;

/// Applies a write of `data` at `offset`. Says whether anything has changed.
pub fn apply(balloon: &mut Balloon, offset: usize, data: &[u8], by: ConfigWriter) -> bool {
    let before = balloon.config();
    let mut bytes = before.to_bytes();
    for (to, from) in bytes.iter_mut().skip(offset).zip(data) {
        *to = *from;
    }
    let written = Config::from_bytes(&bytes);
    balloon.take_config(&written);
    if by == ConfigWriter::Migration {
        // The driver has seen the source's target.
        balloon.target = written.num_pages;
    }
    balloon.config() != before
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use virtio_spec::balloon::{ACTUAL_OFFSET, PAGE_POISON, POISON_VAL_OFFSET};
    use virtio_spec::features::{Negotiated, mask};

    use super::*;

    fn balloon(bits: &[u32]) -> Balloon {
        let mut balloon = Balloon::new(1000, None);
        balloon.features = Negotiated::assume(bits.iter().map(|bit| mask(*bit)).sum());
        balloon
    }

    #[test]
    fn a_slice_and_the_whole_space_do_the_same() {
        let mut slice = balloon(&[PAGE_POISON]);
        assert!(apply(&mut slice, ACTUAL_OFFSET, &7_u32.to_le_bytes(), ConfigWriter::Driver));
        assert!(apply(&mut slice, POISON_VAL_OFFSET, &[9, 0, 0, 0], ConfigWriter::Driver));
        let mut whole = balloon(&[PAGE_POISON]);
        let config = Config { num_pages: 1, actual: 7, free_page_hint_cmd_id: 5, poison_val: 9 };
        assert!(apply(&mut whole, 0, &config.to_bytes(), ConfigWriter::Driver));
        assert_eq!(slice.config(), whole.config());
        assert_eq!((whole.target, whole.actual, whole.poison), (1000, 7, 9));
    }

    #[test]
    fn poison_counts_only_if_it_was_negotiated() {
        let mut balloon = balloon(&[]);
        assert!(!apply(&mut balloon, POISON_VAL_OFFSET, &[9, 0, 0, 0], ConfigWriter::Driver));
        assert_eq!(balloon.poison, 0);
    }

    #[test]
    fn a_migration_sets_the_target_too() {
        let mut balloon = balloon(&[]);
        assert!(apply(&mut balloon, 0, &[5, 0, 0, 0], ConfigWriter::Migration));
        assert_eq!(balloon.target, 5);
    }

    proptest! {
        #[test]
        fn a_driver_writes_nothing_but_its_own_fields(
            offset in 0..20_usize, data in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let mut balloon = balloon(&[PAGE_POISON]);
            let before = balloon.config().to_bytes();
            apply(&mut balloon, offset, &data, ConfigWriter::Driver);
            let after = balloon.config().to_bytes();
            for (index, (old, new)) in before.iter().zip(after).enumerate() {
                let own = (4..8).contains(&index) || index >= 12;
                let written = index.checked_sub(offset).and_then(|at| data.get(at));
                prop_assert_eq!(new, *written.filter(|_| own).unwrap_or(old));
            }
        }
    }
}
