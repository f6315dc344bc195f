//! A disk so slow that what a process asked of it happens after the process's death.
//!
//! # Theory of operation
//! A FUSE file system that is a single file, served by two threads of this process. One takes
//! requests from the kernel; reads, writes and syncs go to the other one, which carries each out
//! when its time has come (some milliseconds, and for some a few hundred) and only then answers.
//! The kernel does direct I/O on it asynchronously, so a killed process is gone at once while its
//! requests are still to land. The disk has a volatile cache: only a sync makes durable what has
//! landed before. A journal notes what a front-end cannot see: landings after the requester's death,
//! and a successor that did not wait for them.

mod journal;
mod mount;
mod protocol;
mod server;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::Result;
use crate::model::Sectors;
use crate::sector::SECTOR;
use journal::Journal;

pub use journal::Landings;

/// How long requests take.
#[derive(Debug, Clone, Copy)]
pub struct Delays {
    /// Most requests: between these.
    pub usual: (Duration, Duration),
    /// One of four: between these.
    pub slow: (Duration, Duration),
}

impl Default for Delays {
    fn default() -> Self {
        let span = |from, to| (Duration::from_millis(from), Duration::from_millis(to));
        Self { usual: span(1, 8), slow: span(50, 300) }
    }
}

/// A mounted slow disk; unmounted when dropped.
#[derive(Debug)]
pub struct SlowDisk {
    path: PathBuf,
    journal: Arc<Mutex<Journal>>,
}

impl SlowDisk {
    /// Mounts a disk of so many bytes in `folder`, for the calling thread and what it starts from
    /// now on; no other thread or process sees it.
    ///
    /// # Errors
    /// [`e2e::Error::Missing`] without the right to mount.
    pub fn mount(folder: &Path, bytes: usize, delays: Delays, seed: u64) -> Result<Self> {
        let path = folder.join("slow.img");
        let device = mount::mount(&path)?;
        let journal = Arc::new(Mutex::new(Journal::new(bytes)));
        server::start(device, &journal, delays, seed)?;
        Ok(Self { path, journal })
    }

    /// Where the disk is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The daemon is dead: what lands from now on lands late.
    pub fn daemon_died(&self) {
        self.journal().life_ends();
    }

    /// A successor is started: what is asked from now on is asked by it.
    pub fn successor_starts(&self) {
        self.journal().life_begins();
    }

    /// What has landed so far, and how.
    #[must_use]
    pub fn landings(&self) -> Landings {
        self.journal().landings()
    }

    /// What would be left of these sectors after a loss of power.
    #[must_use]
    pub fn durable(&self, sectors: &Sectors) -> Vec<u8> {
        let position =
            |sector| usize::try_from(sector).unwrap_or(usize::MAX).saturating_mul(SECTOR);
        let range = position(sectors.start)..position(sectors.end);
        self.journal().durable().get(range).unwrap_or_default().to_vec()
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        // The mount is private, so at the latest it ends with this process.
        mount::unmount(&self.path);
    }
}
