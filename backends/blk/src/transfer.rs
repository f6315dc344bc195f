//! Reading and writing: straight between guest memory and the image, or through a lent buffer
//! where direct I/O does not take the guest's memory.

use framework::engine::{BounceBuffer, Io, Op};
use framework::memory::Segment;
use framework::ring::{Chain, Ring};
use rustix::io::Errno;
use virtio_spec::block::Status;

use crate::disk::Route;
use crate::pending::{Started, Tools};
use crate::request::Extent;

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// To guest memory.
    Read,
    /// To the image.
    Write,
}

/// A read or a write, and how far it has come.
#[derive(Debug)]
pub(crate) struct Transfer {
    direction: Direction,
    /// What is left to do; the chain's data begins at the same byte.
    rest: Extent,
    /// Bytes done.
    done: u64,
    pub(crate) buffer: Option<BounceBuffer>,
}

impl Transfer {
    pub(crate) fn new(direction: Direction, extent: Extent) -> Self {
        Transfer { direction, rest: extent, done: 0, buffer: None }
    }

    /// Bytes that guest memory has received. They fit: see [`crate::request::SIZE_MAX`].
    pub(crate) fn written(&self) -> u32 {
        match self.direction {
            Direction::Read => u32::try_from(self.done).unwrap_or(0),
            Direction::Write => 0,
        }
    }

    /// Begins the transfer of all that is left.
    pub(crate) fn start<I: Io>(&mut self, tools: &mut Tools<'_, I>, chain: &Chain) -> Started {
        let Extent { offset, len } = self.rest;
        if len == 0 {
            return Started::Finished(Status::Ok);
        }
        let segments = self.segments(tools.ring, chain);
        let file = match tools.disk.route(offset, len, segments) {
            Route::Straight(file) => file,
            Route::Bounced => return self.start_bounced(tools, chain),
        };
        let durable = tools.disk.is_durable();
        let op = match self.direction {
            Direction::Read => Op::Read { file, offset, into: segments },
            Direction::Write => Op::Write { file, offset, from: segments, durable },
        };
        tools.io.submit(&op, tools.token).into()
    }

    /// Begins the transfer of the next piece, of at most a buffer's size.
    fn start_bounced<I: Io>(&mut self, tools: &mut Tools<'_, I>, chain: &Chain) -> Started {
        let offset = self.rest.offset;
        let whole = usize::try_from(self.rest.len).unwrap_or(usize::MAX);
        let buffer = match tools.io.bounce().lend(whole) {
            Ok(Some(buffer)) => buffer,
            Ok(None) => return Started::NoBuffer,
            Err(error) => {
                tracing::error!("no buffer for unaligned guest memory: {error}");
                return Started::Finished(Status::IoErr);
            }
        };
        let file = tools.disk.file_for(offset, buffer.bytes().len() as u64);
        let durable = tools.disk.is_durable();
        let op = match self.direction {
            Direction::Read => Op::Read { file, offset, into: buffer.segments() },
            Direction::Write => {
                copy_from_guest(tools.ring, chain, buffer.bytes());
                Op::Write { file, offset, from: buffer.segments(), durable }
            }
        };
        let submitted = tools.io.submit(&op, tools.token);
        self.buffer = Some(buffer);
        submitted.into()
    }

    /// So many bytes were transferred, or none for this reason.
    pub(crate) fn ended<I: Io>(
        &mut self,
        tools: &mut Tools<'_, I>,
        chain: &Chain,
        result: Result<u32, Errno>,
    ) -> Option<Status> {
        let buffer = self.buffer.take();
        let status = match result {
            // The image ends before the disk does: somebody has cut it.
            Ok(0) => self.failed(tools, Errno::NODATA),
            Ok(n) => self.advance(tools.ring, chain, n, buffer.as_ref()),
            Err(errno) => self.failed(tools, errno),
        };
        if let Some(buffer) = buffer {
            tools.io.bounce().give_back(buffer);
        }
        status
    }

    /// Goes on behind the first `n` bytes; a short transfer leaves a rest.
    fn advance(
        &mut self,
        ring: &mut Ring,
        chain: &Chain,
        n: u32,
        buffer: Option<&BounceBuffer>,
    ) -> Option<Status> {
        let done = u64::from(n).min(self.rest.len);
        let bytes = usize::try_from(done).unwrap_or(usize::MAX);
        match self.direction {
            Direction::Read => {
                if let Some(buffer) = buffer {
                    copy_to_guest(ring, chain, buffer.bytes(), bytes);
                }
                ring.advance_writable(chain, bytes);
            }
            Direction::Write => ring.advance_readable(chain, bytes),
        }
        self.done += done;
        self.rest = Extent { offset: self.rest.offset + done, len: self.rest.len - done };
        (self.rest.len == 0).then_some(Status::Ok)
    }

    #[cold]
    fn failed<I>(&self, tools: &Tools<'_, I>, errno: Errno) -> Option<Status> {
        let action = match self.direction {
            Direction::Read => "read",
            Direction::Write => "write",
        };
        tools.disk.complain(action, self.rest.offset, errno);
        Some(Status::IoErr)
    }

    fn segments<'a>(&self, ring: &'a Ring, chain: &Chain) -> &'a [Segment] {
        match self.direction {
            Direction::Read => ring.writable(chain),
            Direction::Write => ring.readable(chain),
        }
    }
}

/// Bytes copied at a time between guest memory and a lent buffer.
const COPY: usize = 4096;

fn copy_from_guest(ring: &Ring, chain: &Chain, buffer: &Segment) {
    let mut bytes = [0; COPY];
    let mut at = 0;
    while at < buffer.len() {
        let n = ring.read(chain, at, &mut bytes);
        let copied = bytes.get(..n).map_or(0, |bytes| buffer.write(at, bytes));
        if copied == 0 {
            return;
        }
        at += copied;
    }
}

fn copy_to_guest(ring: &mut Ring, chain: &Chain, buffer: &Segment, len: usize) {
    let mut bytes = [0; COPY];
    let mut at = 0;
    while at < len {
        let n = buffer.read(at, &mut bytes).min(len - at);
        let copied = bytes.get(..n).map_or(0, |bytes| ring.write(chain, at, bytes));
        if copied == 0 {
            return;
        }
        at += copied;
    }
}
