//! Whole machines: on the fake hypervisor, and with guests of a few instructions on this machine's KVM.
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod assembly;
mod daemons;
mod life;
mod ordinary_user;
mod program;
mod quick_start;
mod terminal;
mod vm;
