//! The machine that KVM runs.

mod cpuid;
mod eventfd;
mod exit;
mod failure;
mod interrupt;
#[cfg(test)]
mod kvm_test;
mod machine;
mod msrs;
mod power_on;
mod routes;
mod start;
mod system;
mod topology_leaves;
mod vcpu;

pub use self::machine::{Config, Machine};
pub use self::system::Kvm;
pub use self::vcpu::Vcpu;
