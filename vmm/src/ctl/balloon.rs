//! `outrigger ctl PATH balloon`: what a balloon's daemon is told.

use std::io;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::{Ctl, for_device};
use crate::config::size::Size;

/// How long a guest may take to send newer statistics; one without a driver never does.
const NEWER: Duration = Duration::from_secs(3);
/// How often is looked whether it has.
const LOOK: Duration = Duration::from_millis(20);

// No doc comment: clap would show it as the command's description.
#[derive(Debug, Clone, Args)]
pub struct Balloon {
    /// Which device, if there are several balloons
    #[arg(long, value_name = "NAME", default_value = "balloon")]
    pub device: String,

    /// What to do: `stats`, if nothing is said.
    #[command(subcommand)]
    pub what: Option<What>,
}

/// What to do; without it, `stats`.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum What {
    /// Ask the guest for so much memory, such as 2G; 0 gives all of it back
    Target {
        /// Bytes, or a number with K, M, G or T
        size: Size,
    },
    /// What is in the balloon, what the host got back, and what the guest says of its memory
    Stats {
        /// Have the guest send its statistics now
        #[arg(long)]
        refresh: bool,
    },
    /// Whether memory may be given back to the host now: off while it is pinned or copied
    Discard {
        /// Off: what goes into the balloon is remembered, and given back when that is allowed again
        state: State,
    },
    /// How often the guest is asked for its statistics
    Polling {
        /// 0 is never
        seconds: u32,
    },
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum State {
    /// It may.
    On,
    /// It may not.
    Off,
}

impl Balloon {
    /// Asks the daemon, and returns the line that answers.
    pub(super) fn answer(&self, ctl: &Ctl) -> io::Result<String> {
        match self.what.unwrap_or(What::Stats { refresh: false }) {
            What::Target { size: Size(bytes) } => {
                self.ask(ctl, &json!({ "cmd": "target", "bytes": bytes }))
            }
            What::Discard { state } => {
                let state = if state == State::On { "on" } else { "off" };
                self.ask(ctl, &json!({ "cmd": "discard", "state": state }))
            }
            What::Polling { seconds } => {
                self.ask(ctl, &json!({ "cmd": "polling", "seconds": seconds }))
            }
            What::Stats { refresh: false } => self.stats(ctl),
            What::Stats { refresh: true } => self.newer_stats(ctl),
        }
    }

    fn ask(&self, ctl: &Ctl, command: &Value) -> io::Result<String> {
        ctl.ask(&for_device(&self.device, command))
    }

    /// Of all that a daemon counts, what is the balloon's.
    fn stats(&self, ctl: &Ctl) -> io::Result<String> {
        let answer = self.ask(ctl, &json!({ "cmd": "stats" }))?;
        let Ok(Value::Object(mut members)) = serde_json::from_str(&answer) else {
            return Ok(answer);
        };
        let Some(Value::Object(mut stats)) = members.remove("device_stats") else {
            return Ok(answer);
        };
        stats.extend(members.remove("ok").map(|ok| ("ok".to_owned(), ok)));
        Ok(format!("{}\n", Value::Object(stats)))
    }

    fn newer_stats(&self, ctl: &Ctl) -> io::Result<String> {
        let answer = self.ask(ctl, &json!({ "cmd": "refresh" }))?;
        let Some(before) = statistics(&answer) else { return Ok(answer) };
        let until = Instant::now() + NEWER;
        loop {
            let stats = self.stats(ctl)?;
            let newer = statistics(&stats).is_none_or(|count| count > before);
            if newer || Instant::now() > until {
                return Ok(stats);
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// How many statistics had come when a daemon answered.
fn statistics(answer: &str) -> Option<u64> {
    serde_json::from_str::<Value>(answer).ok()?.get("statistics")?.as_u64()
}
