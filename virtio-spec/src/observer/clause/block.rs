//! Clauses about the block device's configuration and requests.

use super::clauses;

clauses! { "virtio-1.4",
    BLK_PADDING_ZERO: Device, "5.2.5.2", "blk-padding-zero",
        "The padding in the configuration is zero.";
    BLK_WRITEBACK_INITIAL: Device, "5.2.5.2", "blk-writeback-initial",
        "With CONFIG_WCE and without FLUSH the device starts with writeback 0.";
    BLK_WRITEBACK_READS_BACK: Device, "5.2.6.1", "blk-writeback-reads-back",
        "The device takes the cache mode that the driver writes.";
    BLK_STATUS_WRITTEN: Device, "5.2.6", "blk-status-written",
        "The device ends each request with a status that the specification knows.";
    BLK_USED_LEN: Device, "5.2.6", "blk-used-len",
        "A request that succeeded is used with the length of its data and its status byte.";
    BLK_READ_ONLY: Device, "5.2.6.2", "blk-read-only",
        "A read-only device fails each write with IOERR.";
    BLK_UNKNOWN_TYPE: Device, "5.2.6", "blk-unknown-type",
        "The device answers a type that it does not serve with UNSUPP.";
    BLK_SEGMENT_FLAGS: Device, "5.2.6.2", "blk-segment-flags",
        "The device answers segments with unknown flags, and discards with UNMAP, with UNSUPP.";
    BLK_ZONE_UNSUPPORTED: Device, "5.2.6.2", "blk-zone-unsupported",
        "Without ZONED the device answers zone requests with UNSUPP.";
    BLK_NO_FALSE_OK: Device, "5.2.6", "blk-no-false-ok",
        "The device does not report success for a request that cannot be done as it stands.";
    BLK_WRITEBACK_EARLY: Driver, "5.2.5.1", "blk-writeback-early",
        "A driver does not read writeback before FEATURES_OK.";
    BLK_CONFIG_READ_ONLY: Driver, "5.2.4", "blk-config-read-only",
        "A driver writes no configuration field but writeback, with 0 or 1 and CONFIG_WCE.";
    BLK_CAPACITY: Driver, "5.2.6.1", "blk-capacity",
        "A driver asks for no sectors beyond the capacity.";
    BLK_DATA_LENGTH: Driver, "5.2.6.1", "blk-data-length",
        "A request's data has a length that its type takes.";
    BLK_SEGMENT_COUNT: Driver, "5.2.6.1", "blk-segment-count",
        "A request has no more segments than the configuration allows.";
    BLK_FLUSH_SECTOR: Driver, "5.2.6.1", "blk-flush-sector",
        "A flush has sector 0.";
    BLK_DISCARD_UNMAP: Driver, "5.2.6.1", "blk-discard-unmap",
        "A discard's segments do not have UNMAP.";
    BLK_STATUS_ROOM: Driver, "5.2.6", "blk-status-room",
        "A request ends with a byte for the device to write.";
}
