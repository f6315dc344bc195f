//! What a guest's CPU says about itself.
//!
//! KVM lists what it can give; this list, completed by what only the VMM knows (topology, timers),
//! is what the guest gets. So every feature that the host has, and every service of KVM's for
//! guests, reaches the guest without being named here.

use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

use super::topology_leaves;
use crate::{Error, Result, Topology};

/// Leaves of the CPU's (Intel SDM 2A, CPUID; AMD APM 3, appendix E).
pub(super) const VERSION: u32 = 1;
const EXTENDED_FEATURES: u32 = 7;
const XSAVE: u32 = 0xd;
const TIMING: u32 = 0x15;
const ADDRESS_SIZES: u32 = 0x8000_0008;
/// Leaves of KVM's for its guests (Linux, Documentation/virt/kvm/x86/cpuid.rst).
const KVM_SIGNATURE: u32 = 0x4000_0000;
const KVM_FEATURES: u32 = 0x4000_0001;
/// A convention of several hypervisors: TSC and bus frequency.
const HYPERVISOR_TIMING: u32 = 0x4000_0010;

/// VERSION, ECX.
const TSC_DEADLINE: u32 = 1 << 24;
const X2APIC: u32 = 1 << 21;
const HYPERVISOR: u32 = 1 << 31;
/// EXTENDED_FEATURES, EDX: AMX-BF16, AMX-TILE, AMX-INT8.
const AMX: u32 = 1 << 22 | 1 << 24 | 1 << 25;
/// XSAVE, EAX: state of AMX tiles.
const TILE_STATE: u32 = 3 << 17;

/// KVM_FEATURES, EAX: MSIs may carry 15 bits of APIC id. The VMM's to offer, since it translates.
const EXTENDED_DESTINATION: u32 = 1 << 15;
/// KVM_FEATURES, EDX: vCPUs are never preempted for long.
const REALTIME_HINT: u32 = 1;

/// Frequency of KVM's local APIC timer, kHz.
const APIC_TIMER_KHZ: u32 = 1_000_000;

/// What the VMM knows and KVM's list does not say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Features {
    /// KVM's local APIC has a TSC deadline timer.
    pub(super) tsc_deadline: bool,
    /// Each vCPU has a host CPU to itself.
    pub(super) dedicated: bool,
    /// Frequency of the vCPU's time stamp counter, if KVM knows it.
    pub(super) tsc_khz: Option<u32>,
}

/// A vCPU's leaves.
pub(super) fn of_vcpu(
    supported: &[kvm_cpuid_entry2],
    topology: &Topology,
    index: u32,
    features: &Features,
) -> Result<CpuId> {
    let leaves = leaves(supported, topology, index, features);
    CpuId::from_entries(&leaves.0).map_err(|_| Error::Kvm {
        action: "composing a vCPU's CPUID",
        source: std::io::ErrorKind::InvalidData.into(),
    })
}

fn leaves(
    supported: &[kvm_cpuid_entry2],
    topology: &Topology,
    index: u32,
    features: &Features,
) -> Leaves {
    let mut leaves = Leaves(supported.to_vec());
    set_features(&mut leaves, features);
    hide_unusable(&mut leaves);
    set_paravirtual(&mut leaves, features);
    set_timing(&mut leaves, features);
    topology_leaves::set(&mut leaves, topology, index);
    leaves
}

fn set_features(leaves: &mut Leaves, features: &Features) {
    leaves.change(VERSION, |leaf| {
        leaf.ecx |= HYPERVISOR | X2APIC;
        if features.tsc_deadline {
            leaf.ecx |= TSC_DEADLINE;
        }
    });
}

/// KVM lists AMX even where its state cannot be saved, unless the process asked for that.
fn hide_unusable(leaves: &mut Leaves) {
    let states = leaves.find(XSAVE, 0).map_or(0, |leaf| leaf.eax);
    if states & TILE_STATE != TILE_STATE {
        leaves.change(EXTENDED_FEATURES, |leaf| {
            if leaf.index == 0 {
                leaf.edx &= !AMX;
            }
        });
    }
}

fn set_paravirtual(leaves: &mut Leaves, features: &Features) {
    leaves.change(KVM_SIGNATURE, |leaf| leaf.eax = leaf.eax.max(HYPERVISOR_TIMING));
    leaves.change(KVM_FEATURES, |leaf| {
        leaf.eax |= EXTENDED_DESTINATION;
        if features.dedicated {
            leaf.edx |= REALTIME_HINT;
        }
    });
}

/// Frequencies, so that the guest need not measure them: a crystal of the APIC timer's frequency,
/// and the TSC as a fraction of it, in kHz over kHz.
fn set_timing(leaves: &mut Leaves, features: &Features) {
    let Some(tsc_khz) = features.tsc_khz.filter(|&khz| khz != 0) else { return };
    leaves.put(HYPERVISOR_TIMING, 0, [tsc_khz, APIC_TIMER_KHZ, 0, 0]);
    if leaves.max_basic() >= TIMING {
        leaves.put(TIMING, 0, [APIC_TIMER_KHZ, tsc_khz, APIC_TIMER_KHZ * 1000, 0]);
    }
}

