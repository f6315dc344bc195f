//! Memory mapped from a file descriptor, and unmapped when it is dropped.
#![expect(unsafe_code, reason = "mmap and munmap")]

use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::mm::{MapFlags, ProtFlags};

use super::fault;
use crate::Error;

/// A shared mapping of a file's bytes (guest memory, in-flight region, dirty log), or plain owned
/// memory where there is no file (bounce buffers, tests under Miri).
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Mapped from a file; a SIGBUS inside is caught by the guard.
    Shared(fault::Guard),
    /// From the allocator, aligned to 4096.
    Owned,
}

// SAFETY: the bytes are accessed by raw copies and atomics alone, from any thread.
unsafe impl Send for Mapping {}
// SAFETY: as for Send: no method gives out a reference to the bytes.
unsafe impl Sync for Mapping {}

/// The alignment of owned memory, enough for direct I/O on every disk.
const OWNED_ALIGN: usize = 4096;

impl Mapping {
    /// Maps `len` bytes of `fd` from `offset` (bytes, a multiple of the page size), shared, for
    /// reading and writing.
    ///
    /// # Errors
    /// A length of zero, a range past the file's end, or whatever `mmap` refuses.
    pub fn shared(fd: &OwnedFd, offset: u64, len: u64) -> Result<Self, Error> {
        let fail = |why: String| Error::Map { len, offset, why };
        let size = usize::try_from(len).ok().filter(|n| *n > 0);
        let size = size.ok_or_else(|| fail("the length is not usable".into()))?;
        let stat = rustix::fs::fstat(fd).map_err(|e| fail(e.to_string()))?;
        let end = offset.checked_add(len).ok_or_else(|| fail("it wraps around".into()))?;
        if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file()
            && end > u64::try_from(stat.st_size).unwrap_or(0)
        {
            return Err(fail(format!("the file has only {} bytes", stat.st_size)));
        }
        let page = usize::try_from(stat.st_blksize).unwrap_or(4096).max(4096);
        let flags = MapFlags::SHARED | MapFlags::NORESERVE;
        // SAFETY: the kernel chooses the address, so nothing that exists is replaced.
        let base = unsafe {
            let prot = ProtFlags::READ | ProtFlags::WRITE;
            rustix::mm::mmap(std::ptr::null_mut(), size, prot, flags, fd.as_fd(), offset)
        };
        let base = base.map_err(|e| fail(e.to_string()))?;
        let base = NonNull::new(base.cast()).ok_or_else(|| fail("mapped at zero".into()))?;
        match fault::Guard::new(base.as_ptr() as usize, size, page) {
            Some(guard) => Ok(Mapping { base, len: size, kind: Kind::Shared(guard) }),
            None => {
                // SAFETY: mapped just above, and nobody has seen the address yet.
                let _ = unsafe { rustix::mm::munmap(base.as_ptr().cast(), size) };
                Err(fail("too many regions are mapped in this process".into()))
            }
        }
    }

    /// Owned memory of `len` zero bytes, aligned to 4096.
    ///
    /// # Errors
    /// A length of zero, or no memory.
    pub fn owned(len: usize) -> Result<Self, Error> {
        let fail = |why: &str| Error::Map { len: len as u64, offset: 0, why: why.into() };
        let layout = std::alloc::Layout::from_size_align(len, OWNED_ALIGN);
        let layout = layout.ok().filter(|l| l.size() > 0).ok_or_else(|| fail("bad length"))?;
        // SAFETY: the layout's size is not zero.
        let base = NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) });
        Ok(Mapping { base: base.ok_or_else(|| fail("no memory"))?, len, kind: Kind::Owned })
    }

    /// A memfd of `len` bytes and its mapping: a region that can be handed to the front-end.
    ///
    /// # Errors
    /// What `memfd_create`, `ftruncate` or `mmap` refuse.
    pub fn memfd(name: &str, len: u64) -> Result<(OwnedFd, Self), Error> {
        let fail = |e: rustix::io::Errno| Error::Map { len, offset: 0, why: e.to_string() };
        let flags = rustix::fs::MemfdFlags::CLOEXEC | rustix::fs::MemfdFlags::ALLOW_SEALING;
        let fd = rustix::fs::memfd_create(name, flags).map_err(fail)?;
        rustix::fs::ftruncate(&fd, len).map_err(fail)?;
        let seals = rustix::fs::SealFlags::SHRINK | rustix::fs::SealFlags::GROW;
        rustix::fs::fcntl_add_seals(&fd, seals).map_err(fail)?;
        let mapping = Mapping::shared(&fd, 0, len)?;
        Ok((fd, mapping))
    }

    /// The length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never true: a mapping has at least one byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether an access has hit a page that the file no longer has (SIGBUS): zeroes stand there
    /// now, and whoever uses this memory must give up on it.
    pub fn is_broken(&self) -> bool {
        match &self.kind {
            Kind::Shared(guard) => guard.is_broken(),
            Kind::Owned => false,
        }
    }

    /// Copies out of the mapping from `offset` on; says how many bytes there were.
    pub fn read(&self, offset: usize, to: &mut [u8]) -> usize {
        self.lend(0, self.len).map_or(0, |all| all.read(offset, to))
    }

    /// Copies into the mapping from `offset` on; says how many bytes fitted.
    pub fn write(&self, offset: usize, from: &[u8]) -> usize {
        self.lend(0, self.len).map_or(0, |all| all.write(offset, from))
    }

    /// A host pointer to `len` bytes at `offset`, if they are inside.
    pub(crate) fn pointer(&self, offset: usize, len: usize) -> Option<*mut u8> {
        let end = offset.checked_add(len)?;
        (end <= self.len).then(|| self.base.as_ptr().wrapping_add(offset))
    }

    /// A segment of `len` bytes at `offset`. The caller keeps this mapping for as long.
    pub(crate) fn lend(&self, offset: usize, len: usize) -> Option<super::Segment> {
        let base = self.pointer(offset, len)?;
        // SAFETY: inside the mapping, which the pool that lends keeps until its engine is idle.
        Some(unsafe { super::Segment::new(base, len) })
    }

    /// Sets bits in one byte, atomically: other processes do the same. Outside: nothing.
    pub(super) fn set_bits(&self, offset: usize, bits: u8) {
        let Some(at) = self.pointer(offset, 1) else { return };
        // SAFETY: inside the mapping, and every writer of these bytes uses atomics.
        unsafe { AtomicU8::from_ptr(at) }.fetch_or(bits, Ordering::Release);
    }

    /// Where the mapping starts in this process.
    pub(crate) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        match &mut self.kind {
            Kind::Shared(guard) => {
                guard.release();
                // SAFETY: this value owns the mapping, and rings and segments that point into it
                // hold the table, hence this value, alive.
                let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
            }
            Kind::Owned => {
                // SAFETY: the very size and alignment that `owned` checked and allocated with.
                let layout =
                    unsafe { std::alloc::Layout::from_size_align_unchecked(self.len, OWNED_ALIGN) };
                // SAFETY: allocated in `owned` with this layout, and freed once, here.
                unsafe { std::alloc::dealloc(self.base.as_ptr(), layout) };
            }
        }
    }
}
