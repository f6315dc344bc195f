//! The options of `bench blk`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::ArgPredicate::IsPresent;

use super::plan::{BackEnd, Medium, Operation};

/// What to measure, for how long, and where.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Media behind the device.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "null,tmpfs,cached,direct",
        default_value_if("callgrind", IsPresent, "null,tmpfs,cached")
    )]
    pub(crate) media: Vec<Medium>,
    /// What the client does.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "randread,randwrite,seqread",
          default_value_ifs([("callgrind", IsPresent, "randread"), ("quick", IsPresent, "randread")]))]
    pub(crate) ops: Vec<Operation>,
    /// Queue depths: requests in flight at any time.
    #[arg(long, value_delimiter = ',', default_value = "1,8,32,128",
          default_value_ifs([("callgrind", IsPresent, "1,32"), ("quick", IsPresent, "1,32")]),
          value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) depths: Vec<u16>,
    /// Back-ends to compare.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "outrigger,outrigger-no-poll,qemu,reference,none"
    )]
    pub(crate) back_ends: Vec<BackEnd>,
    /// Rounds; medians are taken over them.
    #[arg(long, value_name = "N", default_value = "3", default_value_if("quick", IsPresent, "1"),
          value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) rounds: u16,
    /// Length of each measurement.
    #[arg(long, value_name = "SECONDS", default_value = "2.0", default_value_if("quick", IsPresent, "0.5"), value_parser = seconds)]
    pub(crate) runtime: f64,
    /// Load before each measurement.
    #[arg(long, value_name = "SECONDS", default_value = "0.3", value_parser = seconds)]
    pub(crate) warm_up: f64,
    /// How long an idle back-end is watched, once per medium and operation; 0 not to.
    #[arg(long, value_name = "SECONDS", default_value = "2.0", default_value_if("quick", IsPresent, "0.5"), value_parser = seconds)]
    pub(crate) idle: f64,
    /// Size of the media in MiB.
    #[arg(long, value_name = "MIB", default_value = "1024", default_value_if("quick", IsPresent, "64"),
          value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) size: u64,
    /// A short run that shows whether everything works: random reads at depths 1 and 32, one
    /// round of half a second on 64 MiB, reported under target/bench. What else is given wins.
    #[arg(long)]
    pub(crate) quick: bool,
    /// CPU of the client.
    #[arg(long, value_name = "CPU", default_value_t = 0)]
    pub(crate) client_cpu: usize,
    /// CPU of the back-end.
    #[arg(long, value_name = "CPU", default_value_t = 1)]
    pub(crate) back_end_cpu: usize,
    /// Let the client ask for completions all the time instead of sleeping until one is signalled.
    #[arg(long)]
    pub(crate) client_poll: bool,
    /// Directory on a disk file system for the media `cached` and `direct`.
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    pub(crate) dir: PathBuf,
    /// Directory on tmpfs.
    #[arg(long, value_name = "DIR", default_value = "/dev/shm")]
    pub(crate) tmpfs_dir: PathBuf,
    /// Directory of outrigger-blk and reference-blk [default: this program's own].
    #[arg(long, value_name = "DIR")]
    pub(crate) bin_dir: Option<PathBuf>,
    /// Directory for the report [default: benches/results].
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Name of the report, without .json and .md [default: blk].
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Count instructions per request with callgrind instead of measuring time.
    #[arg(long)]
    pub(crate) callgrind: bool,
    /// Requests of the shorter of the two runs under callgrind.
    #[arg(long, value_name = "N", default_value_t = 20_000, requires = "callgrind",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) callgrind_requests: u64,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("seconds between 0 and 3600, such as 0.5".to_owned()),
    }
}
