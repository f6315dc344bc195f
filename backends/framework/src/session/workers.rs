//! Workers as a session sees them.

use crate::device::{Assembly, Service};
use crate::error::Result;
use crate::worker::Command;

/// The workers of one connection: threads, or simulated ones that are stepped by hand. Their answers
/// come back through [`super::Session::answered`].
pub trait Workers<S: Service> {
    /// Starts the worker `worker`, which serves `queues` (indexes on the device; the first of them
    /// is its local queue 0).
    ///
    /// # Errors
    /// When there is no thread or no engine to be had.
    fn spawn(&mut self, worker: u16, queues: &[u16], assembly: Assembly<S>) -> Result<()>;

    /// Sends a command to a worker that was started. It never waits.
    fn command(&mut self, worker: u16, command: Command);
}
