//! The program itself: started as a user starts it, with a driver's rings on one side and readers on
//! the other.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that meets what it does not expect fails, and its numbers are small"
)]

mod command_line;
mod control;
mod files;
mod guest;
mod hostile;
mod ports;
mod process;
mod readers;
mod restart;
mod streams;
mod terminals;
