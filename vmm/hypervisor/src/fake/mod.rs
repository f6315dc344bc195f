//! A machine without a hypervisor, for tests: it records what it is told, and the test plays the
//! guest and the interrupt controller.
//!
//! ```
//! use hypervisor::{GuestAddress, Machine as _, Msi, fake};
//! use std::os::fd::AsFd;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let machine = fake::Machine::new();
//! let [kick, call] = [0, 0].map(|_| fake::eventfd());
//!
//! // The device's side, as in the VMM:
//! machine.connect_kick(GuestAddress(0xc000_1000), kick.as_fd())?;
//! let line = machine.allocate_vectors(1)?[0];
//! machine.route(line, Some(Msi { address: 0xfee0_0000, data: 0x41 }))?;
//! machine.connect_call(line, call.as_fd())?;
//!
//! // The guest's side: a write to the doorbell signals the kick, a signalled call is a message.
//! assert!(machine.write_mmio(GuestAddress(0xc000_1000)));
//! assert_eq!(fake::take(kick.as_fd()), 1);
//! fake::signal(call.as_fd());
//! assert_eq!(machine.messages(), [Msi { address: 0xfee0_0000, data: 0x41 }]);
//! # Ok(())
//! # }
//! ```

mod eventfd;
#[cfg(test)]
mod fake_test;
mod machine;
mod state;
mod vcpu;

pub use self::eventfd::{eventfd, signal, take};
pub use self::machine::Machine;
pub use self::vcpu::{Step, Vcpu};
