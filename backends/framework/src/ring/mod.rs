//! Virtqueues from the device's side: split and packed, over host pointers.
//!
//! # Theory of operation
//! A [`Ring`] is made when the front-end starts it, and is owned by one worker. Chains are looked at,
//! taken, and completed in any order; what was completed is published once per batch, followed by at
//! most one call. A chain is parsed once, into a slot of the ring; what the driver does to the
//! descriptors afterwards changes nothing.
//!
//! The first rule that the driver breaks makes the ring *failed*: it gives no more chains, what is in
//! flight ends, and only a new start mends it. Other rings run on.
//!
//! Where a ring goes on after a loss: split, at the used index, past what the in-flight region lists;
//! packed, where the in-flight region says, or at SET_VRING_BASE where there is no region.

mod area;
mod call;
mod chain;
mod fault;
mod hold;
mod in_flight_packed;
mod in_flight_split;
#[cfg(any(test, feature = "simulation"))]
pub mod kill;
#[cfg(test)]
mod log_test;
mod memory;
mod packed;
#[cfg(test)]
mod ring_test;
mod running;
mod serving;
mod split;
mod start;
mod walk;

pub use call::{Call, MessageCall};
pub use chain::Chain;
pub use fault::RingFault;
pub use running::{Ring, Rings};
