//! Discarding, zeroing and erasing, one range after the other.
//!
//! Zeroing has three methods, tried in this order: give up the range's space (only if the driver
//! allows it), let the medium zero it, write zeroes. A method that the medium refuses is not tried
//! again, for this range or any other.

use framework::engine::{Allocate, BounceBuffer, Io, Op};
use rustix::io::Errno;
use virtio_spec::block::Status;

use crate::disk::{Disk, MAIN};
use crate::image::Medium;
use crate::pending::{Started, Tools};
use crate::request::{EraseKind, Extent, Range};

/// How a range is dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// Zero it by giving up its space.
    Unmap,
    /// Let the medium zero it.
    Zero,
    /// Write zeroes over it.
    Write,
    /// Give up its space, whatever it reads as then.
    Discard,
    /// Erase it beyond recovery.
    SecureErase,
}

/// A discard, write-zeroes or secure-erase request, and how far it has come.
#[derive(Debug)]
pub(crate) struct Erase {
    kind: EraseKind,
    pub(crate) ranges: Vec<Range>,
    /// The range that is next.
    next: usize,
    /// The range under way.
    step: Step,
    pub(crate) buffer: Option<BounceBuffer>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Between two ranges.
    Between,
    /// At what is left of a range.
    Range(Extent, Method),
    /// Making the zeroes durable, at the end.
    Sync,
    /// All is done.
    Done,
}

impl Erase {
    pub(crate) fn new(kind: EraseKind, ranges: Vec<Range>) -> Self {
        Erase { kind, ranges, next: 0, step: Step::Between, buffer: None }
    }

    /// Begins the next range, or the next piece of one.
    pub(crate) fn start<I: Io>(&mut self, tools: &mut Tools<'_, I>) -> Started {
        if self.step == Step::Between {
            self.step = self.next_step(tools.disk);
        }
        match self.step {
            Step::Range(rest, Method::Write) => self.start_writing(tools, rest),
            Step::Range(rest, method) => {
                let op = operation(tools.disk.medium(), method, rest);
                tools.io.submit(&op, tools.token).into()
            }
            Step::Sync => tools.io.submit(&Op::Sync { file: MAIN }, tools.token).into(),
            Step::Between | Step::Done => Started::Finished(Status::Ok),
        }
    }

    /// The next range with something to do in it; then, if need be, making it all durable.
    fn next_step(&mut self, disk: &Disk) -> Step {
        while let Some(range) = self.ranges.get(self.next) {
            self.next += 1;
            let method = self.method(disk, range);
            let extent = match method {
                Method::Discard => whole_blocks(range.extent, disk.block_size()),
                _ => range.extent,
            };
            if extent.len > 0 {
                return Step::Range(extent, method);
            }
        }
        // Zeroes are data: in writethrough mode they are durable when the request is complete.
        if self.kind == EraseKind::WriteZeroes && disk.is_durable() {
            Step::Sync
        } else {
            Step::Done
        }
    }

    fn method(&self, disk: &Disk, range: &Range) -> Method {
        match self.kind {
            EraseKind::Discard => Method::Discard,
            EraseKind::SecureErase => Method::SecureErase,
            EraseKind::WriteZeroes => {
                // Block devices zero whole blocks alone; files take every byte.
                let blocks = disk.medium() == Medium::File
                    || whole_blocks(range.extent, disk.block_size()) == range.extent;
                if blocks && range.unmap && disk.may(Method::Unmap) {
                    Method::Unmap
                } else if blocks && disk.may(Method::Zero) {
                    Method::Zero
                } else {
                    Method::Write
                }
            }
        }
    }

    /// Begins to write zeroes over the next piece, of at most a buffer's size.
    fn start_writing<I: Io>(&mut self, tools: &mut Tools<'_, I>, rest: Extent) -> Started {
        let whole = usize::try_from(rest.len).unwrap_or(usize::MAX);
        let buffer = match tools.io.bounce().lend(whole) {
            Ok(Some(buffer)) => buffer,
            Ok(None) => return Started::NoBuffer,
            Err(error) => {
                tracing::error!("no buffer to write zeroes from: {error}");
                return Started::Finished(Status::IoErr);
            }
        };
        buffer.bytes().zero();
        let file = tools.disk.file_for(rest.offset, buffer.bytes().len() as u64);
        let from = buffer.segments();
        let op = Op::Write { file, offset: rest.offset, from, durable: false };
        let submitted = tools.io.submit(&op, tools.token);
        self.buffer = Some(buffer);
        submitted.into()
    }

