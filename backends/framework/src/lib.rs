//! What every Outrigger daemon is made of: guest memory, rings, workers, the vhost-user connection,
//! and a daemon's life around them.
//!
//! Start reading at [`device`], which says what a device is; the hot path is `worker/turn.rs`.

pub mod capabilities;
pub mod control;
pub mod cpus;
pub mod device;
pub mod engine;
mod error;
pub mod memory;
pub mod program;
pub mod ring;
pub mod sandbox;
pub mod server;
pub mod session;
pub mod stats;
pub mod worker;

pub use error::{Error, Result};
