//! Transfers that are collected and then carried out together.

use crate::memory::{Mapping, Segment};

use super::Transfer;

/// Transfers that wait to be carried out, all within one call of the device ([`super::Io::stage`]).
///
/// It keeps copies of what was put in: arrays of segments, and headers. There is room for
/// [`Batch::TRANSFERS_MAX`] transfers and [`Batch::SEGMENTS_MAX`] segments, so that nothing is
/// allocated.
#[derive(Debug, Default)]
pub struct Batch {
    staged: Vec<Staged>,
    vectors: Vec<Segment>,
    /// A place for the header of each transfer; made when the first header comes.
    headers: Option<Mapping>,
}

/// A transfer that was put in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Staged {
    pub(super) way: Way,
    first: usize,
    count: usize,
}

/// Where a transfer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Receive,
    Send,
}

impl Batch {
    /// The most transfers of a batch.
    pub const TRANSFERS_MAX: usize = 64;
    /// The most segments, of all its transfers together; headers count as one each.
    pub const SEGMENTS_MAX: usize = 2048;
    /// The longest header, bytes.
    pub const HEADER_MAX: usize = 32;

    /// Puts a transfer in. False: there is no room for it, or its header is too long.
    pub(super) fn push(&mut self, transfer: &Transfer<'_>) -> bool {
        let (way, header, segments) = match *transfer {
            Transfer::Receive { into } => (Way::Receive, &[][..], into),
            Transfer::Send { header, from } => (Way::Send, header, from),
        };
        if self.staged.len() >= Self::TRANSFERS_MAX
            || self.vectors.len() + segments.len() >= Self::SEGMENTS_MAX
        {
            return false;
        }
        let first = self.vectors.len();
        if !header.is_empty() {
            let Some(header) = self.keep(header) else { return false };
            self.vectors.push(header);
        }
        self.vectors.extend(segments.iter().map(Segment::again));
        self.staged.push(Staged { way, first, count: self.vectors.len() - first });
        true
    }

    /// Appends segments to the last transfer. False: there is no room for them.
    pub(super) fn extend(&mut self, segments: &[Segment]) -> bool {
        let Some(last) = self.staged.last_mut() else { return false };
        if self.vectors.len() + segments.len() > Self::SEGMENTS_MAX {
            return false;
        }
        self.vectors.extend(segments.iter().map(Segment::again));
        last.count += segments.len();
        true
    }

    /// Forgets them all.
    pub(super) fn clear(&mut self) {
        self.staged.clear();
        self.vectors.clear();
    }

    /// Copies a header to where it stays until the batch is emptied.
    fn keep(&mut self, header: &[u8]) -> Option<Segment> {
        if self.headers.is_none() {
            self.headers = Mapping::owned(Self::TRANSFERS_MAX * Self::HEADER_MAX).ok();
            self.vectors.reserve(Self::SEGMENTS_MAX);
        }
        if header.len() > Self::HEADER_MAX {
            return None;
        }
        let at = self.staged.len() * Self::HEADER_MAX;
        let place = self.headers.as_ref()?.lend(at, header.len())?;
        place.write(0, header);
        Some(place)
    }

    pub(super) fn staged(&self) -> &[Staged] {
        &self.staged
    }

    /// Header and segments of a transfer, in the layout of iovecs.
    pub(super) fn vectors(&self, staged: &Staged) -> &[Segment] {
        self.vectors.get(staged.first..staged.first + staged.count).unwrap_or(&[])
    }
}
