//! The block device's configuration space (virtio 1.4, 5.2.4).

use crate::layout::le_struct;

/// Offset of `writeback`, the one field that a driver may write.
pub const WRITEBACK_OFFSET: usize = 32;

le_struct! {
    /// Disk geometry.
    #[derive(Default)]
    pub struct Geometry {
        /// Number of cylinders.
        pub cylinders: u16,
        /// Number of heads.
        pub heads: u8,
        /// Sectors per track.
        pub sectors: u8,
    }
}

le_struct! {
    /// What sizes and alignments the disk likes best.
    #[derive(Default)]
    pub struct Topology {
        /// Logical blocks per physical block, as a power of two.
        pub physical_block_exp: u8,
        /// First logical block that is aligned to a physical one.
        pub alignment_offset: u8,
        /// Smallest good request, in logical blocks.
        pub min_io_size: u16,
        /// Best request, in logical blocks.
        pub opt_io_size: u32,
    }
}

le_struct! {
    /// How a zoned disk is divided (with the feature `ZONED`).
    #[derive(Default)]
    pub struct ZonedCharacteristics {
        /// Sectors in a zone.
        pub zone_sectors: u32,
        /// Zones that can be open at once; 0: no limit.
        pub max_open_zones: u32,
        /// Zones that can be active at once; 0: no limit.
        pub max_active_zones: u32,
        /// Sectors in the longest append request.
        pub max_append_sectors: u32,
        /// Bytes of which writes to sequential zones are multiples.
        pub write_granularity: u32,
        /// One of [`super::zoned::Model`]'s numbers.
        pub model: u8,
        /// Padding, zero.
        pub unused2: [u8; 3],
    }
}

le_struct! {
    /// The whole configuration space. Fields whose feature is absent are zero.
    ///
    /// Sectors are 512 bytes, whatever `blk_size` says.
    #[derive(Default)]
    pub struct Config {
        /// Size of the disk in sectors.
        pub capacity: u64,
        /// Bytes in the largest segment (`SIZE_MAX`).
        pub size_max: u32,
        /// Segments in a request (`SEG_MAX`).
        pub seg_max: u32,
        /// Disk geometry (`GEOMETRY`).
        pub geometry: Geometry,
        /// Bytes in a logical block (`BLK_SIZE`).
        pub blk_size: u32,
        /// Preferred sizes (`TOPOLOGY`).
        pub topology: Topology,
        /// 1: writeback, 0: writethrough (`CONFIG_WCE`; the driver writes it).
        pub writeback: u8,
        /// Padding, zero.
        pub unused0: u8,
        /// Number of queues (`MQ`).
        pub num_queues: u16,
        /// Sectors in a discard segment (`DISCARD`).
        pub max_discard_sectors: u32,
        /// Segments in a discard request (`DISCARD`).
        pub max_discard_seg: u32,
        /// Sectors that a good discard is aligned to (`DISCARD`).
        pub discard_sector_alignment: u32,
        /// Sectors in a write-zeroes segment (`WRITE_ZEROES`).
        pub max_write_zeroes_sectors: u32,
        /// Segments in a write-zeroes request (`WRITE_ZEROES`).
        pub max_write_zeroes_seg: u32,
        /// Whether write-zeroes may deallocate (`WRITE_ZEROES`).
        pub write_zeroes_may_unmap: u8,
        /// Padding, zero.
        pub unused1: [u8; 3],
        /// Sectors in a secure-erase segment (`SECURE_ERASE`).
        pub max_secure_erase_sectors: u32,
        /// Segments in a secure-erase request (`SECURE_ERASE`).
        pub max_secure_erase_seg: u32,
        /// Sectors that a good secure-erase is aligned to (`SECURE_ERASE`).
        pub secure_erase_sector_alignment: u32,
        /// How the disk is divided into zones (`ZONED`).
        pub zoned: ZonedCharacteristics,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::mem::offset_of;
    use virtio_bindings::virtio_blk as linux;

    fn offset(name: &str) -> usize {
        Config::FIELDS.iter().find(|f| f.name == name).map(|f| f.offset).unwrap()
    }

    macro_rules! assert_offsets {
        ($($ours:literal => $theirs:ident),* $(,)?) => {
            $( assert_eq!(offset($ours), offset_of!(linux::virtio_blk_config, $theirs), $ours); )*
        };
    }

    #[test]
    fn layout_agrees_with_linux() {
        assert_eq!(Config::SIZE, size_of::<linux::virtio_blk_config>());
        assert_offsets! {
            "capacity" => capacity,
            "size_max" => size_max,
            "seg_max" => seg_max,
            "geometry" => geometry,
            "blk_size" => blk_size,
            "topology" => physical_block_exp,
            "writeback" => wce,
            "num_queues" => num_queues,
            "max_discard_sectors" => max_discard_sectors,
            "max_discard_seg" => max_discard_seg,
            "discard_sector_alignment" => discard_sector_alignment,
            "max_write_zeroes_sectors" => max_write_zeroes_sectors,
            "max_write_zeroes_seg" => max_write_zeroes_seg,
            "write_zeroes_may_unmap" => write_zeroes_may_unmap,
            "max_secure_erase_sectors" => max_secure_erase_sectors,
            "max_secure_erase_seg" => max_secure_erase_seg,
            "secure_erase_sector_alignment" => secure_erase_sector_alignment,
            "zoned" => zoned,
        }
        assert_eq!(WRITEBACK_OFFSET, offset("writeback"));
    }

    proptest! {
        #[test]
        fn every_pattern_round_trips(bytes in proptest::array::uniform32(any::<[u8; 3]>())) {
            let bytes: [u8; Config::SIZE] = *bytes.as_flattened().first_chunk().unwrap();
            prop_assert_eq!(Config::from_bytes(&bytes).to_bytes(), bytes);
        }
    }
}
