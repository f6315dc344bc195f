//! What a series has shown.

use std::time::Duration;

use crate::slow::Landings;

/// Counts of a series.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Lives of a daemon that were ended, and that another one took over from.
    pub kills: u32,
    /// Kills that hit a daemon while it was taking over.
    pub hasty: u32,
    /// Reads that ended, each sector of them checked.
    pub reads: u64,
    /// Writes that ended.
    pub writes: u64,
    /// Flushes that ended.
    pub flushes: u64,
    /// Sectors (a guest: blocks) whose contents were compared.
    pub compared: u64,
    /// Requests that daemons had taken and not completed when they died; None where only the guest
    /// could tell.
    pub taken: Option<u64>,
    /// The longest time from the submission of a request to its end.
    pub longest: Duration,
    /// What happened on a slow disk.
    pub landings: Option<Landings>,
}

impl Tally {
    /// Requests that ended, each as it has to.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.reads + self.writes + self.flushes
    }
}
