//! The program with tap interfaces, each in a network of its own: only root can make them.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that cannot be set up fails, or says that it was skipped"
)]

#[expect(dead_code, reason = "shared with the tests of the other uplinks")]
#[path = "../uplinks/card.rs"]
mod card;
mod driver_with_commands;
mod interface;
mod pairs;
#[path = "../uplinks/program.rs"]
mod program;
mod refusals;
mod survival;
mod switch;
