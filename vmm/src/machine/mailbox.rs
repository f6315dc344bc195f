//! What vCPUs, devices and front-ends have to tell the main thread: a queue with an eventfd.
//!
//! Posting never blocks for longer than it takes to push, since a vCPU may be the one that does it. A guest
//! can repeat itself at will, so what is already waiting is not queued twice; that bounds the queue by the
//! number of different things that can happen.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use super::lifecycle::Event;
use super::outcome::Outcome;

/// A queue of events that the main thread waits on. Clones share it.
#[derive(Clone, Debug)]
pub struct Mailbox(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    queue: Mutex<VecDeque<Event>>,
    wake: OwnedFd,
}

impl Mailbox {
    /// An empty one.
    ///
    /// # Errors
    /// When the kernel has no eventfd left for this process.
    pub fn new() -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(Inner { queue: Mutex::default(), wake })))
    }

    /// Tells the main thread.
    pub fn post(&self, event: Event) {
        let mut queue = self.queue();
        if queue.contains(&event) {
            return;
        }
        queue.push_back(event);
        drop(queue);
        // It fails only if the counter is full, and then the main thread is being woken anyway.
        let _ = rustix::io::write(&self.0.wake, &1_u64.to_ne_bytes());
    }

    /// Everything that was posted since the last time, in order.
    #[must_use]
    pub fn take(&self) -> VecDeque<Event> {
        let mut count = [0; 8];
        // It fails only if nothing was posted.
        let _ = rustix::io::read(&self.0.wake, &mut count);
        std::mem::take(&mut *self.queue())
    }

    /// The first event there is that nothing can go on after; it stays.
    #[must_use]
    pub fn fatal(&self) -> Option<Outcome> {
        self.queue().iter().find_map(|event| match event {
            Event::Fatal(outcome) => Some(outcome.clone()),
            _ => None,
        })
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<Event>> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Readable when there is something to take.
impl AsFd for Mailbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.wake.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    fn is_readable(mailbox: &Mailbox) -> bool {
        let mut fds = [PollFd::new(mailbox, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).unwrap() == 1
    }

    #[test]
    fn what_is_posted_wakes_and_is_taken_once() {
        let mailbox = Mailbox::new().unwrap();
        assert!(!is_readable(&mailbox));
        mailbox.clone().post(Event::Reset);
        mailbox.post(Event::Panic);
        assert!(is_readable(&mailbox));
        assert_eq!(mailbox.take(), [Event::Reset, Event::Panic]);
        assert!(!is_readable(&mailbox));
        assert!(mailbox.take().is_empty());
    }

    #[test]
    fn what_is_fatal_is_seen_among_the_rest() {
        let mailbox = Mailbox::new().unwrap();
        mailbox.post(Event::Reset);
        assert_eq!(mailbox.fatal(), None);
        mailbox.post(Event::Fatal(Outcome::Failed("broken".into())));
        assert_eq!(mailbox.fatal(), Some(Outcome::Failed("broken".into())));
        assert_eq!(mailbox.take().len(), 2);
    }

    #[test]
    fn a_guest_that_repeats_itself_does_not_fill_memory() {
        let mailbox = Mailbox::new().unwrap();
        for _ in 0..1000 {
            mailbox.post(Event::Panic);
            mailbox.post(Event::Reset);
        }
        assert_eq!(mailbox.take(), [Event::Panic, Event::Reset]);
    }
}
