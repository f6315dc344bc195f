//! What virtio demands of a device's side of rings: a driver, a worker, and a device between them
//! that does what the test says.
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that meets what it does not expect fails, and its numbers are small"
)]

mod bench;
mod calls;
mod dirty_log;
mod framing;
mod in_flight;
mod kicks;
mod memory;
mod order;
mod packed;
mod probe;
mod stop;
mod used;
