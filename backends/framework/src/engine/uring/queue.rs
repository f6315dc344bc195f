//! The two ends of the io_uring: pushing entries, entering the kernel, taking completions.
#![expect(unsafe_code, reason = "io_uring believes whatever addresses an entry holds")]

use std::io;
use std::time::Duration;

use io_uring::EnterFlags;
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{SubmitArgs, Timespec};
use rustix::io::Errno;

use super::entries;
use super::setup::ReservedRing;
use crate::engine::blocking::MOST_SEGMENTS;
use crate::engine::tag::Tag;
use crate::memory::Segment;

/// How often watches are cancelled before that is given up. Once ends them and the next time finds
/// none, but for those that report something in between.
const MOST_CANCELS: usize = 1000;

/// Pushes an entry that names no memory.
#[cfg(test)]
pub(super) fn push_for_test(ring: &mut io_uring::IoUring, entry: &Entry) {
    // SAFETY: it names no memory.
    unsafe { ring.submission().push(entry) }.unwrap();
}

/// An entry that may be pushed: whoever made one has seen to it that the memory it names stays
/// mapped until the operation has ended. That is what the segments of [`crate::engine::Io::submit`]
/// promise.
#[derive(Debug)]
pub(super) struct Sound(Entry);

impl Sound {
    /// # Safety
    /// Any address in `entry` is that of guest memory (or of a bounce buffer) that stays mapped until
    /// the operation has ended, or of iovecs in the [`Iovecs`] of the queue that it is pushed to.
    pub(super) unsafe fn new(entry: Entry) -> Self {
        // All files are registered ones, as the restrictions demand even of entries without a file.
        Sound(entry.flags(Flags::FIXED_FILE))
    }
}

/// Arrays of segments between their submission by the device and that to the kernel, which copies
/// them (IORING_FEAT_SUBMIT_STABLE). The device's own arrays may move in the meantime.
#[derive(Debug)]
pub(super) struct Iovecs {
    /// Never grows: the kernel is given pointers into it.
    array: Box<[Segment]>,
    used: usize,
}

impl Iovecs {
    fn new() -> Self {
        Iovecs { array: (0..MOST_SEGMENTS).map(|_| Segment::EMPTY).collect(), used: 0 }
    }

    /// Copies as many segments as one call takes. None: no room until all has been submitted.
    fn copy(&mut self, segments: &[Segment]) -> Option<(*const libc::iovec, u32)> {
        let segments = segments.get(..MOST_SEGMENTS).unwrap_or(segments);
        let room = self.array.get_mut(self.used..self.used + segments.len())?;
        for (to, from) in room.iter_mut().zip(segments) {
            *to = from.again();
        }
        self.used += segments.len();
        // A segment has the layout of an iovec.
        Some((room.as_ptr().cast(), u32::try_from(segments.len()).ok()?))
    }
}

/// The io_uring with what waits to be submitted to it.
pub(super) struct Queue<'r> {
    reserved: &'r mut ReservedRing,
    iovecs: Iovecs,
    /// Entries for which there was no room, in order.
    backlog: Vec<Sound>,
    can_idle: bool,
}

impl<'r> Queue<'r> {
    /// Takes a ring into use, for `queues` queues.
    ///
    /// # Errors
    /// When it does not fit, or is another thread's.
    pub(super) fn new(reserved: &'r mut ReservedRing, queues: u16) -> io::Result<Self> {
        reserved.begin(queues)?;
        let can_idle = reserved.ring.params().is_feature_no_iowait();
        Ok(Queue { reserved, iovecs: Iovecs::new(), backlog: Vec::new(), can_idle })
    }

    /// Replaces one registered file; -1 removes it.
    pub(super) fn register(&self, slot: u32, fd: i32) -> io::Result<()> {
        self.reserved.ring.submitter().register_files_update(slot, &[fd]).map(drop)
    }

    /// Leaves the ring as it was made: ends all watches, takes what has completed, and empties the
    /// first `count` places of the table of registered files. No operation may be under way.
    ///
    /// # Errors
    /// When the kernel does not do its part; no engine will use this ring again.
    pub(super) fn clear(&mut self, count: u32) -> io::Result<()> {
        self.backlog.clear();
        let ended = self.end_watches();
        let none: Vec<i32> = (0..count).map(|_| -1).collect();
        self.reserved.ring.submitter().register_files_update(0, &none)?;
        ended.map(|()| self.reserved.end())
    }

    /// Cancels until there is nothing left to cancel: a watch that has just reported something is
    /// found again as long as it is there.
    fn end_watches(&mut self) -> io::Result<()> {
        for _ in 0..MOST_CANCELS {
            self.push(entries::cancel_all(Tag::Cancel));
            let cancelled = loop {
                self.wait(None, false)?;
                let mut found = None;
                for completion in self.reserved.ring.completion() {
                    if Tag::decode(completion.user_data()) == Some(Tag::Cancel) {
                        found = Some(completion.result());
                    }
                }
                if let Some(count) = found {
                    break count;
                }
            };
            if cancelled <= 0 {
                return Ok(());
            }
        }
        Err(io::Error::other("the watches of an io_uring do not end"))
    }

