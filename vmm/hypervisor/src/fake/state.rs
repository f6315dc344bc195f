//! What a fake machine remembers.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};

use super::eventfd::{signal, take};
use crate::memory::Region;
use crate::{Gsi, Msi, Slot, SlotOptions};

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) slots: BTreeMap<Slot, Mapped>,
    /// Doorbells by guest address.
    pub(super) kicks: BTreeMap<u64, OwnedFd>,
    pub(super) lines: BTreeMap<Gsi, Line>,
    /// Messages that the test has not yet asked for.
    pub(super) messages: Vec<Msi>,
    /// Calls that came while their line had no route.
    pub(super) lost: u64,
    /// Calls of `route_all` that changed something.
    pub(super) route_updates: u64,
}

#[derive(Debug)]
pub(super) struct Mapped {
    pub(super) region: Region,
    pub(super) options: SlotOptions,
    pub(super) dirty: BTreeSet<u64>,
}

/// An interrupt line.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) route: Option<Msi>,
    pub(super) call: Option<OwnedFd>,
}

impl State {
    /// Turns the calls signalled so far into messages, by the routes as they are now.
    pub(super) fn collect(&mut self) {
        for line in self.lines.values() {
            let count = line.call.as_ref().map_or(0, |call| take(call.as_fd()));
            match line.route {
                _ if count == 0 => {}
                Some(message) => self.messages.push(message),
                None => self.lost += 1,
            }
        }
    }

    /// Signals the doorbell at a guest address, if there is one.
    pub(super) fn ring(&self, at: u64) -> bool {
        let kick = self.kicks.get(&at);
        if let Some(kick) = kick {
            signal(kick.as_fd());
        }
        kick.is_some()
    }
}