/// How many bits of physical address the CPU has.
pub(super) fn physical_bits(supported: &[kvm_cpuid_entry2]) -> u32 {
    let sizes = supported.iter().find(|leaf| leaf.function == ADDRESS_SIZES);
    // 36 is what CPUs without this leaf have.
    sizes.map_or(36, |leaf| leaf.eax & 0xff)
}

/// A list of leaves, as KVM takes them.
#[derive(Clone, Debug)]
pub(super) struct Leaves(pub(super) Vec<kvm_cpuid_entry2>);

impl Leaves {
    pub(super) fn find(&self, function: u32, index: u32) -> Option<&kvm_cpuid_entry2> {
        self.0.iter().find(|leaf| leaf.function == function && leaf.index == index)
    }

    /// Changes all subleaves of a leaf, if there are any.
    pub(super) fn change(&mut self, function: u32, change: impl FnMut(&mut kvm_cpuid_entry2)) {
        self.0.iter_mut().filter(|leaf| leaf.function == function).for_each(change);
    }

    /// Removes all subleaves of a leaf.
    pub(super) fn remove(&mut self, function: u32) {
        self.0.retain(|leaf| leaf.function != function);
    }

    /// Sets a leaf that has no subleaves.
    pub(super) fn put(&mut self, function: u32, flags: u32, registers: [u32; 4]) {
        self.remove(function);
        self.push(function, 0, flags, registers);
    }

    /// Adds a subleaf.
    pub(super) fn push_subleaf(&mut self, function: u32, index: u32, registers: [u32; 4]) {
        self.push(function, index, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, registers);
    }

    fn push(&mut self, function: u32, index: u32, flags: u32, registers: [u32; 4]) {
        let [eax, ebx, ecx, edx] = registers;
        let leaf =
            kvm_cpuid_entry2 { function, index, flags, eax, ebx, ecx, edx, ..Default::default() };
        self.0.push(leaf);
    }

    /// The highest basic leaf.
    pub(super) fn max_basic(&self) -> u32 {
        self.find(0, 0).map_or(0, |leaf| leaf.eax)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(function: u32, registers: [u32; 4]) -> kvm_cpuid_entry2 {
        let [eax, ebx, ecx, edx] = registers;
        kvm_cpuid_entry2 { function, eax, ebx, ecx, edx, ..Default::default() }
    }

    fn supported() -> Vec<kvm_cpuid_entry2> {
        vec![
            leaf(0, [0x1f, 0, 0, 0]),
            leaf(1, [0, 0, 0, 0]),
            leaf(7, [0, 0, 0, u32::MAX]),
            leaf(XSAVE, [7, 0, 0, 0]),
            leaf(KVM_SIGNATURE, [KVM_FEATURES, 0, 0, 0]),
            leaf(KVM_FEATURES, [1 << 5, 0, 0, 0]),
            leaf(ADDRESS_SIZES, [48 | 57 << 8, 0, 0, 0]),
        ]
    }

    fn made(features: &Features) -> Leaves {
        leaves(&supported(), &Topology::flat(2), 1, features)
    }

    #[test]
    fn the_guest_knows_that_it_is_one() {
        let leaves = made(&Features { tsc_deadline: true, ..Default::default() });
        let version = leaves.find(VERSION, 0).unwrap();
        assert_eq!(version.ecx & TSC_DEADLINE, TSC_DEADLINE);
        assert_eq!(version.ecx & HYPERVISOR, HYPERVISOR);
        let kvm = leaves.find(KVM_FEATURES, 0).unwrap();
        assert_eq!((kvm.eax, kvm.edx), (1 << 5 | EXTENDED_DESTINATION, 0));
    }

    #[test]
    fn amx_is_hidden_where_its_state_is_not_saved() {
        let leaves = made(&Features::default());
        assert_eq!(leaves.find(EXTENDED_FEATURES, 0).unwrap().edx, !AMX);
    }

    #[test]
    fn a_dedicated_machine_says_so() {
        let leaves = made(&Features { dedicated: true, ..Default::default() });
        assert_eq!(leaves.find(KVM_FEATURES, 0).unwrap().edx, REALTIME_HINT);
    }

    #[test]
    fn the_frequency_of_the_tsc_follows_from_that_of_the_crystal() {
        let leaves = made(&Features { tsc_khz: Some(2_400_123), ..Default::default() });
        let timing = leaves.find(TIMING, 0).unwrap();
        let hz = u64::from(timing.ecx) * u64::from(timing.ebx) / u64::from(timing.eax);
        assert_eq!(hz, 2_400_123_000);
        assert_eq!(leaves.find(HYPERVISOR_TIMING, 0).unwrap().eax, 2_400_123);
        assert!(made(&Features::default()).find(TIMING, 0).is_none());
    }

    #[test]
    fn the_width_of_addresses_is_the_hosts() {
        assert_eq!(physical_bits(&supported()), 48);
        assert_eq!(physical_bits(&[]), 36);
    }
}
