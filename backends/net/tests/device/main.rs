//! The card as a driver sees it: real rings in guest memory, real workers, and a simulated engine
//! that moves the packets.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that meets what it does not expect fails, and its numbers are small"
)]

mod calls;
mod commands;
mod guest;
mod hostile;
mod received;
mod sent;
