//! The leaves of CPUID that tell a CPU its place among the others.

use super::cpuid::{Leaves, VERSION};
use crate::Topology;

/// Intel SDM 2A, CPUID.
const CACHES: u32 = 4;
const TOPOLOGY: u32 = 0xb;
const TOPOLOGY_V2: u32 = 0x1f;
/// AMD APM 3, appendix E.4.
const AMD_FEATURES: u32 = 0x8000_0001;
const AMD_SIZES: u32 = 0x8000_0008;
const AMD_CACHES: u32 = 0x8000_001d;
const AMD_TOPOLOGY: u32 = 0x8000_001e;
const AMD_TOPOLOGY_V2: u32 = 0x8000_0026;

/// VERSION, EDX: the count of logical CPUs is valid.
const HTT: u32 = 1 << 28;
/// AMD_FEATURES, ECX: those CPUs are cores, not threads.
const CMP_LEGACY: u32 = 1 << 1;
const TOPOLOGY_EXTENSIONS: u32 = 1 << 22;

/// Level types of TOPOLOGY.
const THREAD_LEVEL: u32 = 1;
const CORE_LEVEL: u32 = 2;

/// Tells a vCPU its place.
pub(super) fn set(leaves: &mut Leaves, topology: &Topology, index: u32) {
    set_version(leaves, topology, index);
    set_levels(leaves, topology, index);
    set_caches(leaves, topology);
    set_amd(leaves, topology, index);
}

fn logical_cpus(topology: &Topology) -> u32 {
    topology.threads() * topology.cores()
}

fn set_version(leaves: &mut Leaves, topology: &Topology, index: u32) {
    // Both are 8 bits wide here; larger ids are in TOPOLOGY.
    let id = topology.apic_id(index) & 0xff;
    let count = (1_u32 << topology.package_bits()).min(0xff);
    leaves.change(VERSION, |leaf| {
        leaf.ebx = leaf.ebx & 0xffff | count << 16 | id << 24;
        leaf.edx = if count > 1 { leaf.edx | HTT } else { leaf.edx & !HTT };
    });
}

/// The x2APIC id, and which of its bits are thread, core and package.
fn set_levels(leaves: &mut Leaves, topology: &Topology, index: u32) {
    let id = topology.apic_id(index);
    let threads = [topology.thread_bits(), topology.threads(), THREAD_LEVEL << 8, id];
    let cores = [topology.package_bits(), logical_cpus(topology), 1 | CORE_LEVEL << 8, id];
    let end = [0, 0, 2, id];
    let max = leaves.max_basic();
    leaves.change(0, |leaf| leaf.eax = max.max(TOPOLOGY));
    for function in [TOPOLOGY, TOPOLOGY_V2] {
        leaves.remove(function);
        if function == TOPOLOGY || max >= function {
            for (subleaf, registers) in (0..).zip([threads, cores, end]) {
                leaves.push_subleaf(function, subleaf, registers);
            }
        }
    }
}

/// First- and second-level caches belong to a core, the others to a package.
fn set_caches(leaves: &mut Leaves, topology: &Topology) {
    let sharers = |level: u32| if level <= 2 { topology.threads() } else { logical_cpus(topology) };
    leaves.change(CACHES, |leaf| {
        if leaf.eax & 0x1f != 0 {
            let shared = (sharers(leaf.eax >> 5 & 7).next_power_of_two() - 1).min(0xfff);
            let cores = (topology.cores().next_power_of_two() - 1).min(0x3f);
            leaf.eax = leaf.eax & 0x3fff | shared << 14 | cores << 26;
        }
    });
    leaves.change(AMD_CACHES, |leaf| {
        if leaf.eax & 0x1f != 0 {
            let shared = (sharers(leaf.eax >> 5 & 7) - 1).min(0xfff);
            leaf.eax = leaf.eax & 0x3fff | shared << 14;
        }
    });
}

fn set_amd(leaves: &mut Leaves, topology: &Topology, index: u32) {
    // The host's levels; the guest falls back to TOPOLOGY.
    leaves.remove(AMD_TOPOLOGY_V2);
    let count = logical_cpus(topology);
    leaves.change(AMD_SIZES, |leaf| {
        leaf.ecx = leaf.ecx & !0xf0ff | (count - 1).min(0xff) | topology.package_bits() << 12;
    });
    let mut has_extensions = false;
    leaves.change(AMD_FEATURES, |leaf| {
        has_extensions = leaf.ecx & TOPOLOGY_EXTENSIONS != 0;
        leaf.ecx = if has_extensions && count > 1 {
            leaf.ecx | CMP_LEGACY
        } else {
            leaf.ecx & !CMP_LEGACY
        };
    });
    if has_extensions {
        let core = topology.core(index) & 0xff;
        let threads = (topology.threads() - 1) & 0xff;
        let package = topology.package(index) & 0xff;
        let registers = [topology.apic_id(index), core | threads << 8, package, 0];
        leaves.put(AMD_TOPOLOGY, 0, registers);
    }
}

