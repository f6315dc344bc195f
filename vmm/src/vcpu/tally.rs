//! How often a vCPU leaves the guest, and why.

use std::sync::atomic::{AtomicU64, Ordering};

use hypervisor::Exit;
use serde::Serialize;

/// Counters of one vCPU, written by its thread only; alone in their cache lines, so that vCPUs do not disturb
/// one another.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Tally {
    ports: AtomicU64,
    mmio: AtomicU64,
    interrupts: AtomicU64,
    others: AtomicU64,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Accesses to ports.
    pub port_exits: u64,
    /// Accesses to registers in memory; kicks are not among them.
    pub mmio_exits: u64,
    /// Ends of level-triggered interrupts.
    pub eoi_exits: u64,
    /// Everything else, such as interruptions by the VMM itself.
    pub other_exits: u64,
}

impl Tally {
    /// Counts an exit.
    pub fn count(&self, exit: &Exit<'_>) {
        let counter = match exit {
            Exit::PortRead { .. } | Exit::PortWrite { .. } => &self.ports,
            Exit::MmioRead { .. } | Exit::MmioWrite { .. } => &self.mmio,
            Exit::Eoi { .. } => &self.interrupts,
            _ => &self.others,
        };
        // One writer: no read-modify-write is needed.
        counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            port_exits: self.ports.load(Ordering::Relaxed),
            mmio_exits: self.mmio.load(Ordering::Relaxed),
            eoi_exits: self.interrupts.load(Ordering::Relaxed),
            other_exits: self.others.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_counted_apart() {
        let tally = Tally::default();
        tally.count(&Exit::PortWrite { port: 0x3f8, width: 1, data: &[0] });
        tally.count(&Exit::Eoi { vector: 32 });
        tally.count(&Exit::Eoi { vector: 32 });
        tally.count(&Exit::Interrupted);
        let counts = Counts { port_exits: 1, mmio_exits: 0, eoi_exits: 2, other_exits: 1 };
        assert_eq!(tally.counts(), counts);
    }
}