    /// A copy of `segments` that lives until the entry that names it has been submitted; that entry
    /// is to be pushed before the next copy is made.
    ///
    /// # Errors
    /// EAGAIN, when there is no room and the kernel takes nothing.
    pub(super) fn iovecs(
        &mut self,
        segments: &[Segment],
    ) -> Result<(*const libc::iovec, u32), Errno> {
        self.free_iovecs();
        if let Some(copied) = self.iovecs.copy(segments) {
            return Ok(copied);
        }
        // An error shows itself in that there is still no room.
        let _ = self.submit();
        self.free_iovecs();
        self.iovecs.copy(segments).ok_or(Errno::AGAIN)
    }

    /// Frees all copies of segments if the kernel has taken every entry. To be called only where no
    /// entry exists that has not been pushed yet.
    fn free_iovecs(&mut self) {
        if self.reserved.ring.submission().is_empty() && self.backlog.is_empty() {
            self.iovecs.used = 0;
        }
    }

    /// Queues an entry for the next [`Queue::submit`] or [`Queue::wait`].
    #[inline]
    pub(super) fn push(&mut self, entry: Sound) {
        // SAFETY: what `Sound::new` was promised.
        if unsafe { self.reserved.ring.submission().push(&entry.0) }.is_err() {
            self.push_to_full(entry);
        }
    }

    #[cold]
    fn push_to_full(&mut self, entry: Sound) {
        // An error shows itself in that there is still no room.
        let _ = self.submit();
        // SAFETY: what `Sound::new` was promised.
        if unsafe { self.reserved.ring.submission().push(&entry.0) }.is_err() {
            self.backlog.push(entry);
        }
    }

    /// How many entries wait to be submitted.
    #[inline]
    pub(super) fn waiting(&mut self) -> usize {
        self.reserved.ring.submission().len()
    }

    /// Enters the kernel if there is a reason to: something to submit, or completions that the
    /// kernel holds back until it is asked. Never waits.
    #[inline]
    pub(super) fn poke(&mut self) -> io::Result<()> {
        let submission = self.reserved.ring.submission();
        if submission.is_empty() && !submission.taskrun() && !submission.cq_overflow() {
            return Ok(());
        }
        drop(submission);
        self.submit()
    }

    /// Submits everything.
    pub(super) fn submit(&mut self) -> io::Result<()> {
        self.enter(0, None, false)
    }

    /// Submits everything and waits until there is a completion, for `limit` at most. `idle` says
    /// that the thread waits for nothing but events, so that the system does not look I/O-bound.
    pub(super) fn wait(&mut self, limit: Option<Duration>, idle: bool) -> io::Result<()> {
        self.enter(1, limit, idle)
    }

    /// The completions so far, with the list of what is to be pushed after them.
    #[inline]
    pub(super) fn reap(&mut self) -> (io_uring::CompletionQueue<'_>, &mut Vec<Sound>) {
        (self.reserved.ring.completion(), &mut self.backlog)
    }

    /// Whether there are completions already.
    #[inline]
    pub(super) fn has_completions(&mut self) -> bool {
        !self.reserved.ring.completion().is_empty()
    }

    /// Moves what [`Queue::reap`] left behind into the submission queue.
    #[inline]
    pub(super) fn push_backlog(&mut self) {
        if !self.backlog.is_empty() {
            for entry in std::mem::take(&mut self.backlog) {
                self.push(entry);
            }
        }
    }

    fn enter(&mut self, wanted: u32, limit: Option<Duration>, idle: bool) -> io::Result<()> {
        let pending = u32::try_from(self.reserved.ring.submission().len()).unwrap_or(u32::MAX);
        let mut flags = EnterFlags::GETEVENTS;
        if idle && self.can_idle {
            flags |= EnterFlags::NO_IOWAIT;
        }
        let submitter = self.reserved.ring.submitter();
        let entered = match limit.map(Timespec::from) {
            None => {
                // SAFETY: no argument is given.
                unsafe { submitter.enter::<()>(pending, wanted, flags.bits(), None) }
            }
            Some(time) => {
                let flags = flags | EnterFlags::EXT_ARG;
                let arguments = SubmitArgs::new().timespec(&time);
                // SAFETY: EXT_ARG says that the argument is what SubmitArgs is.
                unsafe { submitter.enter(pending, wanted, flags.bits(), Some(&arguments)) }
            }
        };
        match entered.map_err(|error| (Errno::from_io_error(&error), error)) {
            Ok(_) => Ok(()),
            // A signal, the time limit, completions to be taken first, no memory right now: all
            // pass, and whatever was not submitted is still in the queue.
            Err((Some(Errno::INTR | Errno::TIME | Errno::BUSY | Errno::AGAIN), _)) => Ok(()),
            Err((_, error)) => Err(error),
        }
    }
}
