//! A few threads for calls that may wait.
//!
//! The worker puts jobs into a queue; threads take them out and put results into a list; an eventfd
//! is written whenever that list becomes non-empty, and is watched edge-triggered, never drained.
//! Threads are started one by one, when there is work and none is idle: most pools of an io_uring
//! engine never start any.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustix::event::EventfdFlags;
use rustix::io::Errno;

use super::blocking::{Call, perform};
use super::{Completion, Token};
use crate::memory::Segment;

/// Stack of a pool thread, bytes: it does nothing but system calls.
const STACK: usize = 128 << 10;

/// The threads, their work and its results.
#[derive(Debug)]
pub(super) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    most_threads: usize,
    /// Jobs that were started and whose results have not been collected.
    unfinished: usize,
    /// Emptied lists of segments, kept so that a job allocates nothing.
    spare: Vec<Vec<Segment>>,
    /// Results on their way to the worker; empty between calls.
    collected: Vec<Finished>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// There is work, or the pool has closed.
    changed: Condvar,
    /// Written when `finished` becomes non-empty.
    ready: OwnedFd,
}

#[derive(Debug)]
struct State {
    waiting: VecDeque<Job>,
    finished: Vec<Finished>,
    idle: usize,
    closed: bool,
}

#[derive(Debug)]
struct Job {
    file: Arc<OwnedFd>,
    call: Call,
    segments: Vec<Segment>,
    token: Token,
}

#[derive(Debug)]
struct Finished {
    completion: Completion,
    segments: Vec<Segment>,
}

impl Pool {
    /// A pool of at most `most_threads` threads, with room for `jobs` jobs (it grows beyond that).
    ///
    /// # Errors
    /// When there is no eventfd to be had.
    pub(super) fn new(most_threads: usize, jobs: usize) -> io::Result<Self> {
        let state = State {
            waiting: VecDeque::with_capacity(jobs),
            finished: Vec::with_capacity(jobs),
            idle: 0,
            closed: false,
        };
        let ready = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Pool {
            shared: Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), ready }),
            threads: Vec::new(),
            most_threads,
            unfinished: 0,
            spare: Vec::new(),
            collected: Vec::with_capacity(jobs),
        })
    }

    /// The eventfd to watch edge-triggered: [`Pool::collect`] has something after each event.
    pub(super) fn ready(&self) -> &OwnedFd {
        &self.shared.ready
    }

    /// How many jobs have been started and not collected.
    pub(super) fn unfinished(&self) -> usize {
        self.unfinished
    }

    /// Starts a job. The memory behind `segments` stays mapped until it has been collected, or the
    /// pool has been dropped, which waits for it: the caller of `Io::submit` sees to that.
    ///
    /// # Errors
    /// EAGAIN, when there is no thread and none can be started.
    pub(super) fn start(
        &mut self,
        file: &Arc<OwnedFd>,
        call: Call,
        segments: &[Segment],
        token: Token,
    ) -> Result<(), Errno> {
        let mut copies = self.spare.pop().unwrap_or_default();
        copies.extend(segments.iter().map(Segment::again));
        let job = Job { file: Arc::clone(file), call, segments: copies, token };
        let mut state = self.shared.lock();
        // Idle threads that have been woken, but have not taken their job yet, are still counted.
        if state.idle <= state.waiting.len() && self.threads.len() < self.most_threads {
            match spawn(&self.shared) {
                Ok(thread) => self.threads.push(thread),
                Err(_) if self.threads.is_empty() => return Err(Errno::AGAIN),
                Err(_) => {}
            }
        }
        state.waiting.push_back(job);
        drop(state);
        self.shared.changed.notify_one();
        self.unfinished += 1;
        Ok(())
    }

    /// Tells of each job that has finished.
    pub(super) fn collect(&mut self, mut each: impl FnMut(Completion)) {
        if self.unfinished == 0 {
            return;
        }
        std::mem::swap(&mut self.shared.lock().finished, &mut self.collected);
        for mut finished in self.collected.drain(..) {
            self.unfinished = self.unfinished.saturating_sub(1);
            finished.segments.clear();
            self.spare.push(finished.segments);
            each(finished.completion);
        }
    }
}

impl Drop for Pool {
    /// Waits until every job has been carried out: none may touch its segments afterwards.
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock, and the state is whole at every step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job; waits for one. None: the pool has closed, and no job is left.
    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.waiting.pop_front() {
                return Some(job);
            }
            if state.closed {
                return None;
            }
            state.idle += 1;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }

    fn finish(&self, finished: Finished) {
        let mut state = self.lock();
        let first = state.finished.is_empty();
        state.finished.push(finished);
        drop(state);
        if first {
            // It can only fail when the counter is full, and then the worker has been woken anyway.
            let _ = rustix::io::write(&self.ready, &1u64.to_ne_bytes());
        }
    }
}

fn spawn(shared: &Arc<Shared>) -> io::Result<JoinHandle<()>> {
    let shared = Arc::clone(shared);
    let body = move || {
        while let Some(Job { file, call, segments, token }) = shared.next() {
            let result = perform(&file, call, &segments);
            shared.finish(Finished { completion: Completion { token, result }, segments });
        }
    };
    std::thread::Builder::new().name("blocking-io".into()).stack_size(STACK).spawn(body)
}
