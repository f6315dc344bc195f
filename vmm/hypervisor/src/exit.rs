//! Why a vCPU stopped running.

use std::fmt;

use crate::{GuestAddress, Registers};

/// Why a vCPU stopped running the guest. All but the last three go on with the next run.
#[derive(Debug)]
#[must_use]
pub enum Exit<'a> {
    /// The guest reads a port: `data` is to be filled in. It holds one or more accesses (string
    /// instructions) of `width` bytes each, all to the same port.
    PortRead {
        /// The port.
        port: u16,
        /// Size of one access in bytes: 1, 2 or 4.
        width: usize,
        /// A multiple of `width` bytes.
        data: &'a mut [u8],
    },
    /// The guest writes a port; see [`Exit::PortRead`].
    PortWrite {
        /// The port.
        port: u16,
        /// Size of one access in bytes: 1, 2 or 4.
        width: usize,
        /// A multiple of `width` bytes.
        data: &'a [u8],
    },
    /// The guest reads where there is no memory: `data`, of 1 to 8 bytes, is to be filled in.
    MmioRead {
        /// Where.
        at: GuestAddress,
        /// What it reads.
        data: &'a mut [u8],
    },
    /// The guest writes 1 to 8 bytes where there is no memory, or none to write.
    MmioWrite {
        /// Where.
        at: GuestAddress,
        /// What it writes.
        data: &'a [u8],
    },
    /// The guest ended a level-triggered interrupt of the IOAPIC's.
    Eoi {
        /// The interrupt's vector.
        vector: u8,
    },
    /// Interrupted through the vCPU's handle, or by a signal.
    Interrupted,
    /// The guest halted, on a machine without interrupt controller.
    Halt,
    /// Triple fault: the guest cannot go on, and on a real machine would be reset.
    TripleFault,
    /// The guest told the hypervisor that it has crashed, or is to be reset or switched off.
    SystemEvent {
        /// As in `struct kvm_run`: 1 shutdown, 2 reset, 3 crash.
        kind: u32,
    },
    /// The hypervisor cannot run the guest any further.
    Failed(Box<Failure>),
}

/// Why the hypervisor gave a guest up, with what is needed to find the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What happened.
    pub cause: Cause,
    /// The registers at that moment, if they could be read.
    pub registers: Option<Registers>,
    /// The bytes at the instruction pointer, if they could be read; at most 15.
    pub instruction: Vec<u8>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// KVM met something it cannot emulate, or failed itself.
    Internal {
        /// 1: an instruction it cannot emulate; 2: a nested exception; 3: an event's delivery; 4: an exit it
        /// does not know.
        suberror: u32,
        /// What KVM adds to it.
        data: Vec<u64>,
    },
    /// The CPU refused the vCPU's state.
    Entry {
        /// The CPU's reason (an error code of VMX or SVM).
        reason: u64,
        /// The host CPU.
        cpu: u32,
    },
    /// The host could not provide guest memory: a hugetlb pool or a memory limit is exhausted, or
    /// the memory is broken.
    Memory {
        /// Where in the guest, if KVM says.
        at: Option<GuestAddress>,
    },
    /// An exit that this VMM never asked for.
    Unexpected {
        /// The exit reason of `struct kvm_run`.
        reason: u32,
    },
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Internal { suberror: 1, .. } => f.write_str("KVM cannot emulate an instruction"),
            Cause::Internal { suberror, data } => {
                write!(f, "KVM internal error {suberror} {data:x?}")
            }
            Cause::Entry { reason, cpu } => {
                write!(f, "CPU {cpu} refused to enter the guest, reason {reason:#x}")
            }
            Cause::Memory { at: Some(at) } => {
                write!(f, "the host has no memory for guest address {:#x}", at.0)
            }
            Cause::Memory { at: None } => f.write_str("the host has no memory for the guest"),
            Cause::Unexpected { reason } => write!(f, "unexpected KVM exit {reason}"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cause)?;
        if !self.instruction.is_empty() {
            f.write_str("; instruction bytes:")?;
            for byte in &self.instruction {
                write!(f, " {byte:02x}")?;
            }
        }
        match &self.registers {
            Some(registers) => write!(f, "\n{registers}"),
            None => Ok(()),
        }
    }
}
