//! The table as bytes: for a daemon that comes after this one, and for a migration's destination.
//!
//! JSON with a version, since it is read and written seldom. Whoever reads believes nothing: what does
//! not hold together is refused as a whole.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use virtio_spec::console::Resize;

use crate::error::{Error, Result};
use crate::port_spec::Overflow;
use crate::table::{Entry, Identity, Table, check_name};

/// The version that is written; there is no other yet.
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    version: u32,
    driver_ready: bool,
    /// Ports that are gone, of which the driver has not heard so.
    leaving: Vec<u16>,
    ports: Vec<Port>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Port {
    number: u16,
    name: String,
    console: bool,
    at_run_time: bool,
    announced: bool,
    ready: bool,
    guest_open: bool,
    told_open: bool,
    size: Option<(u16, u16)>,
    #[serde(default)]
    origin: Origin,
}

/// How a port was added at run time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Origin {
    /// Its back end; none if that was a descriptor, which is lost with the process.
    pub(crate) backend: Option<String>,
    /// How much of the latest output is kept, KiB.
    pub(crate) log: u32,
    /// What happens to output that nobody takes.
    pub(crate) overflow: Option<Overflow>,
}

/// What was read.
#[derive(Debug)]
pub struct Saved {
    /// Whether the driver had said that it is there.
    pub driver_ready: bool,
    /// Ports that were gone, of which the driver had not heard so.
    pub leaving: Vec<u16>,
    /// The ports that there were, by number.
    pub entries: Vec<(u16, Entry)>,
}

/// The table as bytes: 200 for each port, their names, and the paths of files of ports added at run time.
pub fn encode(table: &Table) -> Vec<u8> {
    let ports = table.entries().map(|(number, entry)| Port {
        number,
        name: entry.identity.name.clone(),
        console: entry.identity.console,
        at_run_time: entry.at_run_time,
        announced: entry.announced,
        ready: entry.ready,
        guest_open: entry.guest_open,
        told_open: entry.told_open,
        size: entry.size.map(|size| (size.cols, size.rows)),
        origin: entry.origin.clone(),
    });
    let driver_ready = table.is_driver_ready();
    let state = State {
        version: VERSION,
        driver_ready,
        leaving: table.leaving().collect(),
        ports: ports.collect(),
    };
    // Numbers and strings always serialise.
    serde_json::to_vec(&state).unwrap_or_default()
}

/// Reads what [`encode`] wrote, for a table of so many ports.
///
/// # Errors
/// [`Error::State`] when it is something else.
pub fn decode(bytes: &[u8], most: u16) -> Result<Saved> {
    let refused = |reason: String| Error::State { reason };
    let state: State = serde_json::from_slice(bytes).map_err(|error| refused(error.to_string()))?;
    if state.version != VERSION {
        return Err(refused(format!("version {}", state.version)));
    }
    let (mut numbers, mut names) = (BTreeSet::new(), BTreeSet::new());
    let mut entries = Vec::new();
    for port in state.ports {
        check_name(&port.name)?;
        let fresh = numbers.insert(port.number) && names.insert(port.name.clone());
        if !fresh || port.number >= most {
            return Err(refused(format!("port {} is there twice or too high", port.number)));
        }
        entries.push((port.number, port.entry()));
    }
    Ok(Saved { driver_ready: state.driver_ready, leaving: state.leaving, entries })
}

impl Port {
    fn entry(self) -> Entry {
        Entry {
            announced: self.announced,
            ready: self.announced && self.ready,
            guest_open: self.announced && self.guest_open,
            told_open: self.told_open,
            size: self.size.map(|(cols, rows)| Resize { cols, rows }),
            origin: self.origin,
            ..Identity { name: self.name, console: self.console }.entry(self.at_run_time)
        }
    }
}
