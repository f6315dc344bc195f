//! The memory tables of a ring: the one in use, and former ones that chains in flight still need.

use std::sync::Arc;

use crate::memory::{DirtyLog, MemoryTable, Segment};

/// The table in use, and those before it until their last chain has ended.
#[derive(Debug)]
pub(super) struct Tables {
    current: Arc<MemoryTable>,
    epoch: u32,
    /// Chains in flight that the current table resolved.
    users: usize,
    /// Former tables with chains in flight.
    former: Vec<Former>,
}

#[derive(Debug)]
struct Former {
    table: Arc<MemoryTable>,
    epoch: u32,
    users: usize,
}

impl Tables {
    pub(super) fn new(table: Arc<MemoryTable>) -> Self {
        Tables { current: table, epoch: 0, users: 0, former: Vec::new() }
    }

    pub(super) fn current(&self) -> &Arc<MemoryTable> {
        &self.current
    }

    /// The number of the current table, to be kept with each chain.
    pub(super) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Uses another table for what is looked at from now on.
    pub(super) fn switch(&mut self, table: Arc<MemoryTable>) {
        let table = std::mem::replace(&mut self.current, table);
        let users = std::mem::take(&mut self.users);
        if users > 0 {
            self.former.push(Former { table, epoch: self.epoch, users });
        }
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// Whether nothing of a former table is in use.
    pub(super) fn is_settled(&self) -> bool {
        self.former.is_empty()
    }

    pub(super) fn enter(&mut self) {
        self.users += 1;
    }

    /// A chain of this epoch has ended.
    #[inline]
    pub(super) fn leave(&mut self, epoch: u32) {
        if epoch == self.epoch {
            self.users = self.users.saturating_sub(1);
        } else {
            self.leave_former(epoch);
        }
    }

    #[cold]
    fn leave_former(&mut self, epoch: u32) {
        self.former.retain_mut(|former| {
            if former.epoch == epoch {
                former.users = former.users.saturating_sub(1);
            }
            former.users > 0
        });
    }

    /// The table of this epoch.
    pub(super) fn of(&self, epoch: u32) -> &Arc<MemoryTable> {
        let former = self.former.iter().find(|f| f.epoch == epoch);
        former.map_or(&self.current, |f| &f.table)
    }

    /// Marks what was written through these segments, which the table of `epoch` resolved.
    #[cold]
    pub(super) fn mark(&self, epoch: u32, segments: &[Segment], log: &DirtyLog) {
        let table = self.of(epoch);
        for segment in segments {
            if let Some(at) = table.guest_of(segment.base()) {
                log.mark(at, segment.len() as u64);
            }
        }
    }
}
