//! Access to guest memory: raw copies and atomics, never references to its bytes.
//!
//! The one module of this crate with unsafe code. Its obligation: every access stays within a
//! mapping that lives as long as the access. [`Mapping`] keeps the mapping alive, [`Area::at`]
//! checks the range. The device writes to the same memory at any time; so nothing here assumes
//! that bytes stay as they are.
#![expect(unsafe_code, reason = "guest memory is shared with another process and must be mapped")]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::{Error, Result};

/// A memfd and where it is mapped.
#[derive(Debug)]
pub(super) struct Mapping {
    base: NonNull<u8>,
    len: usize,
    file: OwnedFd,
}

// SAFETY: the mapping belongs to this value alone, and all accesses to it are raw copies or
// atomics, which may come from any thread.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `size` bytes of a new memfd from `offset` on.
    pub(super) fn new(size: u64, offset: u64) -> Result<Self> {
        let len = usize::try_from(size).map_err(|_| Error::NoRoom(usize::MAX))?;
        let file = memfd_create("guest-memory", MemfdFlags::CLOEXEC)
            .map_err(|error| Error::System("memfd_create", error.into()))?;
        ftruncate(&file, offset.saturating_add(size))
            .map_err(|error| Error::System("ftruncate of guest memory", error.into()))?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: without an address to map at, no existing mapping is replaced.
        let base =
            unsafe { mmap(ptr::null_mut(), len, protection, MapFlags::SHARED, &file, offset) };
        let base = base.map_err(|error| Error::System("mmap of guest memory", error.into()))?;
        match NonNull::new(base.cast()) {
            Some(base) => Ok(Self { base, len, file }),
            None => Err(Error::NoRoom(len)),
        }
    }

    pub(super) fn user_addr(&self) -> u64 {
        self.base.as_ptr().expose_provenance() as u64
    }

    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length in `new`, and every `Area` holds an `Arc` of
        // this value, so that none is left. A failure leaves it mapped, which harms nobody.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// A contiguous range of guest memory.
///
/// Offsets are from its start. An access beyond its end is a mistake of the test, not input, and
/// panics.
#[derive(Debug, Clone)]
pub struct Area {
    mapping: Arc<Mapping>,
    addr: u64,
    offset: usize,
    len: usize,
}

impl Area {
    /// The `len` bytes from `offset` on in `mapping`, which the guest has at `addr`.
    pub(super) fn new(mapping: Arc<Mapping>, addr: u64, offset: usize, len: usize) -> Self {
        let end = offset.checked_add(len);
        assert!(end.is_some_and(|end| end <= mapping.len), "area beyond its mapping");
        Self { mapping, addr, offset, len }
    }

    /// Guest address of its first byte.
    #[must_use]
    pub fn addr(&self) -> u64 {
        self.addr
    }

    /// User address of its first byte, as the front-end has told the back-end.
    #[must_use]
    pub fn user_addr(&self) -> u64 {
        self.mapping.user_addr() + self.offset as u64
    }

    /// Bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Pointer to the `len` bytes from `offset` on.
    fn at(&self, offset: usize, len: usize) -> *mut u8 {
        let end = offset.checked_add(len);
        assert!(
            end.is_some_and(|end| end <= self.len),
            "{len} bytes at {offset} of an area of {}",
            self.len
        );
        // SAFETY: `offset` is at most `self.len`, and `new` checked that the area lies within the
        // mapping, which `self.mapping` keeps alive.
        unsafe { self.mapping.base.as_ptr().add(self.offset + offset) }
    }

    /// Copies bytes out.
    pub fn read(&self, offset: usize, to: &mut [u8]) {
        let from = self.at(offset, to.len());
        // SAFETY: `at` checked the source; `to` is private memory and cannot overlap it.
        unsafe { ptr::copy_nonoverlapping(from, to.as_mut_ptr(), to.len()) };
    }

    /// Copies bytes in.
    pub fn write(&self, offset: usize, from: &[u8]) {
        let to = self.at(offset, from.len());
        // SAFETY: `at` checked the target; `from` is private memory and cannot overlap it.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) };
    }

    /// Sets all bytes.
    pub fn fill(&self, byte: u8) {
        let to = self.at(0, self.len);
        // SAFETY: `at` checked the target.
        unsafe { ptr::write_bytes(to, byte, self.len) };
    }

    /// A copy of all bytes.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        self.read(0, &mut bytes);
        bytes
    }

    /// A copy of so many bytes.
    #[must_use]
    pub fn read_array<const N: usize>(&self, offset: usize) -> [u8; N] {
        let mut bytes = [0; N];
        self.read(offset, &mut bytes);
        bytes
    }

    /// Loads a little-endian number that the device may be writing.
    #[must_use]
    pub fn load_u16(&self, offset: usize, ordering: Ordering) -> u16 {
        u16::from_le(self.atomic_u16(offset).load(ordering))
    }

    /// Stores a little-endian number that the device may be reading.
    pub fn store_u16(&self, offset: usize, value: u16, ordering: Ordering) {
        self.atomic_u16(offset).store(value.to_le(), ordering);
    }

    /// Loads a little-endian number that the device may be writing.
    #[must_use]
    pub fn load_u32(&self, offset: usize, ordering: Ordering) -> u32 {
        u32::from_le(self.atomic_u32(offset).load(ordering))
    }

    /// Stores a little-endian number that the device may be reading.
    pub fn store_u32(&self, offset: usize, value: u32, ordering: Ordering) {
        self.atomic_u32(offset).store(value.to_le(), ordering);
    }

    /// Takes a little-endian number that the device may be writing, and leaves zero.
    #[must_use]
    pub fn take_u32(&self, offset: usize) -> u32 {
        u32::from_le(self.atomic_u32(offset).swap(0, Ordering::AcqRel))
    }

    fn atomic_u16(&self, offset: usize) -> &AtomicU16 {
        let at = self.at(offset, size_of::<u16>()).cast::<u16>();
        assert!(at.is_aligned(), "offset {offset} is not aligned to 2 bytes");
        // SAFETY: `at` checked the range, the line above the alignment; the borrow of `self`
        // keeps the mapping alive, and all other accesses to rings are atomic or by the device.
        unsafe { AtomicU16::from_ptr(at) }
    }

    fn atomic_u32(&self, offset: usize) -> &AtomicU32 {
        let at = self.at(offset, size_of::<u32>()).cast::<u32>();
        assert!(at.is_aligned(), "offset {offset} is not aligned to 4 bytes");
        // SAFETY: as in `atomic_u16`.
        unsafe { AtomicU32::from_ptr(at) }
    }
}
