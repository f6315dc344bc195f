//! One contiguous piece of guest memory, resolved to a host pointer.
#![expect(unsafe_code, reason = "copies between guest memory and owned buffers")]

use std::ptr::NonNull;

/// Bytes of a cache line, or fewer.
pub(crate) const LINE: usize = 64;

/// A contiguous piece of guest memory that a descriptor chain names, or of a bounce buffer.
///
/// It has the layout of an `iovec`, so that a slice of segments is what `readv`, `writev` and
/// io_uring take. It cannot be made, kept or copied outside this crate: whoever sees one borrows it
/// from the ring whose chain it belongs to, and the ring keeps the mapping alive for as long.
#[repr(C)]
#[derive(Debug)]
pub struct Segment {
    base: *mut u8,
    len: usize,
}

// SAFETY: a segment is an address and a length; the memory behind it is shared with another process
// anyway, and is accessed by raw copies alone.
unsafe impl Send for Segment {}

impl Segment {
    /// A segment of no bytes.
    pub(crate) const EMPTY: Segment = Segment { base: NonNull::dangling().as_ptr(), len: 0 };

    /// # Safety
    /// `base..base + len` stays mapped, readable and writable, until the segment is gone.
    pub(crate) unsafe fn new(base: *mut u8, len: usize) -> Self {
        Segment { base, len }
    }

    /// Another segment for the same bytes: for this crate alone, which keeps the mapping alive.
    pub(crate) fn again(&self) -> Self {
        Segment { base: self.base, len: self.len }
    }

    /// The length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether address and length are multiples of `align`, as direct I/O wants them.
    pub fn is_aligned(&self, align: usize) -> bool {
        (self.base as usize | self.len).is_multiple_of(align)
    }

    pub(crate) fn base(&self) -> *mut u8 {
        self.base
    }

    /// Has the CPU fetch the first two cache lines, which the driver's CPU wrote last: what is small
    /// enough to be copied often is in them.
    #[inline]
    pub(crate) fn prefetch(&self) {
        prefetch(self.base);
        if self.len > LINE {
            prefetch(self.base.wrapping_add(LINE));
        }
    }

    /// Likewise, so that they can be written without asking the driver's CPU once more.
    #[inline]
    pub(crate) fn prefetch_to_write(&self) {
        prefetch_to_write(self.base);
        if self.len > LINE {
            prefetch_to_write(self.base.wrapping_add(LINE));
        }
    }

    /// Drops the first `n` bytes (all, if there are fewer) and says how many were dropped.
    pub(crate) fn advance(&mut self, n: usize) -> usize {
        let n = n.min(self.len);
        self.base = self.base.wrapping_add(n);
        self.len -= n;
        n
    }

    /// Drops all but the first `n` bytes.
    pub(crate) fn truncate(&mut self, n: usize) {
        self.len = self.len.min(n);
    }

    /// Drops the last byte and gives it as a segment of its own.
    pub(crate) fn split_last(&mut self) -> Option<Segment> {
        self.len = self.len.checked_sub(1)?;
        Some(Segment { base: self.base.wrapping_add(self.len), len: 1 })
    }

    /// Copies from guest memory, starting at `offset`; returns how many bytes there were.
    pub fn read(&self, offset: usize, to: &mut [u8]) -> usize {
        let n = self.len.saturating_sub(offset).min(to.len());
        if n > 0 {
            let base = self.base.wrapping_add(offset);
            // SAFETY: `offset + n <= len`, mapped as `new` demands; `to` holds n bytes and is owned.
            unsafe { std::ptr::copy_nonoverlapping(base, to.as_mut_ptr(), n) };
        }
        n
    }

    /// Copies the first N bytes out of guest memory. None: there are fewer.
    #[inline]
    pub(crate) fn read_array<const N: usize>(&self) -> Option<[u8; N]> {
        if self.len < N {
            return None;
        }
        let mut bytes = [0; N];
        // SAFETY: N bytes are mapped, as `new` demands. The driver may write them at the same time, so
        // that the copy may be torn: the copy is validated, never the original.
        unsafe { std::ptr::copy_nonoverlapping(self.base, bytes.as_mut_ptr(), N) };
        // Nor may the compiler read the original once more, in place of the copy.
        std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
        Some(bytes)
    }

    /// Copies into guest memory, starting at `offset`; returns how many bytes fitted.
    pub fn write(&self, offset: usize, from: &[u8]) -> usize {
        let n = self.len.saturating_sub(offset).min(from.len());
        if n > 0 {
            let base = self.base.wrapping_add(offset);
            // SAFETY: as in `read`, with the roles exchanged.
            unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), base, n) };
        }
        n
    }

    /// Copies from another segment, from `start` on, to `offset`; says how many bytes fitted.
    pub fn copy_from(&self, offset: usize, from: &Segment, start: usize) -> usize {
        self.copy_part(offset, from, start, usize::MAX)
    }

    /// Like [`Segment::copy_from`], but at most `most` bytes.
    pub fn copy_part(&self, offset: usize, from: &Segment, start: usize, most: usize) -> usize {
        let room = self.len.saturating_sub(offset).min(most);
        let n = from.len.saturating_sub(start).min(room);
        if n > 0 {
            let (to, from) = (self.base.wrapping_add(offset), from.base.wrapping_add(start));
            // SAFETY: n bytes are mapped on both sides, as `new` demands; they may overlap.
            unsafe { std::ptr::copy(from, to, n) };
        }
        n
    }

    /// Writes zeroes over the whole segment.
    pub fn zero(&self) {
        // SAFETY: the whole segment is mapped, as `new` demands.
        unsafe { std::ptr::write_bytes(self.base, 0, self.len) };
    }
}

/// Has the CPU fetch the cache line at `at`, if there is one: a hint, which accesses nothing.
#[inline]
pub(crate) fn prefetch(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch of any address is allowed and has no effect that a program can see.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Has the CPU fetch the cache line at `at` for writing, if there is one: a hint, which changes
/// nothing. Rust's own intrinsic becomes a fetch for reading where the compiler may not assume
/// `prefetchw`; a CPU that lacks it does nothing instead.
#[inline]
pub(crate) fn prefetch_to_write(at: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch of any address is allowed and has no effect that a program can see.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    prefetch(at);
}
