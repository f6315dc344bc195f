//! The block back-end: a virtio block device on a raw file or a block device of the host.
//!
//! | module | what it is |
//! |---|---|
//! | [`service`] | the data path: chains in, completions out. Start here |
//! | [`request`] | parsing and checking what the driver asks for |
//! | `pending`, `transfer`, `erase` | requests under way, step by step |
//! | [`device`], `config` | features, config space, cache mode, resize, lock |
//! | [`disk`] | what both sides know of the disk |
//! | [`image`] | files and block devices, without virtio |
//! | [`options`] | the command line |

mod config;
pub mod counts;
pub mod device;
pub mod disk;
mod erase;
mod error;
pub mod image;
mod in_flight;
pub mod options;
mod pending;
pub mod request;
pub mod service;
mod transfer;

pub use error::{Error, Result};

impl From<Error> for framework::Error {
    fn from(error: Error) -> Self {
        framework::Error::Device(Box::new(error))
    }
}
