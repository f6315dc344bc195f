//! Clauses about rings: what drivers may make available, and how devices use it.

use super::clauses;

clauses! { "virtio-1.4",
    // Both kinds of rings.
    USED_KNOWN: Device, "2.6", "used-known",
        "A device uses only buffers that were made available.";
    USED_ONCE: Device, "2.6", "used-once",
        "A device uses each buffer exactly once.";
    USED_LEN: Device, "2.7.8.2", "used-len",
        "A device reports no more bytes as written than the buffer takes.";
    USED_IN_ORDER: Device, "6.2", "used-in-order",
        "With IN_ORDER a device uses buffers in the order in which they were made available.";
    USED_STAYS: Device, "2.8.15", "used-stays",
        "A device changes nothing about a buffer once it was shown as used.";
    READ_ONLY_STAYS: Device, "2.7.5.1", "read-only-stays",
        "A device does not write into a buffer that it is to read.";
    DESCRIPTORS_STAY: Device, "2.7.5.1", "descriptors-stay",
        "A device does not write into a descriptor table, nor into descriptors not yet used.";
    DRIVER_AREA_STAYS: Device, "2.6", "driver-area-stays",
        "A device does not write into the area by which the driver talks to it.";
    NOWHERE_ELSE: Device, "2.6", "nowhere-else",
        "A device writes only into buffers that it was given to write and into its own area.";
    CALL_REQUIRED: Device, "2.7.7.2", "call-required",
        "A device calls after it used buffers, unless the driver asked it not to.";
    QUEUE_RESET_IDLE: Device, "2.6.1.1.1", "queue-reset-idle",
        "A device leaves a queue that was reset alone and does not call for it.";
    DEVICE_FLAGS: Device, "2.7.10.2", "device-flags",
        "A device's flags for kicks hold a defined value: 0 or 1, and 0 with EVENT_IDX.";
    // Split rings.
    USED_IDX: Device, "2.7.8", "used-idx",
        "A device advances the used index by the number of buffers that it used.";
    // Packed rings.
    PACKED_USED_FLAGS: Device, "2.8.1", "used-flags",
        "A device marks a descriptor used by setting both marks to its wrap counter.";
    PACKED_DEVICE_FLAGS: Device, "2.8.14", "device-event-flags",
        "A device's event suppression holds a defined value, DESC only with EVENT_IDX.";

    // Both kinds of rings.
    AREA_ALIGNED: Driver, "2.7.1", "area-aligned",
        "The areas of a queue are aligned.";
    QUEUE_SIZE: Driver, "2.7", "queue-size",
        "A queue has 1 to 32768 entries, a power of two if it is split.";
    INDIRECT_NEGOTIATED: Driver, "2.7.5.3.1", "indirect-negotiated",
        "A driver uses tables of descriptors only with INDIRECT_DESC.";
    INDIRECT_NOT_NESTED: Driver, "2.7.5.3.1", "indirect-not-nested",
        "A table of descriptors refers to no other table.";
    INDIRECT_ENDS_CHAIN: Driver, "2.7.5.3.1", "indirect-ends-chain",
        "A descriptor that refers to a table has no next one.";
    INDIRECT_WHOLE: Driver, "2.7.5.3", "indirect-whole",
        "A table holds one descriptor or more and no part of one.";
    WRITABLE_LAST: Driver, "2.7.4.2", "writable-last",
        "Buffers for the device to write come after those for it to read.";
    CHAIN_LENGTH: Driver, "2.7.5.3.1", "chain-length",
        "A chain is no longer than the queue.";
    CHAIN_BYTES: Driver, "2.7.5.2", "chain-bytes",
        "A chain holds no more than 4 GiB.";
    CHAIN_LINKED: Driver, "2.7.5", "chain-linked",
        "A chain's descriptors are linked from the first to the last, within the table and \
         without a loop.";
    DESCRIPTOR_FREE: Driver, "2.7.13.1", "descriptor-free",
        "A driver makes no descriptor and no id available that the device still has.";
    IN_ORDER_DESCRIPTORS: Driver, "2.7.5.2", "in-order-descriptors",
        "With IN_ORDER a driver takes descriptors in the table's order.";
    KICK_REQUIRED: Driver, "2.7.10.1", "kick-required",
        "A driver kicks after it made buffers available, unless the device asked it not to.";
    DRIVER_FLAGS: Driver, "2.7.7.1", "driver-flags",
        "A driver's flags for calls hold a defined value: 0 or 1, and 0 with EVENT_IDX.";
    // Split rings.
    AVAIL_POSITION: Driver, "2.7.13.2", "avail-position",
        "A driver fills the available ring entry by entry.";
    AVAIL_IDX: Driver, "2.7.6.1", "avail-idx",
        "A driver advances the available index by the number of entries that it filled.";
    USED_READ_EARLY: Driver, "2.7.14", "used-read-early",
        "A driver reads only entries of the used ring that the index covers.";
    // Packed rings.
    PACKED_AVAIL_FLAGS: Driver, "2.8.1", "avail-flags",
        "A driver marks each descriptor of a list available by its wrap counter.";
    PACKED_NEXT_FLAGS: Driver, "2.8.6", "next-flags",
        "All descriptors of a list but the last have NEXT.";
    PACKED_SPACE: Driver, "2.8.17", "space",
        "A driver makes a list available only if the whole list has room in the ring.";
    PACKED_TABLE_FLAGS: Driver, "2.8.19", "table-flags",
        "Descriptors in a packed ring's table have no flag but WRITE.";
    PACKED_DRIVER_FLAGS: Driver, "2.8.14", "driver-event-flags",
        "A driver's event suppression holds a defined value, DESC only with EVENT_IDX.";
}
