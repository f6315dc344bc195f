//! The console back-end: up to 31 ports of a guest, whose other ends are terminals, sockets and files.
//!
//! | module | what it is |
//! |---|---|
//! | [`service`] | the data side: which wake leads to what. Start here |
//! | `transmit`, `held_call` | from the guest to whoever is attached |
//! | `receive` | from whoever is attached to the guest |
//! | `control_queues` | messages about ports, both ways |
//! | [`table`], [`message`] | the multiport state machine: what the driver is to be told |
//! | [`board`], [`line`](mod@line) | what both sides know: the table, and a line for each port |
//! | [`backlog`] | what nobody has read yet |
//! | [`readers`], `reading` | who reads along, beside the one for whom output waits |
//! | [`backend`], [`escape`], `typed` | terminals, sockets, files |
//! | [`attendant`] | processes that look after terminals when the daemon cannot |
//! | [`device`], [`commands`] | the control side: features, config space, commands |
//! | [`saved`] | how names, ports and open states outlive the process |
//! | [`options`], [`port_spec`] | the command line |

pub mod attendant;
pub mod backend;
pub mod backlog;
pub mod board;
pub mod commands;
mod control_queues;
pub mod counts;
pub mod device;
mod error;
pub mod escape;
mod gate;
mod held_call;
pub mod line;
pub mod message;
pub mod options;
pub mod port_spec;
pub mod readers;
mod reading;
mod receive;
pub mod saved;
pub mod service;
pub mod table;
mod transmit;
mod typed;

pub use error::{Error, Result};

impl From<Error> for framework::Error {
    fn from(error: Error) -> Self {
        framework::Error::Device(Box::new(error))
    }
}
