//! The command line. The doc comments of the fields are the help text.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use framework::capabilities::Capabilities;
use framework::program::options::CommonOptions;

use crate::auto::{Policy, Pressure};
use crate::device::{Settings, target_pages};
use crate::error::Result;
use crate::offer::Offer;

/// What `--print-capabilities` says.
pub const CAPABILITIES: Capabilities = Capabilities { device: "balloon", features: &[] };

const BALLOON: &str = "Balloon";
const AUTO: &str = "Automatic size";

/// Serves a virtio memory balloon over vhost-user
#[derive(Clone, Debug, Parser)]
#[command(name = "outrigger-balloon", version)]
pub struct Options {
    /// Ask the guest for so many bytes at first; the control socket can change that
    #[arg(long, value_name = "BYTES", default_value_t = 0, help_heading = BALLOON)]
    pub target: u64,

    /// Ask the guest for its statistics so often, in seconds; 0 is never
    #[arg(long, value_name = "SECONDS", default_value_t = 0, help_heading = BALLOON,
          value_parser = clap::value_parser!(u32))]
    pub stats_period: u32,

    /// Do not let the guest take memory back on its own when it runs out
    #[arg(long, help_heading = BALLOON)]
    pub no_deflate_on_oom: bool,

    /// Do not have the guest report memory that is free
    #[arg(long, help_heading = BALLOON)]
    pub no_reporting: bool,

    /// The largest queue that is accepted, a power of two
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = parse_queue_size,
          help_heading = BALLOON)]
    pub queue_size: u16,

    /// Follow the host's memory pressure, as far as the guest's own statistics allow
    #[arg(long, conflicts_with = "target", help_heading = AUTO)]
    pub auto: bool,

    /// Leave the guest at least so many bytes available
    #[arg(long, value_name = "BYTES", default_value_t = 256 << 20, requires = "auto",
          help_heading = AUTO)]
    pub auto_floor: u64,

    /// Ask the guest for so many bytes at most
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 40, requires = "auto",
          help_heading = AUTO)]
    pub auto_ceiling: u64,

    /// Change the balloon by so many bytes a second at most; a guest that suffers gets more back
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20, requires = "auto",
          help_heading = AUTO)]
    pub auto_rate: u64,

    /// Where the memory pressure is read; memory.pressure of a control group is another choice
    #[arg(long, value_name = "PATH", default_value = "/proc/pressure/memory", requires = "auto",
          help_heading = AUTO)]
    pub auto_pressure: PathBuf,

    #[expect(missing_docs, reason = "each of them has its own help text")]
    #[command(flatten)]
    pub common: CommonOptions,
}

impl Options {
    /// What the user decided, with what it needs opened.
    ///
    /// # Errors
    /// A target that is too large, or no memory pressure to be read.
    pub fn settings(&self) -> Result<Settings> {
        let auto = if self.auto {
            let policy =
                Policy { floor: self.auto_floor, ceiling: self.auto_ceiling, rate: self.auto_rate };
            Some((policy, Pressure::open(&self.auto_pressure)?))
        } else {
            None
        };
        let period = Duration::from_secs(self.stats_period.into());
        Ok(Settings {
            target: target_pages(self.target)?,
            offer: Offer { deflate_on_oom: !self.no_deflate_on_oom, reporting: !self.no_reporting },
            polling: (!period.is_zero()).then_some(period),
            queue_size: self.queue_size,
            auto,
        })
    }
}

fn parse_queue_size(text: &str) -> Result<u16, String> {
    let size = text.parse().map_err(|_| format!("{text:?} is not a number up to 32768"))?;
    if (2..=32_768).contains(&size) && u16::is_power_of_two(size) {
        Ok(size)
    } else {
        Err(format!("{size} is not a power of two from 2 to 32768"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(arguments: &[&str]) -> Result<Settings> {
        let program = std::iter::once("outrigger-balloon");
        let all = program.chain(["--socket-path=/s"]).chain(arguments.iter().copied());
        Options::try_parse_from(all).unwrap().settings()
    }

    #[test]
    fn a_target_is_in_bytes() {
        assert_eq!(settings(&["--target=67108864"]).unwrap().target, 16384);
        assert!(settings(&["--target=18446744073709551615"]).is_err());
    }

    #[test]
    fn what_is_offered_can_be_switched_off() {
        let offer = settings(&["--no-deflate-on-oom", "--no-reporting"]).unwrap().offer;
        assert_eq!(offer, Offer { deflate_on_oom: false, reporting: false });
    }

    #[test]
    fn the_descriptor_is_that_of_the_program() {
        let descriptor = framework::capabilities::Descriptor {
            description: "Outrigger balloon back-end".into(),
            device: CAPABILITIES.device,
            binary: "/usr/libexec/outrigger-balloon".into(),
        };
        assert_eq!(include_str!("../50-outrigger-balloon.json"), descriptor.to_json());
    }

    #[test]
    fn where_there_is_no_pressure_auto_says_what_to_do() {
        let error = settings(&["--auto", "--auto-pressure=/nowhere"]).unwrap_err().to_string();
        assert!(error.contains("psi=1"), "{error}");
    }
}
