//! SIGBUS in guest memory ends a connection, not the process.
//!
//! A front-end may shrink the file behind a region, or its hugetlb pool may run dry; the next access
//! then raises SIGBUS. The handler looks the address up in a table of what is mapped, puts zero
//! pages there so that the access goes on, and marks the mapping as broken; the worker sees the mark
//! at its next wake and fails the connection. A SIGBUS anywhere else is what it always was: fatal.
//!
//! The table is fixed in size and all atomics, since a signal handler may neither lock nor allocate.
#![expect(unsafe_code, reason = "a signal handler, and mmap inside it")]

use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// How many mappings can be guarded at once: 509 memory slots of one front-end, and room for more.
const SLOTS: usize = 2048;

struct Slot {
    /// 0: free. Claimed by compare-and-swap; published by storing `len` last. Who finds the same `len`
    /// before and after all else has seen one mapping, and not a part of the next one.
    base: AtomicUsize,
    len: AtomicUsize,
    page: AtomicUsize,
    broken: AtomicBool,
}

static TABLE: [Slot; SLOTS] = [const {
    Slot {
        base: AtomicUsize::new(0),
        len: AtomicUsize::new(0),
        page: AtomicUsize::new(0),
        broken: AtomicBool::new(false),
    }
}; SLOTS];

static HANDLER: Once = Once::new();

/// How often a mapping was broken: one load tells a worker that nothing happened.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// How many accesses to vanished pages there were in this process.
#[inline]
pub(crate) fn count() -> usize {
    COUNT.load(Ordering::Relaxed)
}

/// A mapping's place in the table.
#[derive(Debug)]
pub(super) struct Guard(&'static Slot);

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "guarded at {:#x}", self.base.load(Ordering::Relaxed))
    }
}

impl Guard {
    /// Guards `base..base + len`; `page` is the size of the file's pages. None: the table is full.
    pub(super) fn new(base: usize, len: usize, page: usize) -> Option<Self> {
        HANDLER.call_once(install);
        let slot = TABLE.iter().find(|slot| {
            slot.base.compare_exchange(0, base, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        })?;
        slot.broken.store(false, Ordering::Relaxed);
        slot.page.store(page, Ordering::Release);
        slot.len.store(len, Ordering::Release);
        Some(Guard(slot))
    }

    pub(super) fn is_broken(&self) -> bool {
        self.0.broken.load(Ordering::Relaxed)
    }

    /// To be called before the memory is unmapped, so that no other mapping at the same address can
    /// be taken for this one.
    pub(super) fn release(&mut self) {
        self.0.len.store(0, Ordering::Release);
        self.0.base.store(0, Ordering::Release);
    }
}

fn install() {
    let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = on_sigbus;
    // SAFETY: all zeroes is a valid sigaction; the fields that matter are set below.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the handler is async-signal-safe: atomics, mmap, sigaction, nothing else.
    unsafe { libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut()) };
}

extern "C" fn on_sigbus(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo.
    let info = unsafe { &*info };
    // SAFETY: for SIGBUS, si_addr is set.
    let address = unsafe { info.si_addr() } as usize;
    if !mend(address) {
        // SAFETY: restoring the default action: the access is repeated on return and ends us.
        unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
    }
}

/// Puts zeroes where the file has nothing any more. False: not one of ours.
fn mend(address: usize) -> bool {
    for slot in &TABLE {
        let (len, base) = (slot.len.load(Ordering::Acquire), slot.base.load(Ordering::Acquire));
        if base == 0 || address < base || address - base >= len {
            continue;
        }
        let page = slot.page.load(Ordering::Acquire).max(4096);
        if slot.len.load(Ordering::Acquire) != len {
            continue;
        }
        let start = base + (address - base) / page * page;
        let size = page.min((base + len - start).next_multiple_of(4096));
        slot.broken.store(true, Ordering::Relaxed);
        COUNT.fetch_add(1, Ordering::Relaxed);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the range lies in a mapping of ours that is still in the table, hence not yet
        // unmapped; replacing its pages by zeroes is what breaks it, and it is marked as broken.
        let at = unsafe { libc::mmap(start as *mut libc::c_void, size, prot, flags, -1, 0) };
        return at != libc::MAP_FAILED;
    }
    false
}
