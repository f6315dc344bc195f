//! Guest memory: from the configuration to the hypervisor, to the guest's tables, and to the back-ends.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use hypervisor::memory::{Config, HostNodes, Memory, Node, NodePolicy, Pages};
use hypervisor::{Machine, Slot, SlotOptions};

use super::error::{Error, Result};
use crate::config::memory as wanted;

/// Makes the memory.
///
/// # Errors
/// When the host does not have it.
pub fn make(wanted: &wanted::Memory) -> Result<Memory> {
    Ok(Memory::new(&config(wanted))?)
}

/// Maps the memory into the machine.
///
/// # Errors
/// When the hypervisor does not take it.
pub fn map(memory: &Memory, machine: &dyn Machine) -> Result<()> {
    for (slot, region) in (0..).zip(memory.regions()) {
        machine.map(Slot(slot), region, SlotOptions::default())?;
    }
    Ok(())
}

fn config(wanted: &wanted::Memory) -> Config {
    let pages = match wanted.pages {
        wanted::Pages::Small => Pages::Small,
        wanted::Pages::Transparent => Pages::Transparent,
        wanted::Pages::Huge2M => Pages::Huge2M,
        wanted::Pages::Huge1G => Pages::Huge1G,
    };
    let host = |node| HostNodes { nodes: vec![node], policy: NodePolicy::Bind };
    let node = |node: &wanted::Node| Node { size: node.memory, host: node.host.map(host) };
    Config {
        size: wanted.size,
        pages,
        nodes: wanted.nodes.iter().map(node).collect(),
        prefault: wanted.prefault,
        lock: wanted.lock,
    }
}

/// The memory as front-ends tell their back-ends of it.
///
/// # Errors
/// When the process has no descriptor left.
pub fn regions(memory: &Memory) -> Result<Vec<front_end::Region>> {
    let share = |region: &hypervisor::memory::Region| {
        let file = region.file().try_clone().map_err(Error::system("sharing guest memory"))?;
        Ok(front_end::Region {
            guest_addr: region.start().0,
            size: region.size(),
            user_addr: region.host_address(),
            file: Arc::new(OwnedFd::from(file)),
            offset: region.offset(),
        })
    };
    memory.regions().iter().map(share).collect()
}
