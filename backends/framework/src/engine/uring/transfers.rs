//! Carrying out a batch of transfers: one system call for all of them, and their results at once.
//!
//! None of them waits, so the kernel has done them all when it returns from their submission. What
//! else has happened by then is kept for the next turn.

use rustix::io::Errno;

use super::{Uring, entries};
use crate::engine::FileIndex;
use crate::engine::batch::Batch;
use crate::engine::blocking;
use crate::engine::tag::Tag;

/// The results of the batch that is being carried out.
#[derive(Debug, Default)]
pub(super) struct Results {
    values: Vec<Option<Result<u32, Errno>>>,
    missing: usize,
}

impl Results {
    fn expect(&mut self, count: usize) {
        self.values.clear();
        self.values.resize(count, None);
        self.missing = count;
    }

    #[inline]
    pub(super) fn put(&mut self, number: u32, result: Result<u32, Errno>) {
        let value = usize::try_from(number).ok().and_then(|number| self.values.get_mut(number));
        if let Some(value @ None) = value {
            *value = Some(result);
            self.missing -= 1;
        }
    }

    /// The results, in order; EIO for those that never came.
    fn take(&mut self) -> impl Iterator<Item = Result<u32, Errno>> {
        self.values.drain(..).map(|value| value.unwrap_or(Err(Errno::IO)))
    }
}

impl Uring<'_> {
    pub(super) fn carry_out_batch(
        &mut self,
        index: FileIndex,
        results: &mut Vec<Result<u32, Errno>>,
    ) {
        results.clear();
        let mut batch = std::mem::take(&mut self.batch);
        match (self.state.files.get(index), batch.staged()) {
            (None, staged) => results.extend(staged.iter().map(|_| Err(Errno::BADF))),
            (Some(file), [one]) => results.push(blocking::transfer(&file.fd, one, &batch)),
            (Some(_), _) => self.submit_batch(index, &batch, results),
        }
        batch.clear();
        self.batch = batch;
    }

    fn submit_batch(
        &mut self,
        index: FileIndex,
        batch: &Batch,
        results: &mut Vec<Result<u32, Errno>>,
    ) {
        let Some(file) = self.state.files.get(index) else { return };
        for (number, staged) in (0..).zip(batch.staged()) {
            let vectors = batch.vectors(staged);
            self.queue.push(entries::transfer(file, staged.way, vectors, Tag::Staged(number)));
        }
        self.state.results.expect(batch.staged().len());
        let mut events = std::mem::take(&mut self.early);
        let mut entered = self.queue.submit();
        self.reap(&mut events);
        while entered.is_ok() && self.state.results.missing > 0 {
            entered = self.queue.wait(None, false);
            self.reap(&mut events);
        }
        self.early = events;
        results.extend(self.state.results.take());
        self.repeat_refused(index, batch, results);
    }

    /// A file that does not know how to be told not to wait goes by its O_NONBLOCK, from now on.
    fn repeat_refused(
        &mut self,
        index: FileIndex,
        batch: &Batch,
        results: &mut [Result<u32, Errno>],
    ) {
        let Some(file) = self.state.files.get_mut(index) else { return };
        if !file.says_nowait || !results.contains(&Err(Errno::OPNOTSUPP)) {
            return;
        }
        file.says_nowait = false;
        for (result, staged) in results.iter_mut().zip(batch.staged()) {
            if *result == Err(Errno::OPNOTSUPP) {
                *result = blocking::transfer(&file.fd, staged, batch);
            }
        }
    }
}
