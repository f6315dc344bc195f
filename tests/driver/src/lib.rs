//! A fake driver and a fake front-end, for tests of devices that read like drivers.
//!
//! ```text
//! Disk            synchronous reads and writes, as a user of a block device has them
//!   BlockQueue    block requests in a queue: submit, publish, reap
//!     Queue       driver's side of a virtqueue, split or packed
//!       Memory    guest memory: regions in memfds, an allocator of buffers
//! FrontEnd        the VMM's side of a vhost-user connection: negotiates, shares the memory,
//!                 starts and stops rings, reconnects
//! ```
//!
//! Queues and memory need no front-end: a simulation calls the device directly. What joins a queue
//! to a device is a [`Notifier`]: eventfds from a [`FrontEnd`], messages, or plain function calls.
//!
//! Each step is shown to the conformance observer of `virtio-spec` (see [`Watch`]). A device that
//! breaks a clause makes the driver's call fail with [`Error::Violation`], which names the clause.
//! And the driver trusts the device with nothing: a used element that names no chain in flight, or
//! more bytes written than there was room for, is an [`Error::Device`] even to a driver that is
//! not watched.

mod block;
mod deadline;
mod error;
mod event;
mod front_end;
mod memory;
mod notifier;
mod ring;
mod watch;

#[cfg(test)]
mod ram_disk;
#[cfg(test)]
mod script;

pub use block::{BlockQueue, Cut, Disk, Done, Layout, Operation};
pub use deadline::Deadline;
pub use error::Error;
pub use event::Event;
pub use front_end::{BackendChannel, DirtyLog, FrontEnd, Negotiation, RingEvents, StateTransfer};
pub use memory::{Area, Buffer, Memory, PAGE_SIZE, RegionSpec};
pub use notifier::{DirectNotifier, Notifier};
pub use ring::{Addresses, Packed, Part, Placement, Queue, Split, Token, Used};
pub use watch::Watch;

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, Error>;