#[cfg(test)]
mod tests {
    use kvm_bindings::kvm_cpuid_entry2;
    use proptest::prelude::*;

    use super::*;

    fn host() -> Leaves {
        let mut leaves = Leaves(Vec::new());
        leaves.put(0, 0, [0x1f, 0, 0, 0]);
        leaves.put(VERSION, 0, [0, 0xaabb_0800, 0, 0]);
        for (subleaf, level) in [(0, 1), (1, 2), (2, 3)] {
            leaves.push_subleaf(CACHES, subleaf, [1 | level << 5 | 0x7_c000, 0, 0, 0]);
            leaves.push_subleaf(AMD_CACHES, subleaf, [1 | level << 5, 0, 0, 0]);
        }
        leaves.push_subleaf(TOPOLOGY, 7, [9, 9, 9, 9]);
        leaves.put(AMD_FEATURES, 0, [0, 0, TOPOLOGY_EXTENSIONS, 0]);
        leaves.put(AMD_SIZES, 0, [48, 0, 0xffff, 0]);
        leaves.put(AMD_TOPOLOGY_V2, 0, [1, 1, 1, 1]);
        leaves
    }

    fn made(topology: Topology, index: u32) -> Leaves {
        let mut leaves = host();
        set(&mut leaves, &topology, index);
        leaves
    }

    fn leaf(leaves: &Leaves, function: u32, index: u32) -> kvm_cpuid_entry2 {
        *leaves.find(function, index).unwrap()
    }

    #[test]
    fn two_packages_of_three_cores_of_two_threads() {
        let leaves = made(Topology::new(12, 2, 3, 2).unwrap(), 9);
        let version = leaf(&leaves, VERSION, 0);
        assert_eq!((version.ebx, version.edx & HTT), (0x0b08_0800, HTT));
        let (threads, cores) = (leaf(&leaves, TOPOLOGY, 0), leaf(&leaves, TOPOLOGY_V2, 1));
        assert_eq!((threads.eax, threads.ebx, threads.ecx, threads.edx), (1, 2, 0x100, 11));
        assert_eq!((cores.eax, cores.ebx, cores.ecx, cores.edx), (3, 6, 0x201, 11));
        assert!(leaves.find(TOPOLOGY, 7).is_none());
        let amd = leaf(&leaves, AMD_TOPOLOGY, 0);
        assert_eq!((amd.eax, amd.ebx, amd.ecx), (11, 0x101, 1));
        assert_eq!(leaf(&leaves, AMD_SIZES, 0).ecx, 0x3f05);
        assert!(leaves.find(AMD_TOPOLOGY_V2, 0).is_none());
    }

    #[test]
    fn caches_are_shared_by_a_core_or_a_package() {
        let leaves = made(Topology::new(8, 2, 4, 1).unwrap(), 0);
        let sharers = |function, subleaf| (leaf(&leaves, function, subleaf).eax >> 14 & 0xfff) + 1;
        assert_eq!([0, 1, 2].map(|subleaf| sharers(CACHES, subleaf)), [2, 2, 8]);
        assert_eq!([0, 1, 2].map(|subleaf| sharers(AMD_CACHES, subleaf)), [2, 2, 8]);
    }

    #[test]
    fn a_lone_cpu_has_no_neighbours() {
        let leaves = made(Topology::flat(1), 0);
        let version = leaf(&leaves, VERSION, 0);
        assert_eq!((version.ebx, version.edx & HTT), (0x0001_0800, 0));
        assert_eq!(leaf(&leaves, AMD_FEATURES, 0).ecx & CMP_LEGACY, 0);
    }

    proptest! {
        /// The APIC id, cut where the leaves say, gives thread, core and package back.
        #[test]
        fn the_levels_take_the_id_apart(t in 1_u32..5, c in 1_u32..99, p in 1_u32..9, n: u32) {
            let topology = Topology::new(t * c * p, t, c, p).unwrap();
            let index = n % topology.vcpus();
            let leaves = made(topology, index);
            let (threads, cores) = (leaf(&leaves, TOPOLOGY, 0), leaf(&leaves, TOPOLOGY, 1));
            let id = threads.edx;
            prop_assert_eq!(id & ((1 << threads.eax) - 1), index % t);
            prop_assert_eq!((id & ((1 << cores.eax) - 1)) >> threads.eax, topology.core(index));
            prop_assert_eq!(id >> cores.eax, topology.package(index));
        }
    }
}
