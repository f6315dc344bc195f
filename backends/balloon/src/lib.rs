//! The balloon back-end: gives memory that a guest does not need back to the host.
//!
//! | module | what it is |
//! |---|---|
//! | [`service`] | the data side: which queue does what. Start here |
//! | [`balloon`] | what is in the balloon, and the rules by which pages go in and out |
//! | [`give_back`] | where holes may be in the files behind guest memory, and making them |
//! | [`pages`], [`page_set`] | lists of pages as sorted runs, and sets of pages |
//! | [`device`], [`offer`], [`config_write`] | the control side: features, config space, commands |
//! | [`saved`] | how what is in the balloon outlives the process |
//! | [`statistics`] | what the guest says of its memory |
//! | [`auto`] | the size as the host's memory pressure has it |
//! | `timers` | what the worker waits for |
//! | [`options`] | the command line |

pub mod auto;
pub mod balloon;
pub mod config_write;
pub mod counts;
pub mod device;
mod error;
pub mod give_back;
pub mod offer;
pub mod options;
pub mod page_set;
pub mod pages;
pub mod saved;
pub mod service;
pub mod statistics;
mod timers;

pub use error::{Error, Result};

impl From<Error> for framework::Error {
    fn from(error: Error) -> Self {
        framework::Error::Device(Box::new(error))
    }
}
