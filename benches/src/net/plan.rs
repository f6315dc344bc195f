//! What is measured: uplinks, paths through the ring, sizes of frames, and who serves.

use clap::ValueEnum;
use serde::Serialize;

/// What is behind the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(super) enum Uplink {
    /// Nothing: what is sent is gone. The ring alone, one way.
    Null,
    /// What is sent comes back, copied. The ring alone, both ways.
    Echo,
    /// An interface of the host, which is sent to.
    Tap,
}

/// One path through a driver's and a device's ring code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Ring {
    pub(super) packed: bool,
    pub(super) mergeable: bool,
    pub(super) in_order: bool,
}

/// What one measurement does, whoever serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Cell {
    pub(super) uplink: Uplink,
    pub(super) ring: Ring,
    /// Bytes of a frame.
    pub(super) size: u16,
}

/// Who serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Side {
    /// outrigger-net.
    Outrigger,
    /// testpmd with a vhost port.
    Dpdk,
    /// No back-end: a loop of `writev`.
    Writev,
}

impl Side {
    /// For people.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Outrigger => "outrigger-net",
            Self::Dpdk => "DPDK vhost",
            Self::Writev => "writev loop",
        }
    }
}

impl Cell {
    /// For people.
    pub(super) fn title(self) -> String {
        let uplink = match self.uplink {
            Uplink::Null => "null",
            Uplink::Echo => "echo",
            Uplink::Tap => "to tap",
        };
        let Ring { packed, mergeable, in_order } = self.ring;
        let ring = if packed { "packed" } else { "split" };
        let mergeable = if mergeable { ", mergeable" } else { "" };
        let in_order = if in_order { ", in order" } else { "" };
        format!("{uplink}, {ring}{mergeable}{in_order}, {} bytes", self.size)
    }

    /// Who is compared: ourselves first.
    pub(super) const fn sides(self) -> [Side; 2] {
        [Side::Outrigger, self.peer()]
    }

    /// Whom we are compared with.
    pub(super) const fn peer(self) -> Side {
        match self.uplink {
            Uplink::Null | Uplink::Echo => Side::Dpdk,
            Uplink::Tap => Side::Writev,
        }
    }

    /// What is wanted of our rate, as a share of the peer's.
    pub(super) const fn wanted(self) -> f64 {
        match self.uplink {
            Uplink::Null | Uplink::Echo => 0.9,
            Uplink::Tap => 0.8,
        }
    }
}

/// All cells of a run: every path through the ring for the smallest frame, one for the others, and
/// one kind of ring of each form for an interface, whose kernel side takes the time.
pub(super) fn cells(uplinks: &[Uplink], sizes: &[u16]) -> Vec<Cell> {
    let smallest = sizes.iter().min().copied();
    let mut cells = Vec::new();
    for &uplink in uplinks {
        for &size in sizes {
            let every = uplink != Uplink::Tap && Some(size) == smallest;
            let rings = rings().filter(|ring| every || (!ring.mergeable && !ring.in_order));
            cells.extend(rings.map(|ring| Cell { uplink, ring, size }));
        }
    }
    cells
}

fn rings() -> impl Iterator<Item = Ring> {
    (0..8).map(|bits| Ring {
        packed: bits & 4 != 0,
        mergeable: bits & 2 != 0,
        in_order: bits & 1 != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_frame_goes_through_every_path() {
        let cells = cells(&[Uplink::Null, Uplink::Tap], &[1518, 64]);
        let count = |uplink, size| {
            cells.iter().filter(|cell| cell.uplink == uplink && cell.size == size).count()
        };
        assert_eq!(count(Uplink::Null, 64), 8);
        assert_eq!(count(Uplink::Null, 1518), 2);
        assert_eq!(count(Uplink::Tap, 64), 2);
    }
}
