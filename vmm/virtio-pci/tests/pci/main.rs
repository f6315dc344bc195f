//! The bus and the transport as a guest sees them, with a device and a machine that are fake.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test panics when something is not as it must be"
)]

mod bars;
mod config;
mod enumeration;
mod guest;
mod hostile;
mod msix;
mod notifications;
mod queues;
mod status;
