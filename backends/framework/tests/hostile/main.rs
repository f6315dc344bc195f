//! What a back-end must withstand: one test for each class of mistake that this field has made, named
//! after it. Those about requests to a disk are the block device's.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test that meets what it does not expect fails, and its numbers are small"
)]

mod bench;
mod chains;
mod device;
mod in_flight;
mod memory;
mod messages;
mod running;
mod served;
mod socket;
