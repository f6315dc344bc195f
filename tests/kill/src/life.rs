//! The end of a daemon's life, at a random moment.
//!
//! Half of the daemons die whatever they are doing, which is often nothing: requests may take less
//! time than the load needs to think of new ones. The others die in the middle of a burst: when
//! their time has come, the load fills the queues, and a moment later they are gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

use driver::{Deadline, Event};
use e2e::Daemon;

use crate::error::{Error, Result};
use crate::series::End;

/// How long a burst may take to come.
const PATIENCE: Duration = Duration::from_secs(1);

/// When a daemon dies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// So long after it has taken over.
    pub(crate) after: Duration,
    /// And so long after the load's next burst; None: without waiting for one.
    pub(crate) into_burst: Option<Duration>,
}

/// A daemon whose end is certain.
#[derive(Debug)]
pub(crate) struct Life {
    thread: JoinHandle<Result<()>>,
    signs: Signs,
}

/// What the load and the end of a life know of each other.
#[derive(Debug, Clone)]
struct Signs {
    /// A burst is wanted.
    wanted: Arc<AtomicBool>,
    /// It is on its way.
    burst: Event,
    /// The process is gone.
    ended: Event,
}

impl Life {
    /// Ends the daemon at this moment.
    pub(crate) fn of(mut daemon: Daemon, end: End, moment: Moment) -> Result<Self> {
        let signs = Signs { wanted: Arc::default(), burst: Event::new()?, ended: Event::new()? };
        let theirs = signs.clone();
        let thread = spawn(move || {
            theirs.await_moment(moment);
            let done = match end {
                End::Kill => daemon.kill(),
                End::Terminate => daemon.stop(),
            };
            // Without this sign the load would go on for ever.
            theirs.ended.signal()?;
            done.map_err(Error::from)
        });
        Ok(Self { thread, signs })
    }

    /// Signalled when the process is gone.
    pub(crate) fn ended(&self) -> &Event {
        &self.signs.ended
    }

    /// Whether a burst is wanted now; said once.
    pub(crate) fn wants_burst(&self) -> bool {
        self.signs.wanted.swap(false, Ordering::Relaxed)
    }

    /// The burst is on its way.
    pub(crate) fn burst(&self) -> Result<()> {
        Ok(self.signs.burst.signal()?)
    }

    /// Waits until it is gone.
    pub(crate) fn join(self) -> Result<()> {
        match self.thread.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl Signs {
    fn await_moment(&self, moment: Moment) {
        sleep(moment.after);
        if let Some(pause) = moment.into_burst {
            self.wanted.store(true, Ordering::Relaxed);
            // Without a burst it dies all the same.
            let _ = self.burst.wait(Deadline::after(PATIENCE));
            sleep(pause);
        }
    }
}
