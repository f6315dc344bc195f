//! vCPUs: one thread each, named `vcpu0`, `vcpu1`, …
//!
//! | module | what it is |
//! |---|---|
//! | [`crew`] | all of them, as the main thread commands them |
//! | [`thread`] | one of them: runs the guest, hands exits on. The hot loop |
//! | [`orders`] | run, park, reset, quit: from the main thread to all of them |
//! | [`tally`] | how often vCPUs leave the guest |
//! | [`scheduling`] | affinity and real-time priority of the threads |

pub mod crew;
pub mod orders;
pub mod scheduling;
pub mod tally;
pub mod thread;
