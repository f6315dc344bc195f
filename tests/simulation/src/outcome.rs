//! What came of a run.

use std::fmt;
use std::ops::AddAssign;

use crate::Failure;

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// What was wrong, and at which step; None: nothing.
    pub failure: Option<(u32, Failure)>,
    /// What happened, line by line, if that was asked for.
    pub trace: Vec<String>,
    /// How often what happened.
    pub counts: Counts,
}

macro_rules! counts {
    ($($(#[doc = $text:literal])+ $name:ident,)+) => {
        /// How often things happened: a simulation in which nothing happens finds nothing.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counts {
            $($(#[doc = $text])+ pub $name: u64,)+
        }

        impl AddAssign for Counts {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)+
            }
        }

        impl fmt::Display for Counts {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let all = [$((stringify!($name), self.$name),)+];
                for (index, (name, count)) in all.into_iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{} {}", count, name.replace('_', " "))?;
                }
                Ok(())
            }
        }
    };
}

counts! {
    /// Requests that the driver has published.
    requests,
    /// Requests that ended well.
    good,
    /// Requests that ended with an error.
    failed,
    /// Requests that the driver gave up at a reset.
    given_up,
    /// Requests, or chains, that broke rules.
    malformed,
    /// Messages of the front-end.
    messages,
    /// Turns of workers.
    turns,
    /// Connections.
    connections,
    /// Connections that the front-end cut.
    disconnects,
    /// Processes that were killed between two turns.
    kills,
    /// Processes that were killed in the middle of a turn.
    kills_in_turns,
    /// Power losses.
    power_losses,
    /// Requests that a killed process had under way, and that the next one ended.
    recovered,
    /// Rings that were stopped.
    stops,
    /// Rings that were reset and moved.
    moves,
    /// Resets of the device.
    resets,
    /// Regions of memory that were added.
    plugs,
    /// Regions of memory that were removed.
    unplugs,
    /// Things that the driver did in the middle of a worker's turn.
    races,
    /// Kicks for nothing.
    idle_kicks,
    /// Kicks that were lost with their eventfd.
    lost_kicks,
    /// Calls that the driver saw.
    calls,
    /// Waits for the lock on the image.
    waits_for_lock,
}
