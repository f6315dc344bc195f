//! One queue as a block driver has it: submits, and looks for ends when it is called.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use driver::{BlockQueue, Done, FrontEnd, Layout, Operation, Queue, RingEvents, Token};

use crate::error::{Error, Result};
use crate::model::Sectors;

/// What a request was for, and what is needed to judge its end.
#[derive(Debug)]
pub(crate) enum Work {
    /// A read, with what was settled when it began.
    Read { at: Sectors, settled: Vec<u64> },
    /// A write, of zeroes too.
    Write { at: Sectors },
    /// A flush, with what was settled when it began.
    Flush { settled: Vec<u64> },
}

/// A request that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) work: Work,
    pub(crate) done: Done,
    /// From its submission to now.
    pub(crate) took: Duration,
}

/// A request in flight.
#[derive(Debug)]
struct Pending {
    work: Work,
    since: Instant,
}

/// A queue, and what is in flight in it.
#[derive(Debug)]
pub(crate) struct Lane {
    block: BlockQueue,
    events: RingEvents,
    pending: HashMap<Token, Pending>,
    /// A base of former times, to be told to successors.
    stale_base: u32,
}

impl Lane {
    /// A ring that has been started.
    pub(crate) fn new(block: BlockQueue, events: RingEvents, base: u32) -> Self {
        Self { block, events, pending: HashMap::new(), stale_base: base }
    }

    /// Puts a request into the queue; `false` when it does not fit now.
    pub(crate) fn submit(
        &mut self,
        operation: Operation,
        layout: &Layout,
        work: impl FnOnce() -> Work,
    ) -> Result<bool> {
        match self.block.submit(operation, layout) {
            Ok(token) => {
                self.pending.insert(token, Pending { work: work(), since: Instant::now() });
                Ok(true)
            }
            Err(driver::Error::QueueFull { .. } | driver::Error::NoRoom(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Shows the device what was submitted.
    pub(crate) fn publish(&mut self) -> Result<()> {
        if self.block.publish() {
            self.events.kick.signal()?;
        }
        Ok(())
    }

    /// What has ended, if the device has called. Without a call nothing is looked at: a call that
    /// got lost has to show.
    pub(crate) fn collect(&mut self) -> Result<Vec<Ended>> {
        let mut ended = Vec::new();
        if self.events.error.take()? > 0 {
            let text = "it signalled the error eventfd of a valid ring".into();
            return Err(driver::Error::Device(text).into());
        }
        if self.events.call.take()? == 0 {
            return Ok(ended);
        }
        loop {
            self.block.queue().disable_calls();
            while let Some(done) = self.block.reap()? {
                ended.push(self.ended(done)?);
            }
            if !self.block.queue().enable_calls() {
                return Ok(ended);
            }
        }
    }

    fn ended(&mut self, done: Done) -> Result<Ended> {
        let Some(Pending { work, since }) = self.pending.remove(&done.token) else {
            let text = format!("it ended {:?}, which is no request in flight", done.token);
            return Err(driver::Error::Device(text).into());
        };
        Ok(Ended { work, done, took: since.elapsed() })
    }

    /// Starts the ring with a successor, with a base that is deliberately out of date.
    pub(crate) fn take_over(&mut self, front_end: &mut FrontEnd, index: u8) -> Result<()> {
        let queue = self.block.queue();
        let now = queue.reaped_base();
        self.events = front_end.start_ring(index, queue, self.stale_base)?;
        self.stale_base = now;
        Ok(())
    }

    /// Refuses requests that have been in flight for too long.
    pub(crate) fn check_for_hangs(&mut self, limit: Duration) -> Result<()> {
        let Some(oldest) = self.pending.values().min_by_key(|pending| pending.since) else {
            return Ok(());
        };
        let waited = oldest.since.elapsed();
        if waited < limit {
            return Ok(());
        }
        let request = oldest.work.to_string();
        let hint = if self.block.queue().has_used() {
            ": the device has used a buffer and not called"
        } else {
            ": the device has used nothing"
        };
        Err(Error::Hangs { request, waited, hint })
    }

    /// Requests in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.pending.len()
    }

    /// What is being written.
    pub(crate) fn being_written(&self) -> impl Iterator<Item = Sectors> + '_ {
        self.pending.values().filter_map(|pending| match &pending.work {
            Work::Write { at } => Some(at.clone()),
            Work::Read { .. } | Work::Flush { .. } => None,
        })
    }

    pub(crate) fn events(&self) -> &RingEvents {
        &self.events
    }

    pub(crate) fn queue(&mut self) -> &Queue {
        self.block.queue()
    }
}

impl std::fmt::Display for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Read { at, .. } => write!(f, "a read of sectors {at:?}"),
            Self::Write { at } => write!(f, "a write of sectors {at:?}"),
            Self::Flush { .. } => write!(f, "a flush"),
        }
    }
}
