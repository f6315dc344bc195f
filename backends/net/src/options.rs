//! The command line. The doc comments of the fields are the help text.

use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{ArgGroup, Parser};
use framework::capabilities::Capabilities;
use framework::engine::Choice;
use framework::program::options::{CommonOptions, EngineChoice, SandboxMode};
use virtio_spec::net::MAC_LEN;

use crate::capture::Capture;
use crate::device::{MTU_RANGE, Settings};
use crate::error::Error;
use crate::rate_options::RateOptions;
use crate::uplink::Uplink;
use crate::uplink::stream::Stream;
use crate::uplink::switch::Switch;
use crate::uplink::switch::forwarding::Rules;
use crate::uplink::switch::trunk::{Outside, Trunk};
use crate::uplink::tap::{self, Tap};

/// What `--print-capabilities` says.
pub const CAPABILITIES: Capabilities = Capabilities { device: "net", features: &[] };

const UPLINK: &str = "Uplink";
const CAPTURE: &str = "Capture";
const CARD: &str = "Card";

/// Serves a virtio network card over vhost-user
#[derive(Clone, Debug, Parser)]
#[command(name = "outrigger-net", version)]
#[command(group(ArgGroup::new("uplink").required(true).multiple(true).args(["tap", "tap_fd", "unix", "unix_listen", "switch", "null", "echo"])))]
#[command(group(ArgGroup::new("one").args(["tap", "tap_fd", "unix", "unix_listen", "null", "echo"])))]
pub struct Options {
    /// A tap interface of the host, which is made if it is not there
    #[arg(long, value_name = "NAME", help_heading = UPLINK)]
    pub tap: Option<String>,

    /// Tap descriptors that were inherited, one for each queue pair; macvtap too
    #[arg(long, value_name = "FDNUM", value_delimiter = ',', help_heading = UPLINK)]
    pub tap_fd: Vec<RawFd>,

    /// A stream socket that passt, gvproxy or QEMU's -netdev stream listens on
    #[arg(long, value_name = "PATH", help_heading = UPLINK)]
    pub unix: Option<PathBuf>,

    /// A stream socket to which such a peer connects
    #[arg(long, value_name = "PATH", help_heading = UPLINK)]
    pub unix_listen: Option<PathBuf>,

    /// A learning switch: each --socket-path is a port, with a guest of its own; --tap, --tap-fd, --unix
    /// or --unix-listen beside it is one more port, which leads outside
    #[arg(long, conflicts_with_all = ["null", "echo"], help_heading = UPLINK)]
    pub switch: bool,

    /// Ports of the switch, counted from 0, that reach only ports that are not among these, such as the
    /// one that leads outside
    #[arg(long, value_name = "PORT", value_delimiter = ',', help_heading = UPLINK)]
    pub isolate: Vec<usize>,

    /// The most frames that a port of the switch may have flooded in a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help_heading = UPLINK)]
    pub flood_limit: Option<u64>,

    /// Nothing: what is sent is gone; for measuring, frames of BYTES bytes come as fast as they are taken
    #[arg(long, value_name = "BYTES", num_args = 0..=1, default_missing_value = "0",
          value_parser = clap::value_parser!(u16).range(0..=65_000), help_heading = UPLINK)]
    pub null: Option<u16>,

    /// A mirror, for measuring: what is sent comes back
    #[arg(long, help_heading = UPLINK)]
    pub echo: bool,

    /// Write what crosses the card to this file, in the format pcapng of Wireshark and tcpdump
    #[arg(long, value_name = "FILE", help_heading = CAPTURE)]
    pub capture: Option<PathBuf>,

    /// Keep at most so many bytes of each frame
    #[arg(long, value_name = "BYTES", default_value_t = 65_535, requires = "capture",
          value_parser = clap::value_parser!(u32).range(14..=65_535), help_heading = CAPTURE)]
    pub capture_snap: u32,

    /// Stop when the file has so many MiB
    #[arg(long, value_name = "MIB", default_value_t = 256, requires = "capture",
          value_parser = clap::value_parser!(u32).range(1..), help_heading = CAPTURE)]
    pub capture_size: u32,

    /// The card's address, such as 52:54:00:12:34:56; the driver chooses one if this is not given
    #[arg(long, value_name = "MAC", value_parser = parse_mac, help_heading = CARD)]
    pub mac: Option<[u8; MAC_LEN]>,

    /// Tell the driver this MTU
    #[arg(long, value_name = "BYTES", help_heading = CARD,
          value_parser = clap::value_parser!(u16).range(i64::from(MTU_RANGE.0)..))]
    pub mtu: Option<u16>,

    /// The most queue pairs that are offered: one for each CPU of the guest
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = CARD,
          value_parser = clap::value_parser!(u16).range(1..=128))]
    pub queue_pairs: u16,

    /// Serve the control queue, where the front-end passes it through (QEMU does not): filters,
    /// the number of queues in use, hashes, and how calls are held back become the driver's choice
    #[arg(long, help_heading = CARD)]
    pub ctrl_vq: bool,

    /// The largest queue that is accepted, a power of two
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = parse_queue_size,
          help_heading = CARD)]
    pub queue_size: u16,

    /// Offer neither checksums nor segmentation
    #[arg(long, help_heading = CARD)]
    pub no_offloads: bool,

    #[expect(missing_docs, reason = "each of them has its own help text")]
    #[command(flatten)]
    pub rates: RateOptions,

    #[expect(missing_docs, reason = "each of them has its own help text")]
    #[command(flatten)]
    pub common: CommonOptions,
}

