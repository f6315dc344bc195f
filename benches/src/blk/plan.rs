//! What is measured: media, operations, queue depths and the back-ends that are compared.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What is behind the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Medium {
    /// Nothing: requests complete at once and no data moves.
    Null,
    /// A file in tmpfs.
    Tmpfs,
    /// A file on disk that the page cache holds.
    Cached,
    /// A file on disk, with O_DIRECT.
    Direct,
}

impl Medium {
    /// For people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Tmpfs => "tmpfs",
            Self::Cached => "page cache",
            Self::Direct => "O_DIRECT",
        }
    }
}

/// What the client does. Reads come first, because writes change what later reads would see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Operation {
    /// 4 KiB reads at random offsets.
    #[value(name = "randread")]
    RandRead,
    /// 128 KiB reads one after the other, from the beginning again at the end.
    #[value(name = "seqread")]
    SeqRead,
    /// 4 KiB writes at random offsets.
    #[value(name = "randwrite")]
    RandWrite,
}

impl Operation {
    /// For people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::RandRead => "4 KiB random read",
            Self::SeqRead => "128 KiB sequential read",
            Self::RandWrite => "4 KiB random write",
        }
    }

    /// Bytes per request.
    pub(crate) fn block_size(self) -> u32 {
        match self {
            Self::RandRead | Self::RandWrite => 4 << 10,
            Self::SeqRead => 128 << 10,
        }
    }

    /// Whether data goes to the medium.
    pub(crate) fn writes(self) -> bool {
        self == Self::RandWrite
    }
}

/// Who serves the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BackEnd {
    /// outrigger-blk with `--poll-us auto`.
    Outrigger,
    /// outrigger-blk with `--poll-us 0`.
    OutriggerNoPoll,
    /// qemu-storage-daemon.
    Qemu,
    /// The same device on vhost-user-backend and virtio-queue.
    Reference,
    /// Nobody: the client does the I/O with an io_uring of its own.
    None,
}

impl BackEnd {
    /// For people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Outrigger => "outrigger-blk",
            Self::OutriggerNoPoll => "outrigger-blk, no polling",
            Self::Qemu => "qemu-storage-daemon",
            Self::Reference => "reference (rust-vmm)",
            Self::None => "no back-end",
        }
    }

    /// Whether it can serve the medium at all.
    pub(crate) fn serves(self, medium: Medium) -> bool {
        // The client has no driver that does nothing, which "no back-end" would be on null.
        !(self == Self::None && medium == Medium::Null)
    }
}

/// What one measurement does, whoever serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Cell {
    pub(crate) medium: Medium,
    pub(crate) operation: Operation,
    /// Requests in flight at any time.
    pub(crate) depth: u16,
}

/// All cells of a run, reads before writes on each medium.
pub(crate) fn cells(media: &[Medium], operations: &[Operation], depths: &[u16]) -> Vec<Cell> {
    let in_order = |operations: &[Operation]| {
        let mut sorted = operations.to_vec();
        sorted.sort_unstable();
        sorted
    };
    let mut cells = Vec::new();
    for &medium in media {
        for operation in in_order(operations) {
            cells.extend(depths.iter().map(|&depth| Cell { medium, operation, depth }));
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_come_after_reads_on_each_medium() {
        let media = [Medium::Tmpfs, Medium::Cached];
        let cells = cells(&media, &[Operation::RandWrite, Operation::RandRead], &[1, 8]);
        let seen: Vec<_> = cells.iter().map(|cell| (cell.medium, cell.operation)).collect();
        assert_eq!(seen.len(), 8);
        assert_eq!(seen[0], (Medium::Tmpfs, Operation::RandRead));
        assert_eq!(seen[3], (Medium::Tmpfs, Operation::RandWrite));
        assert_eq!(seen[4], (Medium::Cached, Operation::RandRead));
    }
}
