//! What can go wrong in a campaign: a promise that was broken, or something around it.

use std::io;
use std::time::Duration;

use crate::model::Wrong;

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of a campaign.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A series failed.
    #[error("series {series}, seed {seed}, after {kills} kills: {why}")]
    Series {
        /// Its name.
        series: String,
        /// What it was started with.
        seed: u64,
        /// How many lives of the daemon had ended.
        kills: u32,
        /// Why.
        why: Box<Error>,
    },
    /// A sector does not hold what it has to.
    #[error("{request} found that sector {sector} {wrong}")]
    Data {
        /// Who found it.
        request: String,
        /// Which sector.
        sector: u64,
        /// What is wrong with it.
        wrong: Wrong,
    },
    /// A request does not end.
    #[error("{request} has not ended after {waited:?}{hint}")]
    Hangs {
        /// The request.
        request: String,
        /// Since it was submitted.
        waited: Duration,
        /// What the queue looks like.
        hint: &'static str,
    },
    /// A daemon that was asked to end left requests in flight.
    #[error("the daemon has ended on SIGTERM and left {count} requests of queue {queue} in flight")]
    NotDrained {
        /// The queue's index.
        queue: usize,
        /// How many.
        count: usize,
    },
    /// A successor touched the disk while its predecessor's requests were still on their way.
    #[error(
        "the successor wrote while {outstanding} requests of its killed predecessor were still on \
         their way to the disk"
    )]
    DidNotWait {
        /// How many.
        outstanding: usize,
    },
    /// The series has shown nothing.
    #[error("the series has shown nothing: {0}; try another seed or more kills")]
    Idle(&'static str),
    /// A system call failed.
    #[error("could not {action}")]
    System {
        /// What was tried.
        action: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The driver or the front-end failed.
    #[error(transparent)]
    Driver(#[from] driver::Error),
    /// A daemon or a guest failed, or the machine lacks something.
    #[error(transparent)]
    Guest(#[from] e2e::Error),
}

impl Error {
    /// For `map_err`: what was tried, with the system's reason.
    pub(crate) fn system<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System { action, source: source.into() }
    }
}
