//! Feature bits of the block device (virtio 1.4, 5.2.3).

/// Legacy: the device takes barriers.
pub const BARRIER: u32 = 0;
/// The configuration holds the largest segment.
pub const SIZE_MAX: u32 = 1;
/// The configuration holds the largest number of segments of a request.
pub const SEG_MAX: u32 = 2;
/// The configuration holds cylinders, heads and sectors.
pub const GEOMETRY: u32 = 4;
/// The disk cannot be written.
pub const RO: u32 = 5;
/// The configuration holds the block size.
pub const BLK_SIZE: u32 = 6;
/// Legacy: the device takes SCSI commands.
pub const SCSI: u32 = 7;
/// The device takes flush requests.
pub const FLUSH: u32 = 9;
/// The configuration holds preferred sizes and alignments.
pub const TOPOLOGY: u32 = 10;
/// The driver can switch between writeback and writethrough.
pub const CONFIG_WCE: u32 = 11;
/// The device has several queues.
pub const MQ: u32 = 12;
/// The device takes discard requests.
pub const DISCARD: u32 = 13;
/// The device takes write-zeroes requests.
pub const WRITE_ZEROES: u32 = 14;
/// The device tells how worn its storage is.
pub const LIFETIME: u32 = 15;
/// The device takes secure-erase requests.
pub const SECURE_ERASE: u32 = 16;
/// The disk has zones.
pub const ZONED: u32 = 17;

/// The bits' names.
pub(crate) const NAMES: &[(u32, &str)] = &[
    (BARRIER, "BARRIER"),
    (SIZE_MAX, "SIZE_MAX"),
    (SEG_MAX, "SEG_MAX"),
    (GEOMETRY, "GEOMETRY"),
    (RO, "RO"),
    (BLK_SIZE, "BLK_SIZE"),
    (SCSI, "SCSI"),
    (FLUSH, "FLUSH"),
    (TOPOLOGY, "TOPOLOGY"),
    (CONFIG_WCE, "CONFIG_WCE"),
    (MQ, "MQ"),
    (DISCARD, "DISCARD"),
    (WRITE_ZEROES, "WRITE_ZEROES"),
    (LIFETIME, "LIFETIME"),
    (SECURE_ERASE, "SECURE_ERASE"),
    (ZONED, "ZONED"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use virtio_bindings::virtio_blk as linux;

    #[test]
    fn numbers_agree_with_linux() {
        let pairs = [
            (BARRIER, linux::VIRTIO_BLK_F_BARRIER),
            (SIZE_MAX, linux::VIRTIO_BLK_F_SIZE_MAX),
            (SEG_MAX, linux::VIRTIO_BLK_F_SEG_MAX),
            (GEOMETRY, linux::VIRTIO_BLK_F_GEOMETRY),
            (RO, linux::VIRTIO_BLK_F_RO),
            (BLK_SIZE, linux::VIRTIO_BLK_F_BLK_SIZE),
            (SCSI, linux::VIRTIO_BLK_F_SCSI),
            (FLUSH, linux::VIRTIO_BLK_F_FLUSH),
            (TOPOLOGY, linux::VIRTIO_BLK_F_TOPOLOGY),
            (CONFIG_WCE, linux::VIRTIO_BLK_F_CONFIG_WCE),
            (MQ, linux::VIRTIO_BLK_F_MQ),
            (DISCARD, linux::VIRTIO_BLK_F_DISCARD),
            (WRITE_ZEROES, linux::VIRTIO_BLK_F_WRITE_ZEROES),
            (SECURE_ERASE, linux::VIRTIO_BLK_F_SECURE_ERASE),
            (ZONED, linux::VIRTIO_BLK_F_ZONED),
        ];
        for (ours, theirs) in pairs {
            assert_eq!(ours, theirs);
        }
    }
}
