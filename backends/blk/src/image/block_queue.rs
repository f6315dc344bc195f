//! What sysfs tells of a block device's request queue.

use std::path::PathBuf;

use rustix::fs::{Stat, major, minor};

/// Limits of a block device, bytes; 0 where there is nothing to tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct QueueLimits {
    /// The smallest request that the device likes.
    pub(super) minimum_io_size: u32,
    /// The request that it likes best.
    pub(super) optimal_io_size: u32,
    /// What it discards at once.
    pub(super) discard_granularity: u32,
    /// The most that one discard may cover; 0: it cannot discard.
    pub(super) discard_max_bytes: u64,
    /// The most that it fills with zeroes by itself; 0: the kernel writes them.
    pub(super) write_zeroes_max_bytes: u64,
}

impl QueueLimits {
    /// The limits of the device with this node. What cannot be read is taken as zero: without
    /// sysfs a device is served all the same, with fewer abilities.
    pub(super) fn of(stat: &Stat) -> Self {
        let device = format!("/sys/dev/block/{}:{}", major(stat.st_rdev), minor(stat.st_rdev));
        let device = PathBuf::from(device);
        // A partition has its disk's queue.
        let disk = if device.join("partition").exists() { device.join("..") } else { device };
        let queue = disk.join("queue");
        let read = |name: &str| -> u64 {
            let text = std::fs::read_to_string(queue.join(name)).unwrap_or_default();
            text.trim().parse().unwrap_or(0)
        };
        let read_u32 = |name: &str| u32::try_from(read(name)).unwrap_or(0);
        QueueLimits {
            minimum_io_size: read_u32("minimum_io_size"),
            optimal_io_size: read_u32("optimal_io_size"),
            discard_granularity: read_u32("discard_granularity"),
            discard_max_bytes: read("discard_max_bytes"),
            write_zeroes_max_bytes: read("write_zeroes_max_bytes"),
        }
    }
}
