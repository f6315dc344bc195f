//! A disk in memory that can lose its power, and that a killed process may still write to.
//!
//! What was written is seen by reads at once, and is durable after a sync that was started later. At
//! a power loss each sector that was written since then survives or does not, independently of all
//! others; a sector is never torn. Effects of a killed engine stay with the disk, and land one by
//! one, as those of a killed process do in the kernel, until [`SimulatedDisk::settle`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fastrand::Rng;

/// What survives a power loss as a whole or not at all, bytes.
pub const SECTOR: usize = 512;

/// The disk. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimulatedDisk {
    model: Arc<Mutex<Model>>,
}

#[derive(Debug)]
struct Model {
    /// What reads see.
    content: Vec<u8>,
    /// What is certain to survive.
    durable: Vec<u8>,
    /// Sectors written that may or may not survive, oldest first.
    volatile: Vec<SectorWrite>,
    /// How many sectors have ever been written.
    written: u64,
    /// Effects of killed engines that have not landed yet.
    late: Vec<Effect>,
}

#[derive(Debug)]
struct SectorWrite {
    /// The value of [`Model::written`] before it.
    number: u64,
    sector: usize,
    bytes: [u8; SECTOR],
}

/// What an operation does to a disk when it lands.
#[derive(Debug)]
pub(super) enum Effect {
    /// Bytes are written.
    Write { offset: u64, bytes: Vec<u8>, durable: bool },
    /// Zeroes are written.
    Zero { offset: u64, len: u64 },
    /// What was written before the mark becomes durable.
    Sync(Mark),
}

/// A moment in the life of a disk: so many sectors had been written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark(u64);

impl SimulatedDisk {
    /// A disk of zeroes; `size` is in bytes and is rounded up to whole sectors.
    pub fn new(size: usize) -> Self {
        let bytes = vec![0; size.next_multiple_of(SECTOR)];
        let model = Model {
            durable: bytes.clone(),
            content: bytes,
            volatile: Vec::new(),
            written: 0,
            late: Vec::new(),
        };
        SimulatedDisk { model: Arc::new(Mutex::new(model)) }
    }

    /// The size in bytes.
    pub fn size(&self) -> u64 {
        self.lock().content.len() as u64
    }

    /// Everything that reads would see now.
    pub fn content(&self) -> Vec<u8> {
        self.lock().content.clone()
    }

    /// Cuts the power, and restores it: of what was not durable, the seed decides what survives.
    /// Effects that were still to land have landed before, or never will.
    pub fn power_loss(&self, seed: u64) {
        let mut random = Rng::with_seed(seed);
        let mut model = self.lock();
        let mut late = std::mem::take(&mut model.late);
        random.shuffle(&mut late);
        for effect in late.into_iter().filter(|_| random.bool()) {
            model.apply(effect);
        }
        for write in std::mem::take(&mut model.volatile) {
            if random.bool() {
                model.persist(&write);
            }
        }
        model.content = model.durable.clone();
    }

    /// Lets everything land that killed engines have left behind: what a successor waits for with
    /// the lock on the image.
    pub fn settle(&self) {
        let mut model = self.lock();
        for effect in std::mem::take(&mut model.late) {
            model.apply(effect);
        }
    }

    /// Whether nothing of killed engines is still to land.
    pub fn is_settled(&self) -> bool {
        self.lock().late.is_empty()
    }

    /// Copies from the disk; returns how many bytes there were.
    pub(super) fn read(&self, offset: u64, to: &mut [u8]) -> usize {
        let model = self.lock();
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        let there = model.content.get(at..).unwrap_or_default();
        for (to, from) in to.iter_mut().zip(there) {
            *to = *from;
        }
        there.len().min(to.len())
    }

    pub(super) fn mark(&self) -> Mark {
        Mark(self.lock().written)
    }

    pub(super) fn apply(&self, effect: Effect) {
        self.lock().apply(effect);
    }

    /// Keeps an effect that will land some time later.
    pub(super) fn leave(&self, effect: Effect) {
        self.lock().late.push(effect);
    }

