//! What is loaded into guest memory, now and at each reset.

use boot::{Image, Node, Payload, Platform, Processor};
use hypervisor::memory::{Memory, NodeRange};
use hypervisor::{BootState, Topology, layout};

use super::error::Result;
use crate::config::Config;

/// A guest that can be loaded, again and again. The files stay open, so that a sandboxed process can.
pub struct Guest {
    payload: Payload,
    platform: Platform,
}

/// Opens the kernel and the initrd, and looks at them.
///
/// # Errors
/// When one of them is not there, or not what it should be.
pub fn open(config: &Config) -> Result<Payload> {
    let initrd = config.initrd.as_deref().map(Image::open).transpose()?;
    let payload = Payload {
        kernel: Image::open(&config.kernel)?,
        initrd,
        command_line: config.cmdline.clone(),
    };
    payload.check()?;
    Ok(payload)
}

impl Guest {
    /// The payload on a machine with this memory and these CPUs.
    #[must_use]
    pub fn new(
        payload: Payload,
        config: &Config,
        memory: &Memory,
        topology: Topology,
        physical_bits: u32,
    ) -> Self {
        let processor = |(index, apic_id)| Processor { apic_id, node: node_of(config, index) };
        let platform = Platform {
            processors: (0..).zip(topology.apic_ids()).map(processor).collect(),
            nodes: nodes(config, memory.nodes()),
            high_window: layout::mmio64(memory.size(), physical_bits),
        };
        Self { payload, platform }
    }

    /// Loads it. No vCPU runs.
    ///
    /// # Errors
    /// When a file cannot be read, or the memory is too small for it.
    pub fn load(&self, memory: &Memory) -> Result<BootState> {
        Ok(boot::load(memory.guest(), &self.payload, &self.platform)?)
    }
}

/// The NUMA node of a vCPU; the first, if nobody said.
fn node_of(config: &Config, vcpu: u32) -> u32 {
    let has = |node: &crate::config::memory::Node| node.cpus.as_slice().contains(&vcpu);
    let found = config.memory.nodes.iter().position(has);
    found.and_then(|index| u32::try_from(index).ok()).unwrap_or(0)
}

fn nodes(config: &Config, ranges: &[NodeRange]) -> Vec<Node> {
    let node = |(number, node): (u32, &crate::config::memory::Node)| Node {
        ram: ranges
            .iter()
            .filter(|range| range.node == number)
            .map(|range| range.start.0..range.start.0.saturating_add(range.size))
            .collect(),
        distances: node.distances.clone(),
    };
    (0..).zip(&config.memory.nodes).map(node).collect()
}
