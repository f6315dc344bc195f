//! The initial RAM disk: as high as the kernel takes it.

use std::ops::Range;

use vm_memory::GuestMemoryBackend;

use crate::loading::{Room, Write, too_little};
use crate::{Error, Image};

const PAGE: u64 = 4096;

/// Loads it between `floor`, the end of the kernel, and `limit`, the end of what the kernel
/// reaches.
pub(crate) fn load<M: GuestMemoryBackend>(
    memory: &M,
    image: &Image,
    floor: u64,
    limit: u64,
    room: &Room<'_>,
) -> Result<Range<u64>, Error> {
    let size = image.size()?;
    let start = place(size, floor, limit.min(room.end)).ok_or_else(|| {
        let needed = floor.saturating_add(size).saturating_add(PAGE);
        if needed > room.end && needed <= limit {
            return too_little("the initrd", image, needed, room);
        }
        let path = image.path().to_owned();
        Error::InitrdTooLarge { path, size, floor, ceiling: limit.min(room.end) }
    })?;
    memory.copy(image, 0, size, start)?;
    Ok(start..start + size)
}

/// Highest page-aligned place for `size` bytes in a range.
fn place(size: u64, floor: u64, ceiling: u64) -> Option<u64> {
    let start = ceiling.checked_sub(size)? / PAGE * PAGE;
    (start >= floor).then_some(start)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_place_is_inside_and_aligned(size in 1u64..1 << 33, floor: u32, ceiling: u32) {
            if let Some(start) = place(size, floor.into(), ceiling.into()) {
                prop_assert!(start >= floor.into() && start + size <= ceiling.into());
                prop_assert_eq!(start % PAGE, 0);
                prop_assert!(u64::from(ceiling) - (start + size) < PAGE);
            } else {
                prop_assert!(u64::from(floor) + size + PAGE > ceiling.into());
            }
        }
    }
}
