//! What has landed on the disk, when, and on whose behalf.

use std::collections::BTreeMap;

/// What has landed so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Landings {
    /// Writes.
    pub writes: u64,
    /// Writes that landed after the death of the process that had asked for them.
    pub late_writes: u64,
    /// Reads whose data came after that.
    pub late_reads: u64,
    /// The most requests that were still to land when a successor began to write.
    pub not_waited_for: usize,
}

/// The disk's contents and history.
#[derive(Debug)]
pub(super) struct Journal {
    /// What a read finds.
    landed: Vec<u8>,
    /// What a loss of power leaves.
    durable: Vec<u8>,
    /// Landed since the last sync: first byte and length.
    volatile: Vec<(usize, usize)>,
    /// Asked for and not landed, by number of the request: the life of the daemon that asked.
    on_their_way: BTreeMap<u64, u32>,
    /// Lives begun, and ended.
    life: u32,
    ended: u32,
    landings: Landings,
}

impl Journal {
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            landed: vec![0; bytes],
            durable: vec![0; bytes],
            volatile: Vec::new(),
            on_their_way: BTreeMap::new(),
            life: 1,
            ended: 0,
            landings: Landings::default(),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.landed.len() as u64
    }

    pub(super) fn durable(&self) -> &[u8] {
        &self.durable
    }

    pub(super) fn landings(&self) -> Landings {
        self.landings
    }

    pub(super) fn life_ends(&mut self) {
        self.ended = self.life;
    }

    pub(super) fn life_begins(&mut self) {
        self.life += 1;
    }

    /// Something was asked for. Only writes count as not having waited: opening a disk may take a
    /// look at it.
    pub(super) fn asked(&mut self, unique: u64, is_write: bool) {
        if is_write {
            let former = self.on_their_way.values().filter(|life| **life < self.life).count();
            self.landings.not_waited_for = self.landings.not_waited_for.max(former);
        }
        self.on_their_way.insert(unique, self.life);
    }

    /// Whether its asker is dead.
    fn is_late(&mut self, unique: u64) -> bool {
        self.on_their_way.remove(&unique).is_some_and(|life| life <= self.ended)
    }

    pub(super) fn write_lands(&mut self, unique: u64, offset: u64, data: &[u8]) {
        self.landings.writes += 1;
        self.landings.late_writes += u64::from(self.is_late(unique));
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        if let Some(place) = self.landed.get_mut(at..at.saturating_add(data.len())) {
            place.copy_from_slice(data);
            self.volatile.push((at, data.len()));
        }
    }

    pub(super) fn read_lands(&mut self, unique: u64, offset: u64, size: u32) -> Vec<u8> {
        self.landings.late_reads += u64::from(self.is_late(unique));
        let end = usize::try_from(offset.saturating_add(size.into())).unwrap_or(usize::MAX);
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = end.min(self.landed.len());
        self.landed.get(start.min(end)..end).unwrap_or_default().to_vec()
    }

    pub(super) fn sync_lands(&mut self, unique: u64) {
        self.on_their_way.remove(&unique);
        for (at, len) in self.volatile.drain(..) {
            if let (Some(from), Some(to)) =
                (self.landed.get(at..at + len), self.durable.get_mut(at..at + len))
            {
                to.copy_from_slice(from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn landings_of_the_dead_are_late_and_writes_before_them_are_noticed() {
        let mut journal = Journal::new(4096);
        journal.asked(1, true);
        journal.asked(2, true);
        journal.write_lands(1, 0, &[1; 512]);
        journal.life_ends();
        journal.life_begins();
        journal.asked(3, false);
        assert_eq!(journal.landings().not_waited_for, 0);
        journal.asked(4, true);
        journal.write_lands(2, 512, &[2; 512]);
        journal.write_lands(4, 512, &[4; 512]);
        assert_eq!(journal.read_lands(3, 512, 512), [4; 512]);
        let landings = Landings { writes: 3, late_writes: 1, late_reads: 0, not_waited_for: 1 };
        assert_eq!(journal.landings(), landings);
    }

    #[test]
    fn only_a_sync_makes_durable() {
        let mut journal = Journal::new(1024);
        journal.asked(1, true);
        journal.write_lands(1, 512, &[7; 512]);
        assert_eq!(journal.durable()[512..], [0; 512]);
        journal.asked(2, false);
        journal.sync_lands(2);
        assert_eq!(journal.durable()[512..], [7; 512]);
    }
}
