//! What is measured: ways of a packet, paths through the ring, sizes of frames, streams of guests,
//! and who serves.

use std::fmt;

use clap::ValueEnum;
use e2e::{RingPath, Stream};
use serde::Serialize;

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Part {
    /// The ring alone, one way and both ways.
    Ring,
    /// To an interface of the host, and from it.
    Tap,
    /// From guest to guest.
    Switch,
    /// User Mode Linux and its host.
    Uml,
    /// QEMU's guest on emulated CPUs and its host.
    Qemu,
    /// A guest of Outrigger's, nested where this machine's KVM does not run kernels, and its host.
    Nested,
    /// Instructions per packet.
    Instructions,
}

/// What a packet does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Way {
    /// It is sent and gone: the ring alone, one way.
    Null,
    /// It comes back, copied: the ring alone, both ways.
    Echo,
    /// To an interface of the host.
    ToTap,
    /// From an interface of the host.
    FromTap,
    /// To another guest, which sends as well.
    Switch,
}

/// Packets of a driver that polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Cell {
    pub(super) way: Way,
    pub(super) ring: RingPath,
    /// Bytes of a frame, without checksum.
    pub(super) size: u16,
}

/// A real guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Guest {
    /// User Mode Linux.
    Uml,
    /// QEMU on emulated CPUs.
    Qemu,
    /// Outrigger on KVM, or QEMU on the same.
    Nested,
}

/// What one measurement does, whoever serves it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Row {
    /// Packets a second.
    Packets(Cell),
    /// Bits a second between a guest and its host.
    Stream {
        guest: Guest,
        #[serde(flatten)]
        stream: Stream,
    },
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
    /// No back-end: a loop of `readv`.
    Readv,
    /// Two of outrigger-net, each with an interface, and a bridge of the kernel between these.
    Bridge,
    /// passt over vhost-user.
    Passt,
    /// The vector driver of User Mode Linux on an interface.
    Vector,
    /// QEMU's `-netdev tap`.
    QemuTap,
}

/// Who is measured doing what.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Place {
    #[serde(flatten)]
    pub(super) row: Row,
    pub(super) side: Side,
}

impl Side {
    /// For people.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Outrigger => "outrigger-net",
            Self::Dpdk => "DPDK vhost",
            Self::Writev => "writev loop",
            Self::Readv => "readv loop",
            Self::Bridge => "two taps, kernel bridge",
            Self::Passt => "passt",
            Self::Vector => "UML vector tap",
            Self::QemuTap => "QEMU -netdev tap",
        }
    }
}

impl Guest {
    /// Who serves it: ourselves first.
    pub(super) const fn sides(self) -> &'static [Side] {
        match self {
            Self::Uml => &[Side::Outrigger, Side::Passt, Side::Vector],
            Self::Qemu | Self::Nested => &[Side::Outrigger, Side::QemuTap],
        }
    }
}

impl Cell {
    /// Whom we are compared with.
    const fn peer(self) -> Side {
        match self.way {
            Way::Null | Way::Echo => Side::Dpdk,
            Way::ToTap => Side::Writev,
            Way::FromTap => Side::Readv,
            Way::Switch => Side::Bridge,
        }
    }

    /// Who is compared: ourselves first.
    pub(super) const fn sides(self) -> [Side; 2] {
        [Side::Outrigger, self.peer()]
    }
}

impl Row {
    /// Whom we are compared with.
    pub(super) fn peers(self) -> Vec<Side> {
        match self {
            Self::Packets(cell) => vec![cell.peer()],
            Self::Stream { guest, .. } => guest.sides().iter().skip(1).copied().collect(),
        }
    }

    /// What is wanted of our rate, as a multiple of the peer's.
    pub(super) const fn wanted(self) -> f64 {
        match self {
            Self::Packets(cell) => match cell.way {
                Way::Null | Way::Echo => 0.9,
                Way::ToTap | Way::FromTap => 0.8,
                Way::Switch => 1.5,
            },
            Self::Stream { .. } => 1.0,
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packets(Cell { way, ring, size }) => {
                let way = match way {
                    Way::Null => "null",
                    Way::Echo => "echo",
                    Way::ToTap => "to tap",
                    Way::FromTap => "from tap",
                    Way::Switch => "guest to guest",
                };
                write!(f, "{way}, {ring}, {size} bytes")
            }
            Self::Stream { guest, stream } => {
                let guest = match guest {
                    Guest::Uml => "UML",
                    Guest::Qemu => "QEMU",
                    Guest::Nested => "nested",
                };
                write!(f, "{guest}, {}", stream.title())
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.row, self.side.title())
    }
}

/// The cells of a part. Each form of ring, mergeable or not, for the smallest frame and the ring
/// alone; one kind of each form for others, and for an interface and a switch, whose other sides take
/// the time.
pub(super) fn cells(part: Part, sizes: &[u16]) -> Vec<Cell> {
    let ways: &[Way] = match part {
        Part::Ring => &[Way::Null, Way::Echo],
        Part::Tap => &[Way::ToTap, Way::FromTap],
        Part::Switch => &[Way::Switch],
        Part::Uml | Part::Qemu | Part::Nested | Part::Instructions => &[],
    };
    let smallest = sizes.iter().min().copied();
    let mut cells = Vec::new();
    for &way in ways {
        let alone = part == Part::Ring;
        for &size in sizes.iter().filter(|size| alone || **size != 256) {
            let every = alone && Some(size) == smallest;
            let rings = RingPath::all().filter(|ring| !ring.in_order && (every || !ring.mergeable));
            cells.extend(rings.map(|ring| Cell { way, ring, size }));
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_frame_is_measured_on_every_path() {
        let sizes = [64, 256, 1518];
        assert_eq!(cells(Part::Ring, &sizes).len(), 2 * (4 + 2 + 2));
        assert_eq!(cells(Part::Tap, &sizes).len(), 2 * 2 * 2);
        assert_eq!(cells(Part::Switch, &sizes).len(), 2 * 2);
        assert_eq!(cells(Part::Uml, &sizes).len(), 0);
    }

    #[test]
    fn a_place_is_told_apart_in_the_data() {
        let ring = RingPath { packed: true, mergeable: false, in_order: false };
        let row = Row::Packets(Cell { way: Way::ToTap, ring, size: 64 });
        let json = serde_json::to_value(Place { row, side: Side::Writev }).unwrap();
        assert_eq!(json["kind"], "packets");
        assert_eq!((&json["way"], &json["side"]), (&"to_tap".into(), &"writev".into()));
        let row = Row::Stream { guest: Guest::Uml, stream: Stream::ALL[1] };
        let json = serde_json::to_value(Place { row, side: Side::Passt }).unwrap();
        assert_eq!((&json["guest"], &json["to_guest"]), (&"uml".into(), &true.into()));
    }
}
