//! COM1: a 16550 for the guest, and what it is connected to on the host.
//!
//! # Theory of operation
//! ```text
//!  vCPU ──THR──▶ Output (64 KiB, oldest bytes give way) ──▶ Port::serve ──▶ stdout, pty, file, socket
//!  vCPU ◀──RBR── receive FIFO (64 bytes) ◀───────────────── Port::serve ◀── stdin, pty, socket
//! ```
//! The [`Serial`] is what vCPUs access; the [`Port`] is the other end, served by the main loop.
//! Between them are a queue for each direction and one eventfd, which wakes the main loop when
//! there is something to write or room for input, and is left alone otherwise: nothing polls.
//! - **Output** never blocks a vCPU for long. A reader that is slow is waited for ([`output`] says
//!   how long); one that does not read at all loses the oldest bytes.
//! - **Input** is read from the host only when the guest can take it: its FIFO has room and its
//!   driver listens. So nothing is lost; what is typed ahead waits in the pipe, pseudoterminal or
//!   socket. Only a terminal is read ahead, for the escape by which a person ends the VMM.

mod connection;
mod error;
mod escape;
mod link;
mod output;
mod port;
mod terminal;
mod uart;
mod watch;

use std::sync::Arc;

pub use error::Error;
pub use port::Port;
pub use uart::Serial;

use super::{Line, Report};
use crate::config::serial::SerialPort;

/// Connects COM1 to `to`. `line` is its interrupt; `report` is told when somebody types the escape
/// that ends the VMM.
///
/// Call it before the process gives up the right to open files.
///
/// # Errors
/// When the terminal, file or socket cannot be had.
pub fn open(
    to: &SerialPort,
    line: Box<dyn Line>,
    report: Report,
) -> Result<(Arc<Serial>, Port), Error> {
    let link = link::Link::open(to)?;
    let output = Arc::new(output::Output::new().map_err(Error::system("make an eventfd"))?);
    let serial = Arc::new(Serial::new(Arc::from(line), Arc::clone(&output)));
    let port = Port::new(link, output, Arc::clone(&serial), report)?;
    Ok((serial, port))
}

#[cfg(test)]
#[path = "serial_test.rs"]
mod tests;
