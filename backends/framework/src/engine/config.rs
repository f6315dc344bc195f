//! What an engine is made from.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Bounce;

/// What every real engine needs to know before it starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many queues the worker serves: kicks are watched for 0 to `queues - 1`.
    pub queues: u16,
    /// How many operations are usually in flight at most. More are served, at some cost. (An io_uring
    /// was made for so many already.)
    pub operations: u16,
    /// The eventfd that the connection thread writes after it has sent a command. Never drained.
    pub commands: Arc<OwnedFd>,
    /// The front-end's connection. The engine keeps it open until all that it has begun has ended, and
    /// so does the kernel if the process is killed: a front-end that sees it closed may do with guest
    /// memory what it likes.
    pub connection: Option<Arc<OwnedFd>>,
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
    /// How many operations are usually in flight at most.
    pub const OPERATIONS: u16 = 256;

    /// The most files that a worker has at a time.
    pub const MOST_FILES: u16 = 128;

    /// A configuration for `queues` queues with the usual values for everything else.
    pub fn new(queues: u16, commands: Arc<OwnedFd>) -> Self {
        Config {
            queues,
            operations: Self::OPERATIONS,
            commands,
            connection: None,
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
