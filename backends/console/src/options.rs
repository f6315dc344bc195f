//! The command line. The doc comments of the fields are the help text.

use std::path::PathBuf;

use clap::Parser;
use framework::capabilities::Capabilities;
use framework::program::options::CommonOptions;

use crate::backend::{Directories, Opened};
use crate::board::Board;
use crate::commands::default_overflow;
use crate::device::{PORTS_MAX, Settings};
use crate::error::Error;
use crate::line::Line;
use crate::message::ResizeOrder;
use crate::port_spec::{Overflow, PortSpec, Where};

/// What `--print-capabilities` says.
pub const CAPABILITIES: Capabilities = Capabilities { device: "console", features: &[] };

const PORTS: &str = "Ports";

/// Serves a virtio console with several ports over vhost-user
#[derive(Clone, Debug, Parser)]
#[command(name = "outrigger-console", version)]
pub struct Options {
    /// A port, such as name=org.agent,console=off,backend=unix:/run/agent.sock
    ///
    /// The first one is hvc0 in the guest unless it says console=off. Back ends are stdio (leave with
    /// Ctrl-] q), pty[:LINK], unix:PATH (connect=on: somebody else listens there), tcp:[ADDRESS:]PORT (of
    /// this machine alone, unless remote=on), file:PATH (rotate=SIZE and keep=N: how large it may become,
    /// and how many older ones are kept), log:N and null. log=N keeps the latest N KiB of output for
    /// whoever attaches later; overflow=block|drop-oldest says what happens to output that nobody takes
    /// (see --overflow); readers=N lets so many share a socket. A comma in a value is doubled.
    #[arg(long, value_name = "KEY=VALUE,…", help_heading = PORTS)]
    pub port: Vec<PortSpec>,

    /// What happens to output that nobody takes, unless the port says so: consoles drop the oldest,
    /// and other ports block, if this is not given
    ///
    /// With block, a daemon that is killed loses nothing: the next one writes out what had not got to the
    /// reader, some of it perhaps once more. What a reader had not taken when the guest's queue stopped
    /// (up to 1 MiB) waits in the daemon, and dies with it; so does what a console was just writing (up to
    /// 16 KiB). With drop-oldest, all that waits for a reader does (64 KiB, or log=N). Files get all of it
    /// either way.
    #[arg(long, value_enum, help_heading = PORTS)]
    pub overflow: Option<Overflow>,

    /// The most ports, those added at run time among them; a front-end has to provide two queues for
    /// each, and two more
    #[arg(long, value_name = "N", default_value_t = 8, help_heading = PORTS,
          value_parser = clap::value_parser!(u16).range(1..=i64::from(PORTS_MAX)))]
    pub max_ports: u16,

    /// Offer the first port alone, without the control queues
    #[arg(long, help_heading = PORTS)]
    pub no_multiport: bool,

    /// Allow ports that are added at run time to append to files below this directory
    #[arg(long, value_name = "DIR", help_heading = PORTS)]
    pub port_directory: Vec<PathBuf>,

    /// Which comes first in messages about a console's size
    ///
    /// Kernels that are kept up to date read columns first, the long-term ones among them (Debian's 6.1
    /// does). Most of those from before 2026 read rows first, and a driver does not say which it is. With
    /// --no-multiport there are no such messages, and every kernel has the size right.
    #[arg(long, value_enum, default_value_t, help_heading = PORTS)]
    pub resize_order: ResizeOrder,

    /// The largest queue that is accepted, a power of two
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = parse_queue_size,
          help_heading = PORTS)]
    pub queue_size: u16,

    #[expect(missing_docs, reason = "each of them has its own help text")]
    #[command(flatten)]
    pub common: CommonOptions,
}

impl Options {
    /// Opens the back ends of all ports.
    ///
    /// # Errors
    /// When one is not to be had; the message says what to do.
    pub fn open(&self) -> Result<Board, framework::Error> {
        let most = if self.no_multiport { 1 } else { self.max_ports };
        if self.port.len() > most.into() {
            return Err(Error::TooManyPorts { count: self.port.len(), most }.into());
        }
        if self.port.iter().filter(|port| port.backend == Where::Stdio).count() > 1 {
            return Err(Error::TwoStdio.into());
        }
        let mut board = Board::new(most, self.resize_order);
        board.directories = Directories::open(&self.port_directory)?;
        for spec in &self.ports() {
            let console = spec.console.unwrap_or(board.table.entries().next().is_none());
            let overflow = self.overflow.unwrap_or(default_overflow(console));
            board.add(spec, Line::new(spec, overflow, Opened::open(spec)?), false)?;
        }
        Ok(board)
    }

    /// Without any port there is a console that nobody sees.
    fn ports(&self) -> Vec<PortSpec> {
        if !self.port.is_empty() {
            return self.port.clone();
        }
        vec![PortSpec::new(Where::Null)]
    }

    /// What the user decided about the device itself.
    pub fn settings(&self) -> Settings {
        Settings { queue_size: self.queue_size, multiport: !self.no_multiport }
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
