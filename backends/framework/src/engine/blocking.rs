//! Operations as plain system calls: on a pool's threads, or on the worker where they never wait.
#![expect(unsafe_code, reason = "system calls on guest memory, and ioctls of block devices")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::batch::{Batch, Staged, Way};
use super::{Allocate, FileIndex, Op};
use crate::memory::Segment;

/// The most segments that one call takes (UIO_MAXIOV). More are a short transfer.
pub(super) const MOST_SEGMENTS: usize = 1024;

/// An [`Op`] without its file and its segments.
#[derive(Clone, Copy, Debug)]
pub(super) enum Call {
    Read { offset: u64 },
    Write { offset: u64, durable: bool },
    Sync,
    Allocate { mode: Allocate, offset: u64, len: u64 },
    Discard { offset: u64, len: u64 },
    ZeroOut { offset: u64, len: u64, unmap: bool },
    SecureErase { offset: u64, len: u64 },
}

impl Op<'_> {
    /// The operation in its three parts.
    #[inline]
    pub(super) fn parts(&self) -> (FileIndex, Call, &[Segment]) {
        match *self {
            Op::Read { file, offset, into } => (file, Call::Read { offset }, into),
            Op::Write { file, offset, from, durable } => {
                (file, Call::Write { offset, durable }, from)
            }
            Op::Sync { file } => (file, Call::Sync, &[]),
            Op::Allocate { file, mode, offset, len } => {
                (file, Call::Allocate { mode, offset, len }, &[])
            }
            Op::Discard { file, offset, len } => (file, Call::Discard { offset, len }, &[]),
            Op::ZeroOut { file, offset, len, unmap } => {
                (file, Call::ZeroOut { offset, len, unmap }, &[])
            }
            Op::SecureErase { file, offset, len } => (file, Call::SecureErase { offset, len }, &[]),
        }
    }
}

/// Carries out a call, however long it takes. The result is that of [`super::Completion`].
///
/// # Errors
/// What the kernel says; never EINTR.
pub(super) fn perform(file: &OwnedFd, call: Call, segments: &[Segment]) -> Result<u32, Errno> {
    loop {
        match attempt(file, call, segments) {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Reads what can be read without waiting. None: nothing can.
pub(super) fn try_read(
    file: &OwnedFd,
    offset: u64,
    segments: &[Segment],
) -> Option<Result<u32, Errno>> {
    match read(file, offset, segments, libc::RWF_NOWAIT) {
        Err(Errno::AGAIN | Errno::INTR | Errno::OPNOTSUPP) => None,
        result => Some(result),
    }
}

/// The modes of fallocate(2) that do what an [`Allocate`] says; the file's size is never changed.
pub(super) fn fallocate_flags(mode: Allocate) -> FallocateFlags {
    FallocateFlags::KEEP_SIZE
        | match mode {
            Allocate::PunchHole => FallocateFlags::PUNCH_HOLE,
            Allocate::ZeroRange => FallocateFlags::ZERO_RANGE,
        }
}

fn attempt(file: &OwnedFd, call: Call, segments: &[Segment]) -> Result<u32, Errno> {
    let zero = |mode, offset, len| rustix::fs::fallocate(file, fallocate_flags(mode), offset, len);
    match call {
        Call::Read { offset } => return read(file, offset, segments, 0),
        Call::Write { offset, durable } => return write(file, offset, segments, durable),
        Call::Sync => rustix::fs::fdatasync(file),
        Call::Allocate { mode, offset, len } => zero(mode, offset, len),
        // On a block device, a punched hole is what reads as zeroes and may be deallocated. It is
        // refused where the device cannot do that, and then the zeroes are written.
        Call::ZeroOut { offset, len, unmap: true } => {
            match zero(Allocate::PunchHole, offset, len) {
                Err(Errno::OPNOTSUPP) => zero(Allocate::ZeroRange, offset, len),
                result => result,
            }
        }
        Call::ZeroOut { offset, len, unmap: false } => zero(Allocate::ZeroRange, offset, len),
        Call::Discard { offset, len } => range_ioctl(file, BLKDISCARD, offset, len),
        Call::SecureErase { offset, len } => range_ioctl(file, BLKSECDISCARD, offset, len),
    }?;
    Ok(0)
}

fn read(file: &OwnedFd, offset: u64, segments: &[Segment], flags: i32) -> Result<u32, Errno> {
    let (first, count, offset) = vector(segments, offset)?;
    let fd = file.as_raw_fd();
    if let ([one], 0) = (segments, flags) {
        // The usual case, and the kernel has no vector to copy in and to check.
        // SAFETY: as below, for a single segment.
        return transferred(unsafe { libc::pread(fd, one.base().cast(), one.len(), offset) });
    }
    // SAFETY: `first` points to `count` iovecs; the memory behind each is mapped for as long as its
    // segment is there (`Segment::new`), and is shared memory that no Rust reference covers.
    transferred(unsafe { libc::preadv2(fd, first, count, offset, flags) })
}

fn write(file: &OwnedFd, offset: u64, segments: &[Segment], durable: bool) -> Result<u32, Errno> {
    let (first, count, offset) = vector(segments, offset)?;
    let flags = if durable { libc::RWF_DSYNC } else { 0 };
    let fd = file.as_raw_fd();
    // SAFETY: as in `read`.
    transferred(unsafe { libc::pwritev2(fd, first, count, offset, flags) })
}

/// Carries out one transfer of a batch.
///
/// # Errors
/// What the kernel says; never EINTR.
pub(super) fn transfer(file: &OwnedFd, staged: &Staged, batch: &Batch) -> Result<u32, Errno> {
    let vectors = batch.vectors(staged);
    let (first, Ok(count)) = (vectors.as_ptr().cast(), libc::c_int::try_from(vectors.len())) else {
        return Err(Errno::INVAL);
    };
    loop {
        let fd = file.as_raw_fd();
        let n = match staged.way {
            // SAFETY: as in `read`; the batch keeps the header.
            Way::Send => unsafe { libc::writev(fd, first, count) },
            // SAFETY: as in `read`.
            Way::Receive => unsafe { libc::readv(fd, first, count) },
        };
        match transferred(n) {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Segments and an offset as preadv and pwritev take them: a segment has the layout of an iovec.
fn vector(
    segments: &[Segment],
    offset: u64,
) -> Result<(*const libc::iovec, libc::c_int, i64), Errno> {
    let count = libc::c_int::try_from(segments.len().min(MOST_SEGMENTS));
    let offset = i64::try_from(offset);
    let (Ok(count), Ok(offset)) = (count, offset) else { return Err(Errno::INVAL) };
    Ok((segments.as_ptr().cast(), count, offset))
}

fn transferred(n: isize) -> Result<u32, Errno> {
    u32::try_from(n).map_err(|_| last_error())
}

/// `_IO(0x12, 119)`: discard a range of a block device.
const BLKDISCARD: libc::Ioctl = 0x1277;

/// `_IO(0x12, 125)`: erase a range of a block device securely.
const BLKSECDISCARD: libc::Ioctl = 0x127d;

/// An ioctl of block devices whose argument is a range.
fn range_ioctl(file: &OwnedFd, request: libc::Ioctl, offset: u64, len: u64) -> Result<(), Errno> {
    let range = [offset, len];
    // SAFETY: both requests read two u64 at the pointer and keep nothing.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), request, range.as_ptr()) };
    if result == 0 { Ok(()) } else { Err(last_error()) }
}

fn last_error() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}
