//! A bounded pool of aligned buffers, for direct I/O from memory that is not aligned.

use std::sync::Arc;

use crate::Error;
use crate::memory::{Mapping, Segment};

/// A pool of equal buffers. It is made at its first use: most workers never need it.
#[derive(Debug)]
pub struct Bounce {
    buffer: usize,
    count: usize,
    memory: Option<Arc<Mapping>>,
    free: Vec<u16>,
}

/// A buffer lent from the pool, to be given back with [`Bounce::give_back`].
#[derive(Debug)]
#[must_use = "a buffer that is not given back is lost to the pool"]
pub struct BounceBuffer {
    index: u16,
    segment: [Segment; 1],
    part: [Segment; 1],
}

impl BounceBuffer {
    /// The buffer as the one segment of an operation, aligned to 4096.
    pub fn segments(&self) -> &[Segment] {
        &self.segment
    }

    /// The buffer's bytes.
    pub fn bytes(&self) -> &Segment {
        let [segment] = &self.segment;
        segment
    }

    /// `len` bytes of the buffer from `start` on, or as many as there are, as the one segment of an
    /// operation.
    pub fn part(&mut self, start: usize, len: usize) -> &[Segment] {
        let mut part = self.bytes().again();
        part.advance(start);
        part.truncate(len);
        self.part = [part];
        &self.part
    }
}

impl Bounce {
    /// A pool of `count` buffers of `buffer` bytes each; no memory is taken yet.
    pub fn new(buffer: usize, count: u16) -> Self {
        Bounce { buffer, count: count.into(), memory: None, free: Vec::new() }
    }

    /// The size of each buffer, bytes.
    pub fn buffer_size(&self) -> usize {
        self.buffer
    }

    /// Lends a buffer, cut to `len` bytes (at most [`Bounce::buffer_size`]). None: all are lent.
    ///
    /// # Errors
    /// When there is no memory for the pool.
    pub fn lend(&mut self, len: usize) -> Result<Option<BounceBuffer>, Error> {
        if self.memory.is_none() {
            self.memory = Some(Arc::new(Mapping::owned(self.buffer.saturating_mul(self.count))?));
            self.free = (0..u16::try_from(self.count).unwrap_or(u16::MAX)).rev().collect();
        }
        let (Some(memory), Some(index)) = (&self.memory, self.free.pop()) else { return Ok(None) };
        let len = len.min(self.buffer);
        let segment = memory.lend(usize::from(index).saturating_mul(self.buffer), len);
        Ok(segment.map(|segment| BounceBuffer {
            index,
            segment: [segment],
            part: [Segment::EMPTY],
        }))
    }

    /// Takes a buffer back.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a buffer is given back once: it is consumed"
    )]
    pub fn give_back(&mut self, buffer: BounceBuffer) {
        self.free.push(buffer.index);
    }

    /// The pool's memory, which an engine keeps until its last operation has ended.
    pub(crate) fn memory(&self) -> Option<&Arc<Mapping>> {
        self.memory.as_ref()
    }
}