impl Options {
    /// Opens what each card is to be plugged into: one for each front-end. With a switch, there may be
    /// something that it leads to.
    ///
    /// # Errors
    /// When it is not to be had; the message says what to do.
    pub fn open(&self) -> Result<(Vec<Uplink>, Option<Trunk>), framework::Error> {
        if !self.switch {
            if !self.isolate.is_empty() || self.flood_limit.is_some() {
                return Err(Error::NotASwitch.into());
            }
            return Ok((vec![self.open_one()?], None));
        }
        let outside = match self.open_stream()? {
            Some(stream) => Some(Outside::Stream(stream)),
            None => self.open_tap(1)?.map(Outside::Tap),
        };
        let ports = self.common.socket_path.len().max(1);
        if let Some(port) = self.isolate.iter().find(|port| **port >= ports) {
            return Err(Error::NoSuchPort { port: *port, ports }.into());
        }
        let (isolated, floods_per_second) = (self.isolate.clone(), self.flood_limit);
        let rules = Rules { isolated, floods_per_second };
        let (ports, trunk) = Switch::ports(ports, self.queue_pairs, &rules, outside)?;
        let trunk = trunk.map(|trunk| self.with_engine(trunk)).transpose()?;
        Ok((ports.into_iter().map(Uplink::Switch).collect(), trunk))
    }

    fn with_engine(&self, trunk: Trunk) -> Result<Trunk, Error> {
        let choice = match self.common.engine {
            EngineChoice::Auto => Choice::Auto,
            EngineChoice::IoUring => Choice::Uring,
            EngineChoice::Threads => Choice::Threads,
        };
        let restricted = self.common.sandbox == SandboxMode::On;
        trunk.with_engine(choice, restricted).map_err(|source| Error::Engine { source })
    }

    fn open_one(&self) -> Result<Uplink, framework::Error> {
        if let Some(tap) = self.open_tap(self.queue_pairs)? {
            return Ok(Uplink::Tap(tap));
        }
        if let Some(stream) = self.open_stream()? {
            if self.queue_pairs > 1 {
                return Err(Error::OnePair { uplink: stream.describe() }.into());
            }
            return Ok(Uplink::Stream(stream));
        }
        Ok(match self.null {
            Some(load) => Uplink::Null { load },
            // One of them is there: the command line demands it.
            None => Uplink::Echo,
        })
    }

    fn open_tap(&self, queues: u16) -> Result<Option<Tap>, framework::Error> {
        let tap = match &self.tap {
            Some(name) => Tap::open(name, queues)?,
            None if self.tap_fd.is_empty() => return Ok(None),
            None => Tap::from_fds(tap::claim(&self.tap_fd)?)?,
        };
        if let Some(mtu) = self.mtu {
            tap.carries(mtu)?;
        }
        Ok(Some(tap))
    }

