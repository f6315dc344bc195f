//! A vhost-user front-end for devices of any type.
//!
//! [`FrontEnd`] is a device to the virtio transport (it implements [`virtio_pci::Device`]) and a
//! client to the back-end process that serves it. It has one thread, which waits for messages and
//! does nothing while there are none; nobody else ever waits for the back-end.
//!
//! | module | what it is |
//! |---|---|
//! | [`session`] | what is said next, and what follows from the answer. Start here |
//! | `thread` | the device's thread: connects, waits, hands events to the session |
//! | `connection` | one connection: messages out and in, time limits, the back-end's channel |
//! | `exchange` | a step of the session as a message with its descriptors, a message as its answer |
//! | `front_end` | the handle that the transport and the machine have |
//! | [`source`] | where connections come from |
//! | [`Rehearsal`] | a device without a thread, for fuzzers |

#![forbid(unsafe_code)]

mod allowance;
mod config;
mod connection;
mod error;
mod exchange;
mod front_end;
mod in_flight;
mod memory;
mod rehearsal;
pub mod session;
pub mod source;
mod thread;
mod two_sides;

pub use config::{Config, Hooks, Limits, Policy};
pub use error::Error;
pub use front_end::FrontEnd;
pub use memory::Region;
pub use rehearsal::Rehearsal;
pub use session::{DeviceReport, QueueReport};
pub use source::{Listen, Socket, Source};
pub use two_sides::Log;

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, Error>;
