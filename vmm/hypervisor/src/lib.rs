//! What the VMM needs of a hypervisor: KVM, and a fake one for tests.
//!
//! - [`Machine`] is one virtual machine, shared by the threads of the VMM: memory slots, doorbells
//!   (ioeventfd), interrupts (routes and irqfd), and the making of vCPUs.
//! - [`Vcpu`] is one CPU of it, owned by the thread that runs it; [`VcpuHandle`] interrupts it from
//!   another thread.
//! - [`kvm`] implements both with `/dev/kvm`, [`fake`] without, for tests of everything above.
//! - [`memory`] makes the guest's RAM; [`layout`] says where everything is in the guest's physical
//!   address space.
//!
//! Neither trait knows of devices: PCI, virtio and the legacy devices are built on top.

mod boot_state;
mod error;
mod exit;
pub mod fake;
pub mod kvm;
pub mod layout;
mod machine;
pub mod memory;
mod registers;
mod topology;
mod vcpu;

pub use boot_state::{BOOT_GDT, BootState, DescriptorTable};
pub use error::{Error, Result};
pub use exit::{Cause, Exit, Failure};
pub use machine::{Gsi, Machine, Msi, Slot, SlotOptions};
pub use registers::Registers;
pub use topology::Topology;
pub use vcpu::{Vcpu, VcpuHandle};
pub use vm_memory::GuestAddress;
