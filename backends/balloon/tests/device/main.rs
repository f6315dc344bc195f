//! The balloon as a driver sees it: real rings, a real worker, and memory in real memfds whose blocks
//! are counted.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that meets what it does not expect fails, and its numbers are small"
)]

mod discards;
mod guest;
mod hostile;
mod huge_pages;
mod pages;
mod reports;
mod rings;
mod statistics;
