//! Guest memory: shared with the front-end, mapped here, never a Rust reference.
//!
//! A [`MemoryTable`] is immutable. A worker switches to a new one between two wakes; the old one is
//! unmapped when the last operation that was started under it has ended. Every access goes through
//! this module: raw copies and volatile loads only, because the guest writes at the same time.
//! Everything written is marked in the [`DirtyLog`] when one is set.

mod address;
mod copy;
mod dirty;
mod fault;
mod held;
mod mapping;
mod segment;
mod table;

pub use address::{GuestAddress, UserAddress};
pub(crate) use copy::copy;
pub use dirty::DirtyLog;
pub(crate) use fault::count as fault_count;
pub use held::Held;
pub use mapping::Mapping;
pub use segment::Segment;
pub(crate) use segment::{LINE, prefetch, prefetch_to_write};
pub use table::{MemoryTable, Region};
