//! What reaches a simulated engine from outside.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::engine::FileIndex;

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
    /// Packets that were not received yet.
    pub(super) arrived: BTreeMap<FileIndex, VecDeque<Vec<u8>>>,
    /// Packets that were sent.
    pub(super) sent: Vec<(FileIndex, Vec<u8>)>,
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

    /// Lets a packet arrive at a file that is received from.
    pub fn arrive(&self, file: FileIndex, packet: Vec<u8>) {
        self.with(|inbox| inbox.arrived.entry(file).or_default().push_back(packet));
    }

    /// What has been sent since the last call, oldest first.
    pub fn take_sent(&self) -> Vec<(FileIndex, Vec<u8>)> {
        self.with(|inbox| std::mem::take(&mut inbox.sent))
    }

    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Inbox) -> T) -> T {
        act(&mut self.inbox.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
