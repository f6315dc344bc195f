//! vhost-user messages on a Unix socket, for both sides.
//!
//! - [`Channel`] frames messages on a socket without ever blocking: a message half received or half
//!   sent goes on at the next call.
//! - [`Request`] is what a front-end asks, [`Reply`] what the back-end answers, [`BackendRequest`]
//!   what the back-end asks over its own channel. Each owns the file descriptors it carries, so
//!   that a descriptor no one asked for is closed by being dropped.
//! - [`Client`] is the front-end's side: one request, one answer, and a deadline on every wait.
//!
//! The structures inside are those of [`virtio_spec::vhost_user`]. Decoding checks sizes, counts and the number of descriptors. It does not judge whether a request
//! is sensible at this moment: that needs the connection's state and is its owner's business.

#![forbid(unsafe_code)]

mod backend_request;
mod body;
mod channel;
mod client;
mod error;
mod frame;
mod payload;
mod reply;
mod request;

#[cfg(test)]
mod foreign_test;
#[cfg(test)]
mod round_trip_test;

pub use backend_request::BackendRequest;
pub use channel::{Channel, MAX_QUEUED};
pub use client::Client;
pub use error::Error;
pub use frame::{Frame, MAX_FDS};
pub use payload::MAX_REGIONS;
pub use reply::{Config, Reply};
pub use request::Request;

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, Error>;
