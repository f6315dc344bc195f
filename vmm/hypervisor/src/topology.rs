//! Threads, cores and packages, and the APIC ids that follow from them.

use crate::{Error, Result};

/// How the vCPUs are arranged. vCPU numbers run through the threads of a core first, then through
/// the cores of a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topology {
    threads: u32,
    cores: u32,
    packages: u32,
}

impl Topology {
    /// One package of single-threaded cores.
    #[must_use]
    pub fn flat(vcpus: u32) -> Self {
        Topology { threads: 1, cores: vcpus.max(1), packages: 1 }
    }

    /// A topology for `vcpus` vCPUs.
    ///
    /// # Errors
    /// When the product of the counts is not the number of vCPUs.
    pub fn new(vcpus: u32, threads: u32, cores: u32, packages: u32) -> Result<Self> {
        let product = threads.checked_mul(cores).and_then(|n| n.checked_mul(packages));
        if vcpus == 0 || product != Some(vcpus) {
            return Err(Error::Topology { threads, cores, packages, vcpus });
        }
        Ok(Topology { threads, cores, packages })
    }

    /// How many vCPUs there are.
    #[must_use]
    pub fn vcpus(&self) -> u32 {
        self.threads * self.cores * self.packages
    }

    /// Threads of each core.
    #[must_use]
    pub fn threads(&self) -> u32 {
        self.threads
    }

    /// Cores of each package.
    #[must_use]
    pub fn cores(&self) -> u32 {
        self.cores
    }

    /// Packages of the machine.
    #[must_use]
    pub fn packages(&self) -> u32 {
        self.packages
    }

    /// Bits of an APIC id that tell a core's threads apart.
    pub(crate) fn thread_bits(&self) -> u32 {
        bits_for(self.threads)
    }

    /// Bits of an APIC id that tell a package's threads apart.
    pub(crate) fn package_bits(&self) -> u32 {
        bits_for(self.threads) + bits_for(self.cores)
    }

    /// Package of a vCPU.
    #[must_use]
    pub fn package(&self, index: u32) -> u32 {
        index / (self.threads * self.cores)
    }

    /// Core of a vCPU, within its package.
    #[must_use]
    pub fn core(&self, index: u32) -> u32 {
        index / self.threads % self.cores
    }

    /// (x2)APIC id of a vCPU: package, core and thread, each in as many bits as it needs. So ids
    /// have gaps if a count is not a power of two.
    #[must_use]
    pub fn apic_id(&self, index: u32) -> u32 {
        let thread = index % self.threads;
        let place = |id: u32, bits: u32| id.checked_shl(bits).unwrap_or(0);
        place(self.package(index), self.package_bits())
            | place(self.core(index), self.thread_bits())
            | thread
    }

    /// The APIC ids of all vCPUs, in their order.
    pub fn apic_ids(&self) -> impl Iterator<Item = u32> + use<> {
        let topology = *self;
        (0..topology.vcpus()).map(move |index| topology.apic_id(index))
    }
}

/// Bits that count from 0 to `n` - 1.
fn bits_for(n: u32) -> u32 {
    u32::BITS - n.saturating_sub(1).leading_zeros()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_flat_topology_counts() {
        let ids: Vec<u32> = Topology::flat(254).apic_ids().collect();
        assert_eq!(ids, (0..254).collect::<Vec<u32>>());
    }

    #[test]
    fn counts_that_are_no_powers_of_two_leave_gaps() {
        let topology = Topology::new(12, 2, 3, 2).unwrap();
        let ids: Vec<u32> = topology.apic_ids().collect();
        assert_eq!(ids, [0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13]);
    }

    #[test]
    fn any_count_is_computed_with() {
        assert_eq!(Topology::flat(u32::MAX).apic_id(u32::MAX - 1), u32::MAX - 1);
        let wide = Topology::new(u32::MAX - 1, 2, u32::MAX / 2, 1).unwrap();
        assert_eq!(wide.apic_id(3), 3);
    }

    #[test]
    fn counts_that_do_not_add_up_are_refused() {
        assert!(Topology::new(5, 2, 2, 1).is_err());
        assert!(Topology::new(0, 0, 1, 1).is_err());
        assert!(Topology::new(0, u32::MAX, u32::MAX, 2).is_err());
    }

    proptest! {
        #[test]
        fn apic_ids_are_unique_and_ascending(t in 1_u32..5, c in 1_u32..20, p in 1_u32..9) {
            let topology = Topology::new(t * c * p, t, c, p).unwrap();
            let ids: Vec<u32> = topology.apic_ids().collect();
            prop_assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }
}
