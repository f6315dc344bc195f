//! The virtio and vhost-user specifications as constants, layouts and a conformance observer.
//!
//! One file holds one idea: the feature bits, the device status, the split ring, the packed ring,
//! each device type, and the vhost-user messages. Structures are plain Rust values; what goes into
//! guest memory or onto a socket is made with `to_bytes` and read back with `from_bytes`, so that
//! no byte order and no padding depend on the compiler. Nothing here does I/O or holds a pointer.
//!
//! Section numbers are those of virtio 1.4; vhost-user sections are cited by their headings.
#![forbid(unsafe_code)]

pub mod balloon;
pub mod block;
pub mod console;
mod device_type;
mod feature_names;
pub mod features;
mod layout;
pub mod net;
pub mod observer;
pub mod packed;
pub mod split;
pub mod status;
pub mod vhost_user;

pub use device_type::DeviceType;
pub use feature_names::names;
pub use features::{Negotiated, Offered, UnofferedBits};
pub use layout::Field;
pub use status::Status;
