//! The block device (virtio 1.4, 5.2): features, configuration space, requests.

mod config;
mod feature;
mod request;
pub mod zoned;

pub use config::{Config, Geometry, Topology, WRITEBACK_OFFSET, ZonedCharacteristics};
pub(crate) use feature::NAMES;
pub use feature::{
    BARRIER, BLK_SIZE, CONFIG_WCE, DISCARD, FLUSH, GEOMETRY, LIFETIME, MQ, RO, SCSI, SECURE_ERASE,
    SEG_MAX, SIZE_MAX, TOPOLOGY, WRITE_ZEROES, ZONED,
};
pub use request::{
    ID_LEN, Lifetime, PreEolInfo, RequestHeader, RequestType, SECTOR_SHIFT, SECTOR_SIZE, Segment,
    SegmentFlags, Status,
};
