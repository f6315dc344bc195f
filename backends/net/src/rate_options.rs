//! Limits on the command line. The doc comments of the fields are the help text.

use clap::Args;

use crate::rate::Limit;

const RATE: &str = "Limits";

/// How fast frames may cross each card from the start; the control socket changes it.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = RATE)]
pub struct RateOptions {
    /// Let a guest receive at most so many bytes of frames in a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub rx_bytes_per_second: Option<u64>,

    /// Let a guest receive at most so many frames in a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub rx_packets_per_second: Option<u64>,

    /// Let a guest transmit at most so many bytes of frames in a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub tx_bytes_per_second: Option<u64>,

    /// Let a guest transmit at most so many frames in a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub tx_packets_per_second: Option<u64>,
}

impl RateOptions {
    /// What a guest may receive.
    pub fn receive(&self) -> Limit {
        let (bytes, packets) = (self.rx_bytes_per_second, self.rx_packets_per_second);
        Limit { bytes_per_second: bytes, packets_per_second: packets }
    }

    /// What a guest may transmit.
    pub fn transmit(&self) -> Limit {
        let (bytes, packets) = (self.tx_bytes_per_second, self.tx_packets_per_second);
        Limit { bytes_per_second: bytes, packets_per_second: packets }
    }
}
