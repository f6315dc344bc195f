//! The control queue (virtio 1.4, 5.1.6.5): what a driver sets by commands.
//!
//! # Theory of operation
//! A chain's readable part is copied once, however it is split ([`queue`]); the copy is parsed into a
//! [`Command`], which owns what it says; the command changes the [`crate::driver_state`] ([`apply`]);
//! the state is kept where a killed process leaves it; and only then is the command acknowledged. What
//! makes no sense, or was not negotiated, is answered with an error and changes nothing.

pub mod apply;
pub mod command;
pub(crate) mod queue;

pub use command::{Command, Refused};
