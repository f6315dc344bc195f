//! Zoned block devices (virtio 1.4, 5.2.6, with the feature `ZONED`).

use crate::layout::le_struct;

/// How a disk treats writes into zones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Model {
    /// Like a disk without zones.
    None = 0,
    /// Sequential zones must be written in order.
    HostManaged = 1,
    /// Sequential zones are better written in order.
    HostAware = 2,
}

/// The kind of a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ZoneType {
    /// Written in any order.
    Conventional = 1,
    /// Must be written in order.
    SequentialRequired = 2,
    /// Better written in order.
    SequentialPreferred = 3,
}

/// The state of a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ZoneState {
    /// Has no write pointer.
    NotWritePointer = 0,
    /// Nothing was written.
    Empty = 1,
    /// Opened by a write.
    ImplicitlyOpen = 2,
    /// Opened by a request.
    ExplicitlyOpen = 3,
    /// Written in part, not open.
    Closed = 4,
    /// Can only be read.
    ReadOnly = 13,
    /// Written to its end.
    Full = 14,
    /// Cannot be used.
    Offline = 15,
}

le_struct! {
    /// The head of a zone report; [`ZoneDescriptor`]s follow.
    pub struct ZoneReport {
        /// Number of descriptors that follow.
        pub nr_zones: u64,
        /// Zero.
        pub reserved: [u8; 56],
    }
}

le_struct! {
    /// One zone of a report.
    pub struct ZoneDescriptor {
        /// Sectors that can be used.
        pub z_cap: u64,
        /// First sector.
        pub z_start: u64,
        /// Sector of the write pointer.
        pub z_wp: u64,
        /// A [`ZoneType`]'s number.
        pub z_type: u8,
        /// A [`ZoneState`]'s number.
        pub z_state: u8,
        /// Zero.
        pub reserved: [u8; 38],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use virtio_bindings::virtio_blk as linux;

    #[test]
    fn layout_and_numbers_agree_with_linux() {
        assert_eq!(ZoneReport::SIZE, size_of::<linux::virtio_blk_zone_report>());
        assert_eq!(ZoneDescriptor::SIZE, size_of::<linux::virtio_blk_zone_descriptor>());
        assert_eq!(Model::HostAware as u32, linux::VIRTIO_BLK_Z_HA);
        assert_eq!(ZoneType::SequentialPreferred as u32, linux::VIRTIO_BLK_ZT_SWP);
        assert_eq!(ZoneState::Offline as u32, linux::VIRTIO_BLK_ZS_OFFLINE);
    }
}
