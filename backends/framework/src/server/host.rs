//! What a device may ask of the daemon around it, from whichever of its threads.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::workers::{AnswerPath, FromWorker};
use crate::error::Result;
use crate::program::state_file::StateFile;
use crate::session::STATE_VERSION;
use crate::worker::Answer;

/// A device's way to what is around it. The default one, for tests, leads nowhere.
#[derive(Clone, Default)]
pub struct Host {
    state: Option<Arc<Mutex<StateFile>>>,
    bell: Option<Bell>,
}

/// Leads to the event loop.
#[derive(Clone)]
struct Bell {
    port: u32,
    path: AnswerPath,
    /// Rung, and not heard yet.
    rung: Arc<AtomicBool>,
}

impl Host {
    pub(super) fn new(state: Option<StateFile>, port: u32, path: AnswerPath) -> Self {
        Host {
            state: state.map(|state| Arc::new(Mutex::new(state))),
            bell: Some(Bell { port, path, rung: Arc::default() }),
        }
    }

    /// Keeps the device's state where `kill -9` does not reach it, before this returns; `encode` is
    /// not called where there is no such place. The threads of a device take turns, so that what is
    /// kept last is what was encoded last.
    ///
    /// # Errors
    /// When it cannot be written: it is as it was.
    pub fn keep(&self, encode: impl FnOnce() -> Vec<u8>) -> Result<()> {
        let Some(file) = &self.state else { return Ok(()) };
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        file.save(STATE_VERSION, &encode())
    }

    /// What was kept last, perhaps by a process before this one.
    pub fn kept(&self) -> Option<Vec<u8>> {
        let file = self.state.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        file.saved().map(|(_, state)| state.to_vec())
    }

    /// Has [`crate::device::Device::rung`] called soon, on the control side.
    pub fn ring(&self) {
        let Some(bell) = &self.bell else { return };
        if !bell.rung.swap(true, Ordering::AcqRel) {
            bell.path.send(FromWorker { port: bell.port, worker: 0, answer: Answer::Rung });
        }
    }

    /// The bell was heard: the next ring is a new one. Whoever did not ring since because it was rung
    /// already has its say now, so this reads as well as writes.
    pub(super) fn heard(&self) {
        if let Some(bell) = &self.bell {
            bell.rung.swap(false, Ordering::AcqRel);
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("keeps_state", &self.state.is_some()).finish_non_exhaustive()
    }
}
