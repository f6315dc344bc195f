//! A model of the disk: what each sector may hold, and what was promised.
//!
//! # Theory of operation
//! A request takes effect at some moment between its publication and the driver's seeing it used;
//! requests that overlap in time may take effect in any order. So for each sector the model keeps
//! the set of contents that are possible *now*, and beside it those that a *power loss* may leave:
//!
//! - A read may find what was possible when it was published, or what was being written since.
//! - When a write has ended well, its sectors hold what it wrote, or what a write wrote that ended
//!   while this one was under way. One that failed may have written or not, or a part.
//! - A power loss leaves anything that was possible since the last flush that ended well was
//!   published; or since the last durable write.
//!
//! What is found by a read while nothing else is under way is known from then on. A transfer can
//! come out short in the middle of a sector; so what overlapping writes leave may be a mixture of
//! them, as may what a failed one leaves.

mod content;
mod pending;
mod sector;

use std::collections::BTreeMap;

use driver::Operation;
use virtio_spec::block::Status;

use content::{Content, describe};
pub(crate) use content::{SECTOR, data};
use pending::{Pending, Work};
use sector::{Contents, Sector};

use crate::Failure;

/// The model.
#[derive(Debug)]
pub(crate) struct DiskModel {
    sectors: Vec<Sector>,
    /// Requests under way, by number.
    pending: BTreeMap<u32, Pending>,
    /// Whether each write is to be durable when it ends.
    through: bool,
}

impl DiskModel {
    /// A disk of zeroes.
    pub(crate) fn new(sectors: u64) -> Self {
        DiskModel {
            sectors: (0..sectors).map(|_| Sector::new()).collect(),
            pending: BTreeMap::new(),
            through: false,
        }
    }

    /// From now on each write is durable when it ends, or need not be.
    pub(crate) fn set_through(&mut self, through: bool) {
        self.through = through;
        for pending in self.pending.values_mut() {
            pending.durable &= through;
        }
    }

    /// The device may take up this request from now on.
    pub(crate) fn published(&mut self, id: u32, operation: &Operation) {
        let mut new = Pending::new(operation, self.through);
        match &new.work {
            Work::Read => self.begin_read(&mut new),
            Work::Flush => self.begin_flush(&mut new),
            Work::Write | Work::Zero | Work::Discard => self.begin_write(id, &new),
            Work::Other => {}
        }
        self.pending.insert(id, new);
    }

    fn begin_read(&mut self, read: &mut Pending) {
        for view in &mut read.views {
            let Some(sector) = sector(&self.sectors, view.sector) else { continue };
            view.contents = sector.now.clone();
            view.torn = sector.torn;
            for (other, pending) in &self.pending {
                if let Some(content) = pending.writes(*other, view.sector) {
                    view.contents.add(content);
                    view.shared = true;
                }
            }
        }
    }

    fn begin_flush(&mut self, flush: &mut Pending) {
        flush.kept = self.sectors.iter().map(|sector| sector.now.clone()).collect();
        for (other, pending) in &self.pending {
            for view in &pending.views {
                if let (Some(kept), Some(content)) =
                    (sector_mut(&mut flush.kept, view.sector), pending.writes(*other, view.sector))
                {
                    kept.add(content);
                }
            }
        }
    }

    fn begin_write(&mut self, id: u32, write: &Pending) {
        for view in &write.views {
            let Some(content) = write.writes(id, view.sector) else { continue };
            if let Some(sector) = sector_mut(&mut self.sectors, view.sector) {
                sector.durable.add(content.clone());
            }
            for other in self.pending.values_mut() {
                other.sees(view.sector, &content);
            }
        }
    }

    /// The driver has seen a request used, with this status and these bytes.
    pub(crate) fn ended(&mut self, id: u32, status: Status, bytes: &[u8]) -> Result<(), Failure> {
        let Some(ended) = self.pending.remove(&id) else { return Ok(()) };
        match (&ended.work, status) {
            (Work::Read, Status::Ok) => return self.end_read(id, &ended, bytes),
            (Work::Flush, Status::Ok) => self.end_flush(&ended),
            (Work::Write | Work::Zero, Status::Ok) => self.end_write(id, &ended),
            (Work::Write | Work::Zero | Work::Discard, _) => {
                self.perhaps(id, &ended, status != Status::Ok);
            }
            (Work::Read | Work::Flush | Work::Other, _) => {}
        }
        Ok(())
    }

