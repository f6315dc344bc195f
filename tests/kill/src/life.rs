//! The end of a daemon's life, at a moment that the load knows nothing of.

use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

use driver::Event;
use e2e::Daemon;

use crate::error::{Error, Result};
use crate::series::End;

/// A daemon whose end is certain.
#[derive(Debug)]
pub(crate) struct Life {
    thread: JoinHandle<e2e::Result<()>>,
    ended: Event,
}

impl Life {
    /// Ends the daemon after this time.
    pub(crate) fn of(mut daemon: Daemon, end: End, after: Duration) -> Result<Self> {
        let ended = Event::new()?;
        let tell = ended.clone();
        let thread = spawn(move || {
            sleep(after);
            let done = match end {
                End::Kill => daemon.kill(),
                End::Terminate => daemon.stop(),
            };
            // Without this the load would go on for ever; writing to an eventfd of one's own works.
            let _ = tell.signal();
            done
        });
        Ok(Self { thread, ended })
    }

    /// Signalled when the process is gone.
    pub(crate) fn ended(&self) -> Event {
        self.ended.clone()
    }

    /// Waits until it is gone.
    pub(crate) fn join(self) -> Result<()> {
        match self.thread.join() {
            Ok(done) => done.map_err(Error::from),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}
