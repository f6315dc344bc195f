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
//! | [`control`] | the control queue: commands of the driver |
//! | [`driver_state`], [`saved`] | what the driver has set, and how that outlives the process |
//! | [`limits`], [`rate`] | how fast frames may cross |
//! | [`capture`] | writing down what crosses the card |
//! | `view` | what the data side goes by |
//! | [`filter`], [`hash`], [`rss`], [`coalesce`] | which frames are received, their hashes, by which queue, when calls are made |
//! | [`announce`] | what is sent for a guest that cannot announce itself |
//! | [`uplink`] | taps and what else a card can be plugged into |
//! | [`options`], [`rate_options`] | the command line |

pub mod announce;
pub mod capture;
pub mod coalesce;
pub mod control;
pub mod counts;
mod deliver;
pub mod device;
pub mod driver_state;
mod echo;
mod error;
pub mod filter;
pub mod hash;
pub mod header;
pub mod limits;
pub mod offer;
pub mod options;
pub mod rate;
pub mod rate_options;
mod receive;
pub mod rss;
pub mod saved;
pub mod service;
mod timers;
mod transmit;
pub mod uplink;
mod view;

pub use error::{Error, Result};

impl From<Error> for framework::Error {
    fn from(error: Error) -> Self {
        framework::Error::Device(Box::new(error))
    }
}
