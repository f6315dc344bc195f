//! What virtio and vhost-user demand of a back-end: a front-end and a driver on one side of a socket,
//! the whole of the block back-end on the other.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that meets what it does not expect fails, and its numbers are small"
)]

mod back_end;
mod configuration;
mod life;
mod memory;
mod messages;
mod migration;
mod negotiation;
mod notification;
mod ring_states;
mod suspended;
