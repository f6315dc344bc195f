//! The program with each of its uplinks, and a driver of ours in front of it.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that meets what it does not expect fails, and its numbers are small"
)]

mod capture;
mod card;
#[path = "../tap/driver_with_commands.rs"]
mod driver_with_commands;
mod limits;
mod passt;
mod program;
mod rss;
mod stream;
mod switch;
mod trunk;
