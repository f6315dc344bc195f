//! The block device as a driver sees it: real rings in guest memory, a real worker, and a medium
//! in memory that does what the test says.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that meets what it does not expect fails, and its numbers are small"
)]

mod direct;
mod guest;
mod hostile;
mod medium;
mod ranges;
mod requests;
mod simulation;
mod transfers;
