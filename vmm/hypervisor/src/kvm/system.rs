//! `/dev/kvm`, and whether it is one that we can use.

use std::io;

use kvm_bindings::{
    KVM_API_VERSION, KVM_CAP_IOEVENTFD_ANY_LENGTH, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2,
};
use kvm_ioctls::Cap;

use super::cpuid;
use crate::{Error, Result};

/// What no machine here can be without, and how to name it to a user.
const NEEDED: [(Cap, &str); 11] = [
    (Cap::UserMemory, "user memory (KVM_CAP_USER_MEMORY)"),
    (Cap::SetTssAddr, "KVM_CAP_SET_TSS_ADDR"),
    (Cap::ExtCpuid, "KVM_CAP_EXT_CPUID"),
    (Cap::MpState, "KVM_CAP_MP_STATE"),
    (Cap::IrqRouting, "interrupt routing (KVM_CAP_IRQ_ROUTING)"),
    (Cap::Irqfd, "irqfd (KVM_CAP_IRQFD)"),
    (Cap::Ioeventfd, "ioeventfd (KVM_CAP_IOEVENTFD)"),
    (Cap::SignalMsi, "KVM_CAP_SIGNAL_MSI"),
    (Cap::SplitIrqchip, "the split irqchip (KVM_CAP_SPLIT_IRQCHIP)"),
    (Cap::X2ApicApi, "KVM_CAP_X2APIC_API"),
    (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
];

/// KVM on this machine.
#[derive(Debug)]
pub struct Kvm {
    pub(super) system: kvm_ioctls::Kvm,
    /// What the host can give a guest's CPUs.
    pub(super) supported: Vec<kvm_cpuid_entry2>,
}

impl Kvm {
    /// Opens `/dev/kvm` and checks that it has all that a machine needs.
    ///
    /// # Errors
    /// When it is missing, forbidden or too old; the error says what to do.
    pub fn open() -> Result<Self> {
        let system = kvm_ioctls::Kvm::new().map_err(|error| open_failed(error.into()))?;
        let version = system.get_api_version();
        if u32::try_from(version) != Ok(KVM_API_VERSION) {
            return Err(Error::Version(version));
        }
        for (extension, name) in NEEDED {
            if !system.check_extension(extension) {
                return Err(Error::Extension(name));
            }
        }
        if system.check_extension_raw(KVM_CAP_IOEVENTFD_ANY_LENGTH.into()) <= 0 {
            return Err(Error::Extension("KVM_CAP_IOEVENTFD_ANY_LENGTH"));
        }
        let supported = system
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(Error::kvm("asking for the CPUID it supports"))?;
        Ok(Kvm { system, supported: supported.as_slice().to_vec() })
    }

    /// How many bits of physical address the guest's CPUs have.
    #[must_use]
    pub fn physical_bits(&self) -> u32 {
        cpuid::physical_bits(&self.supported)
    }
}

fn open_failed(error: io::Error) -> Error {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => Error::Missing,
        Some(libc::EACCES | libc::EPERM) => Error::Forbidden,
        _ => Error::Open(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_opened_has_a_reason() {
        let failed = |errno| open_failed(io::Error::from_raw_os_error(errno));
        assert!(matches!(failed(libc::ENOENT), Error::Missing));
        assert!(matches!(failed(libc::ENODEV), Error::Missing));
        assert!(matches!(failed(libc::EACCES), Error::Forbidden));
        assert!(matches!(failed(libc::EMFILE), Error::Open(_)));
    }
}
