//! A guest of Outrigger's with a device of every daemon there is.

use virtio_spec::{DeviceType, names};

use crate::block::{FIRST, feature_bits};
use crate::console::Results;
use crate::error::Result;
use crate::job::Job;
use crate::site::Site;
use crate::stream::{Stream, TAP};
use crate::vm::VmSetup;

/// Bytes of its disk.
const DISK: &str = "128M";
/// A network of its own among the frames of its card.
const VLAN: u16 = 5;
/// Length of a stream.
const STREAM_SECONDS: u32 = 2;
/// What it writes to its console.
const LINE: &str = "a line for the host";
/// MiB of its 256 that the balloon takes, and what is then available at most.
const TAKEN: u32 = 100;
const LEFT: u32 = 150;

/// What such a guest has shown.
#[derive(Debug)]
pub struct Whole {
    /// What it said.
    pub results: Results,
    /// What its console's daemon wrote down.
    pub heard: String,
}

impl Site {
    /// Boots it; it makes a file system, pings the host, on a VLAN as well, writes to its console, gives memory to its
    /// balloon, and sends and receives these streams, for which the site needs iperf3.
    ///
    /// # Errors
    /// At the first thing that goes wrong.
    pub fn play_whole(&self, name: &str, streams: &[Stream]) -> Result<Whole> {
        let job = Job::new()
            .machine()
            .devices()
            .filesystem(FIRST, 4)
            .network()
            .pings()
            .vlan(VLAN)
            .console_line(LINE)
            .gives_memory(LEFT);
        let job = streams.iter().fold(job, |job, stream| job.stream(*stream, STREAM_SECONDS));
        self.run(&format!("truncate -s {DISK} {name}.img"))?;
        let setup = VmSetup::new(name, job)
            .with_disk(&format!("{name}.img"))
            .with(&format!("--net tap={TAP}"))
            .with(&format!("--console backend=file:{name}.console"))
            .with(&format!("--balloon target={TAKEN}M"));
        let vm = self.boot(&setup)?;
        self.network_with(TAP)?;
        self.run(&format!("ip link add link {TAP} name vlan type vlan id {VLAN}"))?;
        self.run("ip addr add 198.51.100.1/24 dev vlan; ip link set vlan up")?;
        let results = vm.finish()?;
        Ok(Whole { results, heard: self.run(&format!("cat {name}.console"))? })
    }
}

impl Whole {
    /// Whether what the guest wrote to its console has arrived.
    #[must_use]
    pub fn was_heard(&self) -> bool {
        self.heard.contains(LINE)
    }

    /// The features that a device's driver has negotiated, by name.
    #[must_use]
    pub fn features(&self, device: DeviceType) -> Vec<String> {
        let digits = self.results.get(&format!("features_{}", device.0));
        names(device, digits.map_or(0, |digits| feature_bits(digits)))
    }

    /// MiB that the balloon was to take.
    #[must_use]
    pub const fn taken(&self) -> u32 {
        TAKEN
    }
}