    /// Lets one of the effects land that killed engines have left behind.
    pub fn land_one(&self, random: &mut Rng) {
        let mut model = self.lock();
        if !model.late.is_empty() {
            let which = random.usize(..model.late.len());
            let effect = model.late.swap_remove(which);
            model.apply(effect);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Model {
    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Write { offset, bytes, durable } => self.write(offset, &bytes, durable),
            Effect::Zero { offset, len } => {
                let rest = (self.content.len() as u64).saturating_sub(offset);
                let len = usize::try_from(len.min(rest)).unwrap_or(0);
                self.write(offset, &vec![0; len], false);
            }
            Effect::Sync(Mark(until)) => {
                let kept = self.volatile.partition_point(|write| write.number < until);
                let later = self.volatile.split_off(kept);
                for write in std::mem::replace(&mut self.volatile, later) {
                    self.persist(&write);
                }
            }
        }
    }

    /// Writes what fits, sector by sector.
    fn write(&mut self, offset: u64, bytes: &[u8], durable: bool) {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let there = self.content.get_mut(start..).unwrap_or_default();
        let n = there.len().min(bytes.len());
        for (to, from) in there.iter_mut().zip(bytes) {
            *to = *from;
        }
        if n == 0 {
            return;
        }
        for sector in start / SECTOR..=(start + n - 1) / SECTOR {
            let Some(bytes) = self.content.as_chunks().0.get(sector) else { return };
            let write = SectorWrite { number: self.written, sector, bytes: *bytes };
            self.written += 1;
            if durable {
                // Nothing older may come back at a power loss.
                self.volatile.retain(|older| older.sector != sector);
                self.persist(&write);
            } else {
                self.volatile.push(write);
            }
        }
    }

    fn persist(&mut self, write: &SectorWrite) {
        if let Some(sector) = self.durable.as_chunks_mut().0.get_mut(write.sector) {
            *sector = write.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(disk: &SimulatedDisk, sector: u64, byte: u8, durable: bool) {
        let offset = sector * SECTOR as u64;
        disk.apply(Effect::Write { offset, bytes: vec![byte; SECTOR], durable });
    }

    fn sector(disk: &SimulatedDisk, sector: usize) -> u8 {
        let content = disk.content();
        let bytes = &content[sector * SECTOR..][..SECTOR];
        assert!(bytes.iter().all(|byte| *byte == bytes[0]), "torn");
        bytes[0]
    }

    #[test]
    fn a_sync_covers_what_was_written_before_it_started() {
        for seed in 0..50 {
            let disk = SimulatedDisk::new(4 * SECTOR);
            write(&disk, 0, 1, false);
            let mark = disk.mark();
            write(&disk, 1, 2, false);
            disk.apply(Effect::Sync(mark));
            write(&disk, 2, 3, true);
            disk.power_loss(seed);
            assert_eq!((sector(&disk, 0), sector(&disk, 2)), (1, 3));
            assert!(matches!(sector(&disk, 1), 0 | 2));
        }
    }

    #[test]
    fn each_sector_survives_or_not() {
        let mut seen = [false; 3];
        for seed in 0..50 {
            let disk = SimulatedDisk::new(SECTOR);
            write(&disk, 0, 1, false);
            write(&disk, 0, 2, false);
            disk.power_loss(seed);
            seen[usize::from(sector(&disk, 0))] = true;
        }
        assert_eq!(seen, [true; 3]);
    }

    #[test]
    fn a_durable_write_is_not_undone_by_an_older_one() {
        for seed in 0..50 {
            let disk = SimulatedDisk::new(SECTOR);
            write(&disk, 0, 1, false);
            write(&disk, 0, 2, true);
            disk.power_loss(seed);
            assert_eq!(sector(&disk, 0), 2);
        }
    }

    #[test]
    fn what_is_left_behind_lands_until_it_is_settled() {
        let disk = SimulatedDisk::new(2 * SECTOR);
        disk.leave(Effect::Write { offset: 0, bytes: vec![1; SECTOR], durable: false });
        disk.leave(Effect::Zero { offset: SECTOR as u64, len: u64::MAX });
        assert_eq!(sector(&disk, 0), 0);
        disk.land_one(&mut Rng::with_seed(1));
        assert!(!disk.is_settled());
        disk.settle();
        assert!(disk.is_settled());
        assert_eq!(sector(&disk, 0), 1);
    }
}
