//! The network back-end: a virtio network card whose other end is a tap interface, a socket, another
//! guest, or nothing.
//!
//! | module | what it is |
//! |---|---|
//! | [`service`] | the data side: which ring does what. Start here |
//! | `transmit` | from the guest to the uplink |
//! | `receive` | from the uplink to the guest |
//! | [`header`] | the packet header of a guest, checked before anybody believes it |
//! | [`device`], [`offer`] | the control side: features, config space, commands |
//! | [`driver_state`] | what the driver has set |
//! | [`uplink`] | taps and what else a card can be plugged into |
//! | [`options`] | the command line |

pub mod counts;
pub mod device;
pub mod driver_state;
mod echo;
mod error;
pub mod header;
pub mod offer;
pub mod options;
mod receive;
pub mod service;
mod transmit;
pub mod uplink;

pub use error::{Error, Result};

impl From<Error> for framework::Error {
    fn from(error: Error) -> Self {
        framework::Error::Device(Box::new(error))
    }
}
