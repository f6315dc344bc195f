//! What an engine is made from.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Bounce;

/// What every real engine needs to know before it starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many queues the worker serves: kicks are watched for 0 to `queues - 1`.
    pub queues: u16,
    /// How many operations are usually in flight at most. More are served, at some cost.
    pub operations: u16,
    /// The eventfd that the connection thread writes after it has sent a command. Never drained.
    pub commands: Arc<OwnedFd>,
    /// Whether the engine gives up, for good, whatever it does not need (see `--sandbox`).
    pub restricted: bool,
    /// The size of each bounce buffer, bytes, a multiple of 4096.
    pub bounce_size: usize,
    /// How many bounce buffers there are.
    pub bounce_count: u16,
    /// How many threads the blocking engine has at most.
    pub threads: u16,
}

impl Config {
    /// The most files that a worker has at a time.
    pub const MOST_FILES: u16 = 128;

    /// A configuration for `queues` queues with the usual values for everything else.
    pub fn new(queues: u16, commands: Arc<OwnedFd>) -> Self {
        Config {
            queues,
            operations: 256,
            commands,
            restricted: true,
            bounce_size: 128 << 10,
            bounce_count: 8,
            threads: 8,
        }
    }

    pub(super) fn bounce(&self) -> Bounce {
        Bounce::new(self.bounce_size, self.bounce_count)
    }
}
