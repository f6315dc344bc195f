//! What the device's thread shares with the threads that call the device.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use virtio_pci::{Event, Notices, Queue};

use crate::memory::Region;
use crate::session::{Effect, Session};
use crate::{Error, Result};

/// A dirty log: one bit for each page of 4 KiB, from guest address 0 on.
#[derive(Debug, Clone)]
pub struct Log {
    /// The file that holds it, shared memory.
    pub file: Arc<OwnedFd>,
    /// Its bytes.
    pub size: u64,
    /// Where in the file it starts.
    pub offset: u64,
}

/// The session with the descriptors that it speaks of, under a lock that is never held while
/// anything is waited for.
pub(crate) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    wake: Event,
    notices: OnceLock<Arc<dyn Notices>>,
}

/// What is behind the lock.
pub(crate) struct State {
    pub(crate) session: Session,
    pub(crate) regions: Arc<[Region]>,
    pub(crate) queues: BTreeMap<u16, QueueEvents>,
    /// The log with the number that the session knows it by.
    pub(crate) log: Option<(u64, Log)>,
    /// The device's thread has ended.
    pub(crate) ended: bool,
}

/// The events of a queue, the same for as long as the device exists.
#[derive(Debug, Clone)]
pub(crate) struct QueueEvents {
    pub(crate) kick: Arc<Event>,
    pub(crate) call: Arc<Event>,
}

impl Shared {
    pub(crate) fn new(session: Session, regions: Vec<Region>) -> Result<Self> {
        let state = State {
            session,
            regions: regions.into(),
            queues: BTreeMap::new(),
            log: None,
            ended: false,
        };
        Ok(Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            wake: Event::new().map_err(Error::system("making an eventfd"))?,
            notices: OnceLock::new(),
        })
    }

    /// The state, to look at or for the device's thread.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and lets the device's thread see what follows.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.wake.signal();
        self.changed.notify_all();
        result
    }

    /// Signalled when somebody has changed the state.
    pub(crate) fn wake(&self) -> &Event {
        &self.wake
    }

    pub(crate) fn subscribe(&self, notices: Arc<dyn Notices>) {
        // The transport does it once; whoever comes later is not heard.
        let _ = self.notices.set(notices);
    }

    /// Carries out what the session wants done beside messages, and tells those who wait.
    ///
    /// Notices are given under the lock: before a reset that comes after them. Queues' events are signalled
    /// without it, since a back-end can make its own thread here wait for them for ever, and vCPUs take the
    /// lock. A reset may come in between; to a driver a call too many means nothing.
    pub(crate) fn carry_out(&self) {
        loop {
            let mut state = self.lock();
            let event = match state.session.effects().take() {
                None => break,
                Some(Effect::Kick(queue)) => state.event(queue, |events| &events.kick),
                Some(Effect::Call(queue)) => state.event(queue, |events| &events.call),
                Some(Effect::ConfigChanged) => {
                    self.notify(|notices| notices.config_changed());
                    None
                }
                Some(Effect::NeedsReset) => {
                    self.notify(|notices| notices.needs_reset());
                    None
                }
            };
            drop(state);
            if let Some(event) = event {
                event.signal();
            }
        }
        self.changed.notify_all();
    }

    fn notify(&self, notice: impl FnOnce(&dyn Notices)) {
        if let Some(notices) = self.notices.get() {
            notice(notices.as_ref());
        }
    }

    /// Waits until something holds of the state; `false` when it does not by the deadline.
    pub(crate) fn wait(&self, deadline: Instant, holds: impl Fn(&State) -> bool) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = self.changed.wait_timeout_while(self.lock(), left, |state| !holds(state));
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        holds(&state)
    }
}

impl State {
    /// The events of a queue that the driver has enabled.
    pub(crate) fn know(&mut self, queue: &Queue) {
        let (kick, call) = (Arc::clone(&queue.kick), Arc::clone(&queue.call));
        self.queues.insert(queue.index, QueueEvents { kick, call });
    }

    fn event(&self, queue: u16, which: impl Fn(&QueueEvents) -> &Arc<Event>) -> Option<Arc<Event>> {
        self.queues.get(&queue).map(|events| Arc::clone(which(events)))
    }
}
