//! One function for each kind of entry that the engine submits.
#![expect(unsafe_code, reason = "vouches for the addresses in entries")]

use io_uring::types::{CancelBuilder, Fixed, FsyncFlags};
use io_uring::{opcode, squeue};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use super::files::File;
use super::queue::{Queue, Sound};
use crate::engine::batch::Way;
use crate::engine::blocking::fallocate_flags;
use crate::engine::tag::Tag;
use crate::engine::{Allocate, Direction};
use crate::memory::Segment;

/// The most bytes that Linux transfers at once (MAX_RW_COUNT). More is a short transfer.
const MOST_BYTES: u32 = 0x7fff_f000;

/// `_IO(0x12, 0)`: the block layer's discard, a command of its own since Linux 6.12.
const BLOCK_URING_CMD_DISCARD: u32 = 0x1200;

/// Reads into segments.
///
/// # Errors
/// EAGAIN: there is no room to keep so many segments. EINVAL: no file has such an offset.
#[inline]
pub(super) fn read(
    queue: &mut Queue<'_>,
    slot: u32,
    offset: u64,
    into: &[Segment],
    tag: Tag,
) -> Result<Sound, Errno> {
    let offset = checked(offset)?;
    let entry = match into {
        [one] => opcode::Read::new(Fixed(slot), one.base(), bytes(one)).offset(offset).build(),
        several => {
            let (first, count) = queue.iovecs(several)?;
            opcode::Readv::new(Fixed(slot), first, count).offset(offset).build()
        }
    };
    Ok(with_memory(entry, tag))
}

/// Writes from segments; `durable` as with O_DSYNC.
///
/// # Errors
/// As [`read`].
#[inline]
pub(super) fn write(
    queue: &mut Queue<'_>,
    slot: u32,
    offset: u64,
    from: &[Segment],
    durable: bool,
    tag: Tag,
) -> Result<Sound, Errno> {
    let offset = checked(offset)?;
    let flags = if durable { libc::RWF_DSYNC } else { 0 };
    let entry = match from {
        [one] => opcode::Write::new(Fixed(slot), one.base(), bytes(one))
            .offset(offset)
            .rw_flags(flags)
            .build(),
        several => {
            let (first, count) = queue.iovecs(several)?;
            opcode::Writev::new(Fixed(slot), first, count).offset(offset).rw_flags(flags).build()
        }
    };
    Ok(with_memory(entry, tag))
}

/// fdatasync.
pub(super) fn sync(slot: u32, tag: Tag) -> Sound {
    without_memory(opcode::Fsync::new(Fixed(slot)).flags(FsyncFlags::DATASYNC).build(), tag)
}

/// fallocate.
pub(super) fn allocate(slot: u32, mode: Allocate, offset: u64, len: u64, tag: Tag) -> Sound {
    let mode = fallocate_flags(mode).bits().cast_signed();
    without_memory(opcode::Fallocate::new(Fixed(slot), len).offset(offset).mode(mode).build(), tag)
}

/// Discards a range of a block device.
pub(super) fn discard(slot: u32, offset: u64, len: u64, tag: Tag) -> Sound {
    let mut command = [0; 16];
    let (length, _) = command.split_at_mut(8);
    length.copy_from_slice(&len.to_ne_bytes());
    let entry = opcode::UringCmd16::new(Fixed(slot), BLOCK_URING_CMD_DISCARD)
        .addr(Some(offset))
        .cmd(command)
        .build();
    without_memory(entry, tag)
}

/// Reports each time that the file becomes readable, until it is removed.
pub(super) fn watch(slot: u32, tag: Tag) -> Sound {
    let readable = EventFlags::IN.bits();
    without_memory(opcode::PollAdd::new(Fixed(slot), readable).multi(true).build(), tag)
}

/// Reports once that the file is ready.
pub(super) fn watch_once(slot: u32, direction: Direction, tag: Tag) -> Sound {
    let flags = match direction {
        Direction::Readable => EventFlags::IN | EventFlags::RDHUP,
        Direction::Writable => EventFlags::OUT,
    };
    without_memory(opcode::PollAdd::new(Fixed(slot), flags.bits()).build(), tag)
}

/// One transfer of a batch, whose vectors live until the batch is emptied.
pub(super) fn transfer(file: &File, way: Way, vectors: &[Segment], tag: Tag) -> Sound {
    let (slot, first) = (Fixed(file.slot), vectors.as_ptr().cast());
    let count = u32::try_from(vectors.len()).unwrap_or(0);
    let flags = if file.says_nowait { libc::RWF_NOWAIT } else { 0 };
    let entry = match way {
        Way::Receive => {
            opcode::Readv::new(slot, first, count).offset(STREAM).rw_flags(flags).build()
        }
        Way::Send => opcode::Writev::new(slot, first, count).offset(STREAM).rw_flags(flags).build(),
    };
    with_memory(entry, tag)
}

/// The offset of files that have none.
const STREAM: u64 = u64::MAX;

/// Ends the watch that has the tag `watch`.
pub(super) fn unwatch(watch: Tag, tag: Tag) -> Sound {
    without_memory(opcode::PollRemove::new(watch.encode()).build(), tag)
}

/// Ends everything that is under way in the ring. The result is how much that was.
pub(super) fn cancel_all(tag: Tag) -> Sound {
    without_memory(opcode::AsyncCancel2::new(CancelBuilder::any().all()).build(), tag)
}

/// An offset that is not one of io_uring's special values (-1 is the file's current position).
fn checked(offset: u64) -> Result<u64, Errno> {
    i64::try_from(offset).map(|_| offset).map_err(|_| Errno::INVAL)
}

fn bytes(segment: &Segment) -> u32 {
    u32::try_from(segment.len()).unwrap_or(MOST_BYTES).min(MOST_BYTES)
}

#[inline]
fn with_memory(entry: squeue::Entry, tag: Tag) -> Sound {
    // SAFETY: the address is that of a segment, which `Io::submit` demands to stay mapped until the
    // operation has ended; or it came from the queue's own `iovecs`.
    unsafe { Sound::new(entry.user_data(tag.encode())) }
}

fn without_memory(entry: squeue::Entry, tag: Tag) -> Sound {
    // SAFETY: no kind of entry that is passed here makes the kernel access our memory.
    unsafe { Sound::new(entry.user_data(tag.encode())) }
}