    fn open_stream(&self) -> Result<Option<Stream>, framework::Error> {
        match (&self.unix, &self.unix_listen) {
            (Some(path), _) => Stream::connect(path).map(Some),
            (None, Some(path)) => Stream::listen(path).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// Opens the file of the capture, if there is to be one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn open_capture(&self) -> Result<Option<Arc<Capture>>, framework::Error> {
        let Some(path) = &self.capture else { return Ok(None) };
        let limit = u64::from(self.capture_size) << 20;
        let snap = usize::try_from(self.capture_snap).unwrap_or(usize::MAX);
        Ok(Some(Arc::new(Capture::create(path, snap, limit)?)))
    }

    /// What the user decided about the n-th card itself. Each has an address of its own: those of the
    /// others follow that of the first.
    pub fn settings(&self, number: usize) -> Settings {
        let inherited = if self.switch { 0 } else { self.tap_fd.len() };
        let inherited = u16::try_from(inherited).unwrap_or(u16::MAX);
        Settings {
            mac: self.mac.map(|mac| following(mac, number)),
            mtu: self.mtu,
            pairs: if inherited > 0 { inherited } else { self.queue_pairs },
            queue_size: self.queue_size,
            offloads: !self.no_offloads,
            ctrl_vq: self.ctrl_vq,
        }
    }
}

/// The n-th address after one, within its vendor's.
fn following(mac: [u8; MAC_LEN], n: usize) -> [u8; MAC_LEN] {
    let [a, b, c, d, e, f] = mac;
    let [.., x, y, z] = (u64::from(u32::from_be_bytes([0, d, e, f])) + n as u64).to_be_bytes();
    [a, b, c, x, y, z]
}

fn parse_mac(text: &str) -> Result<[u8; MAC_LEN], String> {
    let wrong = || format!("{text:?} is no address such as 52:54:00:12:34:56");
    let mut mac = [0; MAC_LEN];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|part| part.len() == 2).ok_or_else(wrong)?;
        *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
    }
    if parts.next().is_some() {
        return Err(wrong());
    }
    if mac[0] & 1 == 1 || mac == [0; MAC_LEN] {
        return Err(format!(
            "{text:?} is a group's address or none: take one with an even first byte"
        ));
    }
    Ok(mac)
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
    use clap::CommandFactory;

    use super::*;

    fn parse(words: &[&str]) -> Result<Options, clap::Error> {
        Options::try_parse_from(std::iter::once(&"outrigger-net").chain(words))
    }

    #[test]
    fn the_definition_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn limits_are_numbers_above_zero() {
        let options = parse(&["--null", "--tx-bytes-per-second=9", "--rx-packets-per-second=7"]);
        let rates = options.unwrap().rates;
        assert_eq!(
            (rates.transmit().bytes_per_second, rates.receive().bytes_per_second),
            (Some(9), None)
        );
        assert_eq!(rates.receive().packets_per_second, Some(7));
        for wrong in ["--tx-packets-per-second=0", "--rx-bytes-per-second=-1"] {
            assert!(parse(&["--null", wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn each_card_of_a_switch_has_its_own_address() {
        let options = parse(&["--switch", "--mac=52:54:00:00:00:ff"]).unwrap();
        assert_eq!(options.settings(0).mac, Some([0x52, 0x54, 0, 0, 0, 0xff]));
        assert_eq!(options.settings(1).mac, Some([0x52, 0x54, 0, 0, 1, 0]));
        assert_eq!(following([2, 0, 0, 0xff, 0xff, 0xff], 1), [2, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_switch_may_lead_outside() {
        for words in [&["--switch"][..], &["--switch", "--tap=a"], &["--switch", "--unix=a"]] {
            assert!(parse(words).is_ok(), "{words:?}");
        }
    }

    #[test]
    fn a_stream_has_one_pair() {
        let error = parse(&["--unix=a", "--queue-pairs=2"]).unwrap().open().unwrap_err();
        assert!(error.to_string().contains("--queue-pairs"), "{error}");
    }

    #[test]
    fn what_is_said_of_a_switch_needs_one() {
        for words in [&["--null", "--isolate=1"], &["--tap=a", "--flood-limit=9"]] {
            let error = parse(words).unwrap().open().unwrap_err();
            assert!(error.to_string().contains("--switch"), "{error}");
        }
    }

    #[test]
    fn ports_that_are_not_there_are_not_isolated() {
        let error = parse(&["--switch", "--isolate=0,1"]).unwrap().open().unwrap_err();
        assert!(error.to_string().contains("--isolate"), "{error}");
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for words in [
            &["--unix=a", "--unix-listen=b"][..],
            &["--switch", "--tap=a", "--unix=b"],
            &["--switch", "--null"],
            &["--queue-pairs=2"],
            &["--null", "--capture-snap=100"],
        ] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }
}
