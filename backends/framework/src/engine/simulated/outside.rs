//! What reaches a simulated engine from outside.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The world outside a simulated engine: kicks, commands and the passing of time. Clones reach the
/// same engine, wherever it is.
#[derive(Clone, Debug, Default)]
pub struct Outside {
    inbox: Arc<Mutex<Inbox>>,
}

/// What has come since the engine last looked.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// Queues that were kicked, each at most once.
    pub(super) kicks: Vec<usize>,
    pub(super) commands: bool,
    pub(super) elapsed: Duration,
}

impl Outside {
    /// Kicks a queue, as a write to its eventfd would. Until it is watched, the kick waits.
    pub fn kick(&self, queue: usize) {
        self.with(|inbox| {
            if !inbox.kicks.contains(&queue) {
                inbox.kicks.push(queue);
            }
        });
    }

    /// Says that there are commands from the connection thread.
    pub fn commands(&self) {
        self.with(|inbox| inbox.commands = true);
    }

    /// Lets time pass.
    pub fn advance(&self, time: Duration) {
        self.with(|inbox| inbox.elapsed += time);
    }

    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Inbox) -> T) -> T {
        act(&mut self.inbox.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
