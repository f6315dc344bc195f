//! A block driver (virtio 1.4, 5.2) on top of a queue.

mod disk;
mod layout;
mod operation;

use std::collections::HashMap;

use virtio_spec::block::{RequestHeader, Status};
use virtio_spec::observer::BlockRequest;

pub use self::disk::Disk;
pub use self::layout::{Cut, Layout};
pub use self::operation::Operation;
use crate::{Buffer, Error, Memory, Part, Queue, Result, Token};

/// What the status byte is before the device writes it: no status that exists.
const NO_STATUS: u8 = 0xff;

/// Block requests in a queue. Nothing here waits or kicks: see [`Disk`] for that.
#[derive(Debug)]
pub struct BlockQueue {
    queue: Queue,
    memory: Memory,
    /// Of pieces that hold at least so many bytes.
    alignment: u64,
    pending: HashMap<Token, Pending>,
}

/// A request in flight with the buffers that belong to it.
#[derive(Debug)]
struct Pending {
    operation: Operation,
    /// Kept allocated while the device may read them.
    _readable: Vec<Buffer>,
    writable: Vec<Buffer>,
}

/// A request that the device has used.
#[derive(Debug)]
pub struct Done {
    /// Names the request.
    pub token: Token,
    /// The request.
    pub operation: Operation,
    /// The status byte.
    pub status: u8,
    /// What the device wrote before the status byte.
    pub data: Vec<u8>,
    /// Bytes that the device says it wrote, the status byte included; `None` in an in-order batch
    /// of which the device named only a later request.
    pub written: Option<u32>,
}

impl Done {
    /// The data, if the request ended well.
    ///
    /// # Errors
    /// [`Error::Status`] for any other status.
    pub fn into_data(self) -> Result<Vec<u8>> {
        let status = Status::from_u8(self.status);
        if status == Some(Status::Ok) {
            return Ok(self.data);
        }
        let operation = self.operation.to_string();
        Err(Error::Status { operation, status, number: self.status })
    }
}

impl BlockQueue {
    /// Block requests in this queue, with their buffers in this memory.
    #[must_use]
    pub fn new(queue: Queue, memory: &Memory) -> Self {
        Self { queue, memory: memory.clone(), alignment: 16, pending: HashMap::new() }
    }

    /// The same with data at multiples of so many bytes, a power of two, as a guest's page cache
    /// has it. Pieces that are smaller lie anywhere.
    #[must_use]
    pub fn with_alignment(mut self, alignment: u64) -> Self {
        self.alignment = alignment;
        self
    }

    /// Puts a request into the queue. The device sees it after [`publish`](Self::publish).
    ///
    /// # Errors
    /// [`Error::QueueFull`], [`Error::NoRoom`].
    pub fn submit(&mut self, operation: Operation, layout: &Layout) -> Result<Token> {
        let (head, room) = (operation.readable_bytes(), operation.writable_len() + 1);
        let readable = self.buffers(&layout.cut_readable(head.len()))?;
        let writable = self.buffers(&layout.cut_writable(room))?;
        scatter(&head, &readable);
        for buffer in &writable {
            buffer.fill(NO_STATUS);
        }
        let parts: Vec<Part> = readable
            .iter()
            .map(Buffer::readable)
            .chain(writable.iter().map(Buffer::writable))
            .collect();
        let token = self.queue.add(&parts, layout.placement)?;
        let pending = Pending { operation, _readable: readable, writable };
        self.pending.insert(token, pending);
        Ok(token)
    }

    fn buffers(&self, sizes: &[usize]) -> Result<Vec<Buffer>> {
        let align = |size| if size as u64 >= self.alignment { self.alignment } else { 16 };
        sizes.iter().map(|&size| self.memory.alloc_aligned(size, align(size))).collect()
    }

    /// Shows the device the requests that were submitted; `true` when it wants a kick for them.
    pub fn publish(&mut self) -> bool {
        self.queue.publish()
    }

    /// The next request that the device has used.
    ///
    /// # Errors
    /// [`Error::Device`] when what the device wrote makes no sense: among others, a read that
    /// ended well without all of its bytes being written.
    pub fn reap(&mut self) -> Result<Option<Done>> {
        let Some(used) = self.queue.reap()? else {
            return Ok(None);
        };
        let Some(pending) = self.pending.remove(&used.token) else {
            return Err(Error::Device(format!("it used {:?}, which is no request", used.token)));
        };
        let mut data: Vec<u8> =
            pending.writable.iter().flat_map(|buffer| buffer.to_vec()).collect();
        let status = data.pop().unwrap_or(NO_STATUS);
        let written = (!used.batched).then_some(used.written);
        let done = Done { token: used.token, operation: pending.operation, status, data, written };
        self.show(&done)?;
        done.check()?;
        Ok(Some(done))
    }

    fn show(&self, done: &Done) -> Result<()> {
        let Some(used_len) = done.written else {
            return Ok(());
        };
        let data_out = done.operation.readable_bytes().len().saturating_sub(RequestHeader::SIZE);
        self.queue.show_request(BlockRequest {
            header: done.operation.header(),
            data_out: data_out as u64,
            data_in: done.data.len() as u64,
            segments: done.operation.segments(),
            has_status: true,
            status: done.status,
            used_len,
        })
    }

    /// Whether [`reap`](Self::reap) would find something.
    #[must_use]
    pub fn has_used(&self) -> bool {
        self.queue.has_used()
    }

    /// Requests that were submitted and not yet reaped.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.pending.len()
    }

    /// The queue itself.
    #[must_use]
    pub fn queue(&mut self) -> &mut Queue {
        &mut self.queue
    }

    /// Guest memory.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.memory
    }
}

impl Done {
    /// Checks what the device says against what it has to say (virtio 1.4, 2.7.8.2, 5.2.6).
    ///
    /// The used length counts from the first byte that could be written. So a request that ended
    /// well has filled its buffer, or a device without contents has written nothing but the
    /// status, for which the length is 0 unless the status is all there is.
    fn check(&self) -> Result<()> {
        if self.status == NO_STATUS {
            return Err(Error::Device(format!("it wrote no status for {}", self.operation)));
        }
        let all = self.data.len() + 1;
        let Some(written) = self.written.map(|written| written as usize) else {
            return Ok(());
        };
        let ok = self.status == Status::Ok.number();
        if (ok && written != all && written != 0) || (self.data.is_empty() && written != 1) {
            return Err(Error::Device(format!(
                "it says that it wrote {written} bytes for {}, which takes {all}",
                self.operation
            )));
        }
        Ok(())
    }
}

/// Copies bytes into buffers, one after the other.
fn scatter(mut bytes: &[u8], buffers: &[Buffer]) {
    for buffer in buffers {
        let (piece, rest) = bytes.split_at(buffer.len().min(bytes.len()));
        buffer.write(0, piece);
        bytes = rest;
    }
}

#[cfg(test)]
#[path = "block_test.rs"]
mod tests;
