//! The config space (virtio 1.4, 5.2.4).

use virtio_spec::block::{Config, SECTOR_SIZE, Topology};

use crate::device::Settings;
use crate::image::{BlockSizes, Image, SECTOR};
use crate::request::{MAX_RANGE_SECTORS, MAX_RANGES, SEG_MAX, SIZE_MAX};

/// What the driver reads, for an image of `bytes` bytes. Fields whose feature is not offered are 0.
pub(crate) fn space(image: &Image, settings: &Settings, bytes: u64, writeback: bool) -> Config {
    let mut space = Config {
        capacity: bytes / SECTOR_SIZE,
        size_max: SIZE_MAX,
        seg_max: SEG_MAX.into(),
        blk_size: image.sizes().logical,
        topology: topology(image.sizes()),
        writeback: writeback.into(),
        num_queues: settings.num_queues,
        ..Config::default()
    };
    let abilities = image.abilities();
    let ranges = u32::try_from(MAX_RANGES).unwrap_or(1);
    if let Some(granularity) = abilities.discard {
        space.max_discard_sectors = MAX_RANGE_SECTORS;
        space.max_discard_seg = ranges;
        space.discard_sector_alignment = sectors(granularity.max(image.sizes().logical));
    }
    if !image.is_read_only() {
        space.max_write_zeroes_sectors = MAX_RANGE_SECTORS;
        space.max_write_zeroes_seg = ranges;
        space.write_zeroes_may_unmap = abilities.unmap.into();
    }
    if abilities.secure_erase {
        space.max_secure_erase_sectors = MAX_RANGE_SECTORS;
        space.max_secure_erase_seg = ranges;
        space.secure_erase_sector_alignment =
            sectors(abilities.discard.unwrap_or(0).max(image.sizes().logical));
    }
    space
}

fn sectors(bytes: u32) -> u32 {
    bytes / SECTOR
}

/// Sizes in logical blocks.
fn topology(sizes: BlockSizes) -> Topology {
    let blocks = |bytes: u32| bytes.checked_div(sizes.logical).unwrap_or(0);
    Topology {
        physical_block_exp: u8::try_from(blocks(sizes.physical).max(1).ilog2()).unwrap_or(0),
        // Nothing here is shifted against its physical blocks.
        alignment_offset: 0,
        min_io_size: u16::try_from(blocks(sizes.minimum_io)).unwrap_or(u16::MAX),
        opt_io_size: blocks(sizes.optimal_io),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_in_logical_blocks() {
        let sizes =
            BlockSizes { logical: 512, physical: 4096, minimum_io: 4096, optimal_io: 1 << 20 };
        let shown = topology(sizes);
        assert_eq!(shown.physical_block_exp, 3);
        assert_eq!(shown.min_io_size, 8);
        assert_eq!(shown.opt_io_size, 2048);
    }
}
