//! The series of a campaign: what is killed under which load.

/// Where the image lies and how it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    /// A file in memory.
    Tmpfs,
    /// A file through the page cache.
    Cached,
    /// A file with direct I/O.
    Direct,
    /// A slow disk with direct I/O, where requests land after the death of who asked.
    Slow,
}

/// How a daemon ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// SIGKILL, at any moment.
    Kill,
    /// SIGTERM: it drains and exits with status 0.
    Terminate,
}

/// The rings of a device and what was agreed on for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Packed rather than split.
    pub packed: bool,
    /// How many.
    pub queues: u8,
    /// Entries of each.
    pub size: u16,
    /// The most requests in flight in each.
    pub depth: usize,
    /// Kicks and calls by index.
    pub event_idx: bool,
    /// Completion in order.
    pub in_order: bool,
}

impl Shape {
    const fn split(queues: u8, size: u16) -> Self {
        let depth = size as usize;
        Self { packed: false, queues, size, depth, event_idx: true, in_order: false }
    }

    const fn packed(queues: u8, size: u16) -> Self {
        Self { packed: true, ..Self::split(queues, size) }
    }

    const fn depth(self, depth: usize) -> Self {
        Self { depth, ..self }
    }

    const fn no_event_idx(self) -> Self {
        Self { event_idx: false, ..self }
    }

    const fn in_order(self) -> Self {
        Self { in_order: true, ..self }
    }
}

/// A load on a fake front-end while daemons come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Series {
    /// What it is called.
    pub name: &'static str,
    /// The rings.
    pub shape: Shape,
    /// The disk.
    pub medium: Medium,
    /// How daemons end.
    pub end: End,
    /// Whether the lock on the image locks. One that does not must be found out.
    pub locks: bool,
    /// Further arguments for the daemon.
    pub arguments: &'static [&'static str],
    /// How many of a campaign's hundred kills are its own.
    pub share: u32,
}

impl Series {
    const fn new(name: &'static str, shape: Shape, medium: Medium, share: u32) -> Self {
        Self { name, shape, medium, end: End::Kill, locks: true, arguments: &[], share }
    }

    const fn with(self, arguments: &'static [&'static str]) -> Self {
        Self { arguments, ..self }
    }

    /// The same with daemons that get the lock whoever has it.
    #[must_use]
    pub const fn without_lock(self) -> Self {
        Self { locks: false, ..self }
    }

    const fn terminated(self) -> Self {
        Self { end: End::Terminate, ..self }
    }
}

/// A guest in QEMU that works while daemons come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestSeries {
    /// What it is called.
    pub name: &'static str,
    /// Packed rather than split rings.
    pub packed: bool,
    /// How many of a campaign's hundred kills are its own.
    pub share: u32,
}

/// Killed under a fake front-end that hands the in-flight region back.
pub const KILLED: [Series; 10] = [
    Series::new("split-tmpfs", Shape::split(1, 256), Medium::Tmpfs, 8),
    Series::new("packed-tmpfs", Shape::packed(1, 256), Medium::Tmpfs, 8),
    Series::new("split-cached-4-queues", Shape::split(4, 64).depth(24), Medium::Cached, 7),
    Series::new("packed-cached-4-queues", Shape::packed(4, 100), Medium::Cached, 7),
    Series::new("split-direct-2-queues", Shape::split(2, 1024), Medium::Direct, 7),
    Series::new("packed-direct", Shape::packed(1, 128), Medium::Direct, 7),
    Series::new("split-one-worker", Shape::split(3, 32).no_event_idx(), Medium::Cached, 6)
        .with(&["--workers=1"]),
    Series::new("packed-threads", Shape::packed(2, 64).no_event_idx(), Medium::Cached, 6)
        .with(&["--engine=threads"]),
    Series::new("split-in-order", Shape::split(1, 128).in_order(), Medium::Direct, 4)
        .with(&["--poll-us=0"]),
    Series::new("packed-in-order", Shape::packed(1, 128).in_order(), Medium::Cached, 4)
        .with(&["--cache=writethrough"]),
];

/// Killed while requests are still on their way to the disk.
pub const SLOW: [Series; 2] = [
    Series::new("split-slow", Shape::split(2, 64).depth(32), Medium::Slow, 8),
    Series::new("packed-slow", Shape::packed(1, 128).depth(48), Medium::Slow, 8),
];

/// Asked to end.
pub const TERMINATED: [Series; 3] = [
    Series::new("split-terminated", Shape::split(2, 128), Medium::Cached, 4).terminated(),
    Series::new("packed-terminated", Shape::packed(2, 128), Medium::Direct, 4).terminated(),
    Series::new("split-slow-terminated", Shape::split(1, 64).depth(32), Medium::Slow, 4)
        .terminated(),
];

/// Killed under a guest, whose front-end connects again by itself.
pub const GUESTS: [GuestSeries; 2] = [
    GuestSeries { name: "qemu-split", packed: false, share: 4 },
    GuestSeries { name: "qemu-packed", packed: true, share: 4 },
];

/// How many of `times` kills are a series' own, at least one.
#[must_use]
pub fn kills(share: u32, times: u32) -> u32 {
    (u64::from(share) * u64::from(times)).div_ceil(100).try_into().unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_make_a_hundred() {
        let series = [&KILLED[..], &SLOW, &TERMINATED].concat();
        let shares = series.iter().map(|series| series.share);
        let total: u32 = shares.chain(GUESTS.iter().map(|guest| guest.share)).sum();
        assert_eq!(total, 100);
        assert_eq!(kills(8, 100), 8);
        assert_eq!(kills(4, 10), 1);
    }
}