    /// A step has ended; gives the request's status if it was the last.
    pub(crate) fn ended<I: Io>(
        &mut self,
        tools: &mut Tools<'_, I>,
        result: Result<u32, Errno>,
    ) -> Option<Status> {
        if let Some(buffer) = self.buffer.take() {
            tools.io.bounce().give_back(buffer);
        }
        match (self.step, result) {
            (Step::Range(rest, Method::Write), Ok(n)) if n > 0 => {
                let done = u64::from(n).min(rest.len);
                let rest = Extent { offset: rest.offset + done, len: rest.len - done };
                self.step = match rest.len {
                    0 => Step::Between,
                    _ => Step::Range(rest, Method::Write),
                };
                None
            }
            (Step::Range(rest, Method::Write), Ok(_)) => self.failed(tools, rest, Errno::NOSPC),
            (Step::Range(..), Ok(_)) => {
                self.step = Step::Between;
                None
            }
            (Step::Range(rest, method), Err(Errno::OPNOTSUPP)) => self.refused(tools, rest, method),
            (Step::Range(rest, _), Err(errno)) => self.failed(tools, rest, errno),
            (Step::Sync | Step::Between | Step::Done, Ok(_)) => Some(Status::Ok),
            (Step::Sync | Step::Between | Step::Done, Err(errno)) => {
                self.failed(tools, Extent { offset: 0, len: 0 }, errno)
            }
        }
    }

    /// The medium does not do it in this way: takes the next one that it may do.
    fn refused<I>(&mut self, tools: &Tools<'_, I>, rest: Extent, method: Method) -> Option<Status> {
        tools.disk.refused(method);
        let instead = match method {
            Method::Unmap if tools.disk.may(Method::Zero) => Method::Zero,
            Method::Unmap | Method::Zero => Method::Write,
            Method::Write => return self.failed(tools, rest, Errno::OPNOTSUPP),
            Method::Discard | Method::SecureErase => return Some(Status::Unsupported),
        };
        self.step = Step::Range(rest, instead);
        None
    }

    #[cold]
    fn failed<I>(&self, tools: &Tools<'_, I>, at: Extent, errno: Errno) -> Option<Status> {
        let action = match self.kind {
            EraseKind::Discard => "discard a range of",
            EraseKind::WriteZeroes => "write zeroes to",
            EraseKind::SecureErase => "securely erase a range of",
        };
        tools.disk.complain(action, at.offset, errno);
        Some(Status::IoErr)
    }
}

/// The operation that does this on this medium.
fn operation(medium: Medium, method: Method, at: Extent) -> Op<'static> {
    let (file, Extent { offset, len }) = (MAIN, at);
    let allocate = |mode| Op::Allocate { file, mode, offset, len };
    let zero = |unmap| Op::ZeroOut { file, offset, len, unmap };
    match (medium, method) {
        (_, Method::SecureErase) => Op::SecureErase { file, offset, len },
        (Medium::BlockDevice, Method::Discard) => Op::Discard { file, offset, len },
        (Medium::BlockDevice, Method::Unmap) => zero(true),
        (Medium::BlockDevice, Method::Zero | Method::Write) => zero(false),
        (_, Method::Discard | Method::Unmap) => allocate(Allocate::PunchHole),
        (_, Method::Zero | Method::Write) => allocate(Allocate::ZeroRange),
    }
}

/// What a range has of whole blocks; empty if it has none.
fn whole_blocks(extent: Extent, block: u32) -> Extent {
    let block = u64::from(block).max(1);
    let end = extent.offset + extent.len;
    let last = end - end % block;
    let first = extent.offset.checked_next_multiple_of(block).unwrap_or(last);
    Extent { offset: first, len: last.saturating_sub(first) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whole_blocks_are_inside_and_aligned(
            offset in 0..1_u64 << 40, len in 0..1_u64 << 31, shift in 9..13_u32,
        ) {
            let block = 1_u32 << shift;
            let inner = whole_blocks(Extent { offset, len }, block);
            prop_assert!((inner.offset | inner.len).is_multiple_of(u64::from(block)) || inner.len == 0);
            if inner.len > 0 {
                prop_assert!(inner.offset >= offset && inner.offset + inner.len <= offset + len);
            }
            // Nothing more would fit.
            prop_assert!(len - inner.len < 2 * u64::from(block));
        }
    }
}
