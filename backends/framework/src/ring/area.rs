//! The memory of a ring, accessed while the driver does the same.
#![expect(unsafe_code, reason = "atomics and raw copies in memory shared with the driver")]

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU64, Ordering};

use crate::memory::{GuestAddress, Mapping, MemoryTable, UserAddress, prefetch, prefetch_to_write};

/// One area of a ring (descriptors, driver's, device's), or of the in-flight region: a host pointer
/// resolved once, when the ring starts or the memory table changes.
///
/// An access outside of it, or a misaligned one, reads zero and writes nothing; offsets are made
/// from masked indexes, so that this never happens.
#[derive(Debug)]
pub(super) struct Area {
    base: *mut u8,
    len: usize,
    /// Where the guest sees it; for the dirty log.
    pub(super) guest: GuestAddress,
}

// SAFETY: the bytes are shared with another process anyway; all accesses are atomics or raw copies.
unsafe impl Send for Area {}

impl Area {
    /// No memory at all.
    pub(super) fn none() -> Self {
        Area { base: std::ptr::null_mut(), len: 0, guest: GuestAddress(0) }
    }

    /// `len` bytes at a user address. The caller keeps `memory` for as long as the area.
    pub(super) fn resolve(
        memory: &MemoryTable,
        at: UserAddress,
        len: usize,
        align: usize,
    ) -> Option<Self> {
        let (base, guest) = memory.user_pointer(at, len, align)?;
        Some(Area { base, len, guest })
    }

    /// `len` bytes of a mapping. The caller keeps the mapping for as long as the area.
    pub(super) fn of(mapping: &Mapping, offset: usize, len: usize) -> Option<Self> {
        let base = mapping.pointer(offset, len)?;
        (base as usize).is_multiple_of(8).then_some(Area { base, len, guest: GuestAddress(0) })
    }

    #[inline]
    fn at(&self, offset: usize, size: usize) -> Option<*mut u8> {
        let inside = offset.checked_add(size).is_some_and(|end| end <= self.len);
        (inside && offset.is_multiple_of(size)).then(|| self.base.wrapping_add(offset))
    }

    #[inline]
    pub(super) fn load_u8(&self, offset: usize) -> u8 {
        let Some(at) = self.at(offset, 1) else { return 0 };
        // SAFETY: inside the area, which is mapped; others access it concurrently, hence atomic.
        unsafe { AtomicU8::from_ptr(at) }.load(Ordering::Acquire)
    }

    #[inline]
    pub(super) fn store_u8(&self, offset: usize, value: u8) {
        #[cfg(any(test, feature = "simulation"))]
        super::kill::point();
        let Some(at) = self.at(offset, 1) else { return };
        // SAFETY: as in `load_u8`.
        unsafe { AtomicU8::from_ptr(at) }.store(value, Ordering::Release);
    }

    /// A little-endian number, with everything that was written before it.
    #[inline]
    pub(super) fn load_u16(&self, offset: usize) -> u16 {
        let Some(at) = self.at(offset, 2) else { return 0 };
        // SAFETY: inside the area and aligned, since the base is and the offset is a multiple of 2.
        u16::from_le(unsafe { AtomicU16::from_ptr(at.cast()) }.load(Ordering::Acquire))
    }

    /// Everything that was written before is seen by whoever sees this.
    #[inline]
    pub(super) fn store_u16(&self, offset: usize, value: u16) {
        #[cfg(any(test, feature = "simulation"))]
        super::kill::point();
        let Some(at) = self.at(offset, 2) else { return };
        // SAFETY: as in `load_u16`.
        unsafe { AtomicU16::from_ptr(at.cast()) }.store(value.to_le(), Ordering::Release);
    }

    #[inline]
    pub(super) fn load_u64(&self, offset: usize) -> u64 {
        let Some(at) = self.at(offset, 8).filter(|at| (*at as usize).is_multiple_of(8)) else {
            return 0;
        };
        // SAFETY: inside the area, aligned as was just checked.
        u64::from_le(unsafe { AtomicU64::from_ptr(at.cast()) }.load(Ordering::Acquire))
    }

    #[inline]
    pub(super) fn store_u64(&self, offset: usize, value: u64) {
        #[cfg(any(test, feature = "simulation"))]
        super::kill::point();
        let Some(at) = self.at(offset, 8).filter(|at| (*at as usize).is_multiple_of(8)) else {
            return;
        };
        // SAFETY: as in `load_u64`.
        unsafe { AtomicU64::from_ptr(at.cast()) }.store(value.to_le(), Ordering::Release);
    }

    /// Has the CPU fetch the cache line at `offset`.
    #[inline]
    pub(super) fn prefetch(&self, offset: usize) {
        if let Some(at) = self.at(offset, 1) {
            prefetch(at);
        }
    }

    /// Likewise, taking it away from the other CPUs.
    #[inline]
    pub(super) fn prefetch_to_write(&self, offset: usize) {
        if let Some(at) = self.at(offset, 1) {
            prefetch_to_write(at);
        }
    }

    /// A copy of 16 bytes: a descriptor.
    #[inline]
    pub(super) fn read_16(&self, offset: usize) -> [u8; 16] {
        let mut bytes = [0; 16];
        if let Some(at) = self.at(offset, 16) {
            // SAFETY: inside the area; the driver may write at the same time, so that the copy may
            // be torn, which the caller treats like any other content.
            unsafe { std::ptr::copy_nonoverlapping(at, bytes.as_mut_ptr(), 16) };
        }
        bytes
    }

    /// Writes 8 bytes: a used element.
    #[inline]
    pub(super) fn write_8(&self, offset: usize, bytes: [u8; 8]) {
        #[cfg(any(test, feature = "simulation"))]
        super::kill::point();
        if let Some(at) = self.at(offset, 4).filter(|_| offset.saturating_add(8) <= self.len) {
            // SAFETY: inside the area.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), at, 8) };
        }
    }

    /// Writes 4 bytes: the length of a packed descriptor.
    #[inline]
    pub(super) fn write_4(&self, offset: usize, bytes: [u8; 4]) {
        #[cfg(any(test, feature = "simulation"))]
        super::kill::point();
        if let Some(at) = self.at(offset, 4) {
            // SAFETY: inside the area.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), at, 4) };
        }
    }
}
