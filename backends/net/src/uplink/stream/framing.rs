//! Frames in a stream of bytes: each one behind its length, 4 bytes, the first the highest. So do
//! passt, gvproxy and QEMU's `-netdev stream`.
//!
//! Two bounded buffers, one for each way. The bytes lie in memory that an engine reads into and writes
//! from, so that one system call moves as many frames as there are; nothing here makes one.

use framework::engine::BounceBuffer;
use framework::memory::Segment;

use crate::header::FRAME_MAX;

/// The length before each frame, bytes.
pub const PREFIX: usize = 4;
/// The size of a buffer, bytes: what an engine lends. With room for the longest frame it is never stuck.
pub const BUFFER: usize = 128 << 10;
const _: () = assert!(BUFFER >= PREFIX + FRAME_MAX);

/// What has been received and was not yet taken: frames, and at the end the beginning of one.
#[derive(Debug)]
pub struct Incoming {
    buffer: BounceBuffer,
    start: usize,
    end: usize,
}

/// What comes next in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A frame: where it is in the buffer, and its length, bytes.
    Frame {
        /// Its first byte.
        at: usize,
        /// Its length.
        length: usize,
    },
    /// Not all of it is there yet.
    Partial,
    /// A length that no frame has: what follows cannot be made sense of.
    Broken {
        /// The length.
        length: u32,
    },
}

impl Incoming {
    /// An empty buffer.
    pub fn new(buffer: BounceBuffer) -> Self {
        Incoming { buffer, start: 0, end: 0 }
    }

    /// What comes next; it stays there until [`Incoming::pop`].
    pub fn next(&self) -> Next {
        let there = self.end - self.start;
        let mut prefix = [0; PREFIX];
        if there < PREFIX || self.buffer.bytes().read(self.start, &mut prefix) < PREFIX {
            return Next::Partial;
        }
        let announced = u32::from_be_bytes(prefix);
        match usize::try_from(announced) {
            Ok(length) if (1..=FRAME_MAX).contains(&length) => {
                if there - PREFIX < length {
                    return Next::Partial;
                }
                Next::Frame { at: self.start + PREFIX, length }
            }
            _ => Next::Broken { length: announced },
        }
    }

    /// The next frame is dealt with.
    pub fn pop(&mut self) {
        if let Next::Frame { at, length } = self.next() {
            self.start = at + length;
        }
        if self.start == self.end {
            self.clear();
        }
    }

    /// The buffer, in which [`Next::Frame`] names places.
    pub fn bytes(&self) -> &Segment {
        self.buffer.bytes()
    }

    /// Where to read into. It is never empty while [`Incoming::next`] has no frame to give.
    pub fn room(&mut self) -> &[Segment] {
        self.end = move_to_front(&self.buffer, self.start, self.end);
        self.start = 0;
        self.buffer.part(self.end, usize::MAX)
    }

    /// So many bytes have been read into [`Incoming::room`].
    pub fn filled(&mut self, n: usize) {
        self.end = (self.end + n).min(self.buffer.bytes().len());
    }

    /// Forgets all of it: what comes next is another stream.
    pub fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }
}

/// What is to be sent: frames, the first of which may be sent in part.
#[derive(Debug)]
pub struct Outgoing {
    buffer: BounceBuffer,
    start: usize,
    end: usize,
}

impl Outgoing {
    /// An empty buffer.
    pub fn new(buffer: BounceBuffer) -> Self {
        Outgoing { buffer, start: 0, end: 0 }
    }

    /// Whether there is room for one more frame of whatever length.
    pub fn has_room(&self) -> bool {
        self.buffer.bytes().len() - self.end >= PREFIX + FRAME_MAX
    }

    /// Appends a frame. False: there is no room, or it is too long.
    pub fn push(&mut self, frame: &[Segment]) -> bool {
        let length = frame.iter().map(Segment::len).sum::<usize>();
        let Some(prefix) = u32::try_from(length).ok().filter(|_| length <= FRAME_MAX) else {
            return false;
        };
        if !self.has_room() {
            return false;
        }
        let bytes = self.buffer.bytes();
        self.end += bytes.write(self.end, &prefix.to_be_bytes());
        for segment in frame {
            self.end += bytes.copy_from(self.end, segment, 0);
        }
        true
    }

    /// What is to be sent next.
    pub fn unsent(&mut self) -> &[Segment] {
        self.buffer.part(self.start, self.end - self.start)
    }

    /// So many bytes of [`Outgoing::unsent`] have been sent.
    pub fn sent(&mut self, n: usize) {
        self.start = (self.start + n).min(self.end);
        if !self.has_room() || self.is_empty() {
            self.end = move_to_front(&self.buffer, self.start, self.end);
            self.start = 0;
        }
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Forgets all of it: what comes next is another stream.
    pub fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }
}

/// Moves what is in `start..end` to the front, and says where it ends there.
fn move_to_front(buffer: &BounceBuffer, start: usize, end: usize) -> usize {
    let length = end - start;
    if start > 0 && length > 0 {
        // What follows the end is moved along, and is of no account.
        buffer.bytes().copy_from(0, buffer.bytes(), start);
    }
    length
}

#[cfg(test)]
#[path = "framing_test.rs"]
mod tests;
