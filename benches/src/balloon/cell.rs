//! What is measured, and what comes of it.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// Bytes in a gibibyte.
const GIB: f64 = (1_u64 << 30) as f64;

/// One thing that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Cell {
    /// What is in front of it.
    pub(super) front: Front,
    /// Who gives memory back.
    pub(super) who: Who,
    /// Which way it goes.
    pub(super) what: What,
    /// How it is cut.
    pub(super) pages: Pages,
}

/// What is in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Front {
    /// A fake driver, on the rings.
    Rings,
    /// A guest in QEMU.
    Guest,
}

/// Who gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Who {
    /// `outrigger-balloon`.
    Outrigger,
    /// QEMU's own balloon.
    Qemu,
    /// A loop around a system call: the limit.
    Fallocate,
}

/// Which way memory goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum What {
    /// Into the balloon.
    Inflate,
    /// Out of it.
    Deflate,
    /// Reported free.
    Report,
}

/// How it is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Pages {
    /// Pages of 4 KiB without neighbours.
    Small,
    /// Whole ranges of 2 MiB.
    Large,
    /// As the guest's kernel has them.
    Guests,
}

/// What came of one measurement.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Sample {
    /// GiB a second.
    pub(super) gib_s: f64,
    /// Seconds of a host's CPU for each GiB, in the process that gives back.
    pub(super) cpu_s_per_gib: f64,
    /// Seconds from free in the guest to nine tenths of it back on the host.
    pub(super) back_s: Option<f64>,
}

impl Sample {
    /// So many bytes in this time, for so much CPU.
    pub(super) fn of(bytes: u64, took: Duration, cpu: Duration) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "amounts of memory are far below 2^52")]
        let gib = bytes as f64 / GIB;
        let (gib_s, cpu_s_per_gib) = (gib / took.as_secs_f64(), cpu.as_secs_f64() / gib);
        Self { gib_s, cpu_s_per_gib, back_s: None }
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} GiB/s, {:.3} s of CPU for a GiB", self.gib_s, self.cpu_s_per_gib)?;
        self.back_s.map_or(Ok(()), |seconds| write!(f, ", back after {seconds:.2} s"))
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}, {}: {}", self.front, self.what, self.pages, self.who)
    }
}

impl fmt::Display for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rings => "rings",
            Self::Guest => "guest in QEMU",
        })
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Outrigger => "outrigger-balloon",
            Self::Qemu => "QEMU's own balloon",
            Self::Fallocate => "fallocate in a loop",
        })
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inflate => "inflate",
            Self::Deflate => "deflate",
            Self::Report => "report",
        })
    }
}

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Small => "4 KiB",
            Self::Large => "2 MiB",
            Self::Guests => "the guest's pages",
        })
    }
}
