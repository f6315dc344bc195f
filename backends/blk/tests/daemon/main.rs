//! The program itself: started as a user starts it, and spoken to as a front-end does.
#![expect(
    unsafe_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that meets what it does not expect fails, and its numbers are small"
)]

mod command_line;
mod connections;
mod control;
mod foreign_driver;
mod lock;
mod media;
mod process;
