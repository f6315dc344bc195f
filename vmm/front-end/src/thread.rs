//! The device's thread: connects, serves the connection, and connects again.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use crate::config::{Hooks, Policy};
use crate::connection::Connection;
use crate::in_flight::InFlight;
use crate::source::{Source, timespec};
use crate::two_sides::Shared;
use crate::{Error, Result};

/// The pause before the second attempt to connect; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The longest pause between attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A connection that has lasted so long was a good one: the next attempt is made at once.
const GOOD: Duration = Duration::from_secs(1);

/// What the thread owns.
pub(crate) struct Thread {
    pub(crate) shared: Arc<Shared>,
    pub(crate) source: Box<dyn Source>,
    pub(crate) hooks: Hooks,
    /// The in-flight region, which outlives connections.
    pub(crate) region: Option<InFlight>,
    pub(crate) pause: Pause,
}

/// How long to wait before the next attempt to connect.
#[derive(Debug, Default)]
pub(crate) struct Pause(Duration);

impl Thread {
    /// Runs until the session is stopped.
    pub(crate) fn run(mut self) {
        (self.hooks.thread_started)();
        while !self.is_stopped() {
            match self.connect() {
                Ok(connection) => self.serve(connection),
                Err(error) => self.not_connected(&error),
            }
            self.wait();
        }
        let mut state = self.shared.lock();
        state.session.closed();
        state.ended = true;
        drop(state);
        self.shared.carry_out();
    }

    fn is_stopped(&self) -> bool {
        self.shared.lock().session.is_stopped()
    }

    fn connect(&mut self) -> Result<Connection> {
        let limit = self.shared.lock().session.config().limits.connect;
        let deadline = Instant::now().checked_add(limit).unwrap_or_else(Instant::now);
        let socket = self.source.connect(deadline);
        let to = || self.source.describe();
        let socket = socket.map_err(|source| Error::Connect { to: to(), source })?;
        let connection = Connection::new(socket)?;
        self.shared.lock().session.connected();
        Ok(connection)
    }

    fn serve(&mut self, mut connection: Connection) {
        let since = Instant::now();
        let error = loop {
            if let Err(error) = connection.turn(&self.shared, &mut self.region) {
                break error;
            }
            if self.is_stopped() {
                return;
            }
        };
        if since.elapsed() >= GOOD {
            self.pause.end();
        } else {
            self.pause.grow();
        }
        // Before anybody hears of it: without a connection a reset is over, after which guest memory is
        // written anew.
        if !error.is_closed() {
            self.give_up(connection);
        }
        self.lost(&error);
    }

    /// Ends a connection that the back-end has not ended. It has when all that it does with guest memory is
    /// done; one that was killed, when the kernel has finished what it had begun.
    fn give_up(&mut self, connection: Connection) {
        let limits = self.shared.lock().session.config().limits;
        let limit = if self.source.give_up() { limits.drain } else { limits.reply };
        let deadline = Instant::now().checked_add(limit).unwrap_or_else(Instant::now);
        if !connection.part(&self.shared, deadline) {
            let device = self.shared.lock().session.config().name.clone();
            tracing::warn!(
                device,
                "the back-end keeps its connection, and may still write to guest memory"
            );
        }
    }

    fn lost(&mut self, error: &Error) {
        let (established, goes_on, policy, name) = {
            let session = &mut self.shared.lock().session;
            let established = session.is_established();
            let goes_on = session.lost(error);
            let policy = session.config().policy;
            if established && policy == Policy::Fail {
                session.fail();
            }
            (established, goes_on, policy, session.config().name.clone())
        };
        // Without the lock: a log that nobody reads must stop no vCPU.
        tracing::warn!(device = name, %error, "the back-end is lost");
        if !goes_on {
            tracing::error!(
                device = name,
                "a packed ring cannot go on without an in-flight region; the driver must reset"
            );
        }
        self.shared.carry_out();
        if established && policy == Policy::Stop {
            (self.hooks.lost)(&format!("device {name} has lost its back-end: {error}"));
        }
    }

    fn not_connected(&mut self, error: &Error) {
        // Who has waited for the back-end in vain may go on waiting at once.
        if !matches!(error, Error::Connect { source, .. } if source.kind() == io::ErrorKind::TimedOut)
        {
            self.pause.grow();
        }
        let news = {
            let session = &mut self.shared.lock().session;
            session.not_connected(error).then(|| session.config().name.clone())
        };
        if let Some(name) = news {
            tracing::info!(device = name, %error, "waiting for the back-end");
        }
    }

    /// Waits until it is time for the next attempt, or the session is stopped.
    fn wait(&self) {
        let Some(until) = Instant::now().checked_add(self.pause.0) else { return };
        while !self.is_stopped() {
            let left = until.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::new(self.shared.wake(), PollFlags::IN)];
            if left.is_zero() || poll(&mut fds, Some(&timespec(left))).is_ok_and(|n| n == 0) {
                return;
            }
            self.shared.wake().take();
            self.shared.carry_out();
        }
    }
}

impl Pause {
    fn end(&mut self) {
        self.0 = Duration::ZERO;
    }

    fn grow(&mut self) {
        self.0 = self.0.saturating_mul(2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
    }
}
