//! Requests that are under way, as far as the disk is concerned.

use driver::Operation;
use virtio_spec::block::Segment;

use super::content::{Content, SECTOR};
use super::sector::Contents;

/// What a request does to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Read,
    Write,
    Zero,
    Discard,
    Flush,
    Other,
}

/// One sector of a request.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) sector: u64,
    /// Of a read: what it may find. Of a write: what others wrote that ended in the meantime.
    pub(crate) contents: Contents,
    /// Of a read: whether a mixture may have been there before.
    pub(crate) torn: bool,
    /// Of a read: whether the sector was being written at the same time.
    pub(crate) shared: bool,
}

/// A request that is under way.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) work: Work,
    pub(crate) views: Vec<View>,
    /// Of a write: whether it is to be durable when it ends.
    pub(crate) durable: bool,
    /// Of a flush: what each sector may hold that is flushed, or newer.
    pub(crate) kept: Vec<Contents>,
}

impl Pending {
    pub(crate) fn new(operation: &Operation, through: bool) -> Self {
        let extent = |sector: u64, len: usize| sector..sector + (len / SECTOR) as u64;
        let ranges = |segments: &[Segment]| {
            let range = |s: &Segment| s.sector..s.sector + u64::from(s.num_sectors);
            segments.iter().flat_map(range).collect()
        };
        let (work, sectors): (Work, Vec<u64>) = match operation {
            Operation::Read { sector, len } => (Work::Read, extent(*sector, *len).collect()),
            Operation::Write { sector, data } => {
                (Work::Write, extent(*sector, data.len()).collect())
            }
            Operation::Discard(segments) => (Work::Discard, ranges(segments)),
            Operation::WriteZeroes(segments) => (Work::Zero, ranges(segments)),
            Operation::Flush => (Work::Flush, Vec::new()),
            Operation::GetId | Operation::SecureErase(_) | Operation::Raw { .. } => {
                (Work::Other, Vec::new())
            }
        };
        let view =
            |sector| View { sector, contents: Contents::default(), torn: false, shared: false };
        // A promise is made for data, which what was discarded is not.
        let durable = through && matches!(work, Work::Write | Work::Zero);
        Pending { work, views: sectors.into_iter().map(view).collect(), durable, kept: Vec::new() }
    }

    /// What this request, whose number is `id`, writes into a sector.
    pub(crate) fn writes(&self, id: u32, sector: u64) -> Option<Content> {
        let content = match self.work {
            Work::Write => Content::Written(id),
            Work::Zero | Work::Discard => Content::Zeroes,
            Work::Read | Work::Flush | Work::Other => return None,
        };
        self.views.iter().any(|view| view.sector == sector).then_some(content)
    }

    /// Somebody begins to write this.
    pub(crate) fn sees(&mut self, sector: u64, content: &Content) {
        if self.work == Work::Read {
            for view in self.views.iter_mut().filter(|view| view.sector == sector) {
                view.contents.add(content.clone());
                view.shared = true;
            }
        }
        self.sees_kept(sector, content);
    }

    /// A sector holds this, or may soon.
    pub(crate) fn sees_kept(&mut self, sector: u64, content: &Content) {
        if let Some(kept) = super::sector_mut(&mut self.kept, sector) {
            kept.add(content.clone());
        }
    }

    /// Somebody has written this: whose effect came later is not known.
    pub(crate) fn rivals(&mut self, sector: u64, content: &Content) {
        if matches!(self.work, Work::Write | Work::Zero | Work::Discard) {
            for view in self.views.iter_mut().filter(|view| view.sector == sector) {
                view.contents.add(content.clone());
            }
        }
    }
}
