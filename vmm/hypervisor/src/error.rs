//! What can go wrong, and what the user can do about it.

use std::io;

use crate::GuestAddress;

/// The result of everything here.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the hypervisor did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `/dev/kvm` is not there.
    #[error(
        "there is no /dev/kvm; switch virtualization on in the firmware and load kvm_intel or \
         kvm_amd, in a virtual machine ask for nested virtualization, in a container pass \
         --device=/dev/kvm"
    )]
    Missing,
    /// `/dev/kvm` is there, but not for this user.
    #[error(
        "/dev/kvm is not open to this user; join its group (usually `sudo adduser $USER kvm`) and \
         log in again"
    )]
    Forbidden,
    /// `/dev/kvm` cannot be opened for another reason.
    #[error("/dev/kvm cannot be opened: {0}")]
    Open(#[source] io::Error),
    /// KVM speaks another version of its interface.
    #[error("KVM's interface has version {0}, not 12; a newer Linux is needed")]
    Version(i32),
    /// KVM lacks an extension.
    #[error("KVM on this machine lacks {0}; a newer Linux, or a real one, is needed")]
    Extension(&'static str),
    /// More vCPUs than KVM has.
    #[error("{asked} vCPUs do not fit: KVM on this machine allows {most}; ask for fewer")]
    TooManyVcpus {
        /// How many there were to be.
        asked: u32,
        /// How many there can be.
        most: u32,
    },
    /// An APIC id that KVM cannot address.
    #[error(
        "a vCPU would get APIC id {id}, but KVM allows ids below {limit}; use a flatter topology"
    )]
    ApicId {
        /// The id.
        id: u32,
        /// The first id that is too large.
        limit: u32,
    },
    /// A topology that does not add up.
    #[error(
        "{threads} threads × {cores} cores × {packages} packages are not {vcpus} vCPUs; make the \
         product equal to the number of vCPUs"
    )]
    Topology {
        /// Threads of a core.
        threads: u32,
        /// Cores of a package.
        cores: u32,
        /// Packages of the machine.
        packages: u32,
        /// vCPUs of the machine.
        vcpus: u32,
    },
    /// A vCPU index the topology does not have, or one that was made before.
    #[error("vCPU {0} is not one of this machine's, or exists already")]
    VcpuIndex(u32),
    /// No interrupt lines are left.
    #[error("{asked} more interrupt vectors do not fit into KVM's {capacity}; use fewer queues")]
    Vectors {
        /// How many were asked for.
        asked: usize,
        /// How many there are in all.
        capacity: usize,
    },
    /// An interrupt line that nobody allocated.
    #[error("interrupt line {0} was not allocated")]
    Gsi(u32),
    /// A memory slot is used twice.
    #[error("memory slot {0} is taken")]
    SlotTaken(u32),
    /// A memory slot is used that nothing was mapped into.
    #[error("memory slot {0} is empty")]
    SlotEmpty(u32),
    /// A doorbell is connected twice.
    #[error("the doorbell at {:#x} is connected already", .0.0)]
    DoorbellTaken(GuestAddress),
    /// A doorbell that is not connected is disconnected.
    #[error("the doorbell at {:#x} is not connected", .0.0)]
    DoorbellMissing(GuestAddress),
    /// KVM has a limit of doorbells.
    #[error("KVM has no room for another doorbell; use fewer queues or devices")]
    Doorbells,
    /// A memory configuration that cannot be.
    #[error("guest memory: {0}")]
    MemoryConfig(String),
    /// Guest memory could not be made.
    #[error("guest memory: {action} failed: {source}{advice}")]
    Memory {
        /// What was being done.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
        /// What the user can do, or nothing.
        advice: &'static str,
    },
    /// A request to KVM failed.
    #[error("KVM: {action} failed: {source}")]
    Kvm {
        /// What was asked of KVM.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl Error {
    /// Turns an error of KVM's into ours, with what was being done.
    pub(crate) fn kvm(action: &'static str) -> impl Fn(kvm_ioctls::Error) -> Self {
        move |error| Error::Kvm { action, source: error.into() }
    }

    /// The same for an error of the system.
    pub(crate) fn system(action: &'static str) -> impl Fn(rustix::io::Errno) -> Self {
        move |error| Error::Kvm { action, source: error.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_what_to_do_next() {
        assert!(Error::Missing.to_string().contains("kvm_amd"));
        assert!(Error::Forbidden.to_string().contains("adduser"));
        assert!(Error::TooManyVcpus { asked: 9, most: 4 }.to_string().contains("fewer"));
        assert_eq!(Error::SlotTaken(3).to_string(), "memory slot 3 is taken");
        assert_eq!(
            Error::DoorbellMissing(GuestAddress(0x1000)).to_string(),
            "the doorbell at 0x1000 is not connected"
        );
    }
}