    fn end_read(&mut self, id: u32, read: &Pending, bytes: &[u8]) -> Result<(), Failure> {
        for (view, found) in read.views.iter().zip(bytes.as_chunks().0) {
            let recognized = view.contents.recognize(view.sector, found, view.torn || view.shared);
            let Some(content) = recognized else {
                return Err(Failure::WrongData {
                    request: id,
                    sector: view.sector,
                    found: describe(found),
                    allowed: view.contents.describe(),
                });
            };
            if !view.shared {
                self.learn(view.sector, &content);
            }
        }
        Ok(())
    }

    /// A sector holds this: nothing was written to it while it was read.
    fn learn(&mut self, at: u64, content: &Content) {
        let Some(sector) = sector_mut(&mut self.sectors, at) else { return };
        if sector.now.len() > 1 || sector.torn {
            sector.found(content.clone());
            for other in self.pending.values_mut() {
                other.sees_kept(at, content);
            }
        }
    }

    fn end_flush(&mut self, flush: &Pending) {
        for (sector, kept) in self.sectors.iter_mut().zip(&flush.kept) {
            sector.durable.keep(kept);
        }
    }

    fn end_write(&mut self, id: u32, write: &Pending) {
        for view in &write.views {
            let (Some(content), Some(sector)) =
                (write.writes(id, view.sector), sector_mut(&mut self.sectors, view.sector))
            else {
                continue;
            };
            sector.now = Contents::one(content.clone());
            sector.now.add_all(&view.contents);
            sector.torn = !view.contents.is_empty();
            if write.durable {
                let mut kept = sector.now.clone();
                for (other, pending) in &self.pending {
                    pending.writes(*other, view.sector).into_iter().for_each(|c| kept.add(c));
                }
                sector.durable.keep(&kept);
            }
            for other in self.pending.values_mut() {
                other.rivals(view.sector, &content);
            }
        }
    }

    /// A write has failed: it may have had its effect, or a part of it, or none. A discard may
    /// always have had none.
    fn perhaps(&mut self, id: u32, write: &Pending, torn: bool) {
        for view in &write.views {
            let (Some(content), Some(sector)) =
                (write.writes(id, view.sector), sector_mut(&mut self.sectors, view.sector))
            else {
                continue;
            };
            sector.now.add(content.clone());
            sector.torn |= torn || !view.contents.is_empty();
            for other in self.pending.values_mut() {
                other.rivals(view.sector, &content);
            }
        }
    }

    /// The driver gave a request up that the device certainly never took.
    pub(crate) fn never_taken(&mut self, id: u32) {
        self.pending.remove(&id);
    }

    /// The driver gave a request up of which nobody knows what became.
    pub(crate) fn lost(&mut self, id: u32) {
        if let Some(lost) = self.pending.remove(&id) {
            self.perhaps(id, &lost, true);
        }
    }

    /// The power was lost, and this is what the disk holds now.
    pub(crate) fn power_lost(&mut self, content: &[u8]) -> Result<(), Failure> {
        self.pending.clear();
        for ((at, sector), found) in (0..).zip(&mut self.sectors).zip(content.as_chunks().0) {
            let torn = sector.durable.len() > 1;
            let Some(content) = sector.durable.recognize(at, found, torn) else {
                let (found, allowed) = (describe(found), sector.durable.describe());
                return Err(Failure::NotDurable { sector: at, found, allowed });
            };
            sector.survived(content);
        }
        Ok(())
    }

    /// Nothing is under way, and this is what the disk holds.
    pub(crate) fn check(&self, content: &[u8]) -> Result<(), Failure> {
        for ((at, sector), found) in (0..).zip(&self.sectors).zip(content.as_chunks().0) {
            if sector.now.recognize(at, found, sector.torn).is_none() {
                let (found, allowed) = (describe(found), sector.now.describe());
                return Err(Failure::WrongDisk { sector: at, found, allowed });
            }
        }
        Ok(())
    }
}

fn sector<T>(sectors: &[T], at: u64) -> Option<&T> {
    sectors.get(usize::try_from(at).ok()?)
}

fn sector_mut<T>(sectors: &mut [T], at: u64) -> Option<&mut T> {
    sectors.get_mut(usize::try_from(at).ok()?)
}

#[cfg(test)]
mod tests;
