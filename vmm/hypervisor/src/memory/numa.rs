//! NUMA nodes of the guest: which addresses they have, and where the host takes the memory from.
#![expect(unsafe_code, reason = "mbind is not wrapped")]

use std::io;

use super::{HostNodes, Node, NodePolicy, Region};
use crate::{Error, GuestAddress, Result, layout};

/// A range of guest memory that belongs to one NUMA node of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeRange {
    /// Number of the node, from 0.
    pub node: u32,
    /// First address.
    pub start: GuestAddress,
    /// Size in bytes.
    pub size: u64,
}

/// The nodes' addresses: one after the other, around the hole.
pub(super) fn ranges(nodes: &[Node]) -> Vec<NodeRange> {
    let mut ranges = Vec::new();
    let mut done = 0_u64;
    for (number, node) in (0_u32..).zip(nodes) {
        let mut left = node.size;
        while left > 0 {
            let (start, room) = match layout::LOW_RAM_END.checked_sub(done) {
                Some(room) if room > 0 => (done, room),
                _ => (layout::HIGH_RAM_START + (done - layout::LOW_RAM_END), u64::MAX),
            };
            let size = left.min(room);
            ranges.push(NodeRange { node: number, start: GuestAddress(start), size });
            done += size;
            left -= size;
        }
    }
    ranges
}

/// Tells the host where each node's memory is to come from. The file keeps that, so it holds for
/// the pages that a back-end touches first, too.
pub(super) fn bind(nodes: &[Node], ranges: &[NodeRange], regions: &[Region]) -> Result<()> {
    for range in ranges {
        let host = usize::try_from(range.node).ok().and_then(|node| nodes.get(node)?.host.as_ref());
        let region = regions.iter().find(|region| {
            region.start() <= range.start && range.start.0 - region.start().0 < region.size()
        });
        if let (Some(host), Some(region)) = (host, region) {
            bind_range(region, range, host)?;
        }
    }
    Ok(())
}

fn bind_range(region: &Region, range: &NodeRange, host: &HostNodes) -> Result<()> {
    let mode = match host.policy {
        NodePolicy::Bind => libc::MPOL_BIND,
        NodePolicy::Preferred => libc::MPOL_PREFERRED,
        NodePolicy::Interleave => libc::MPOL_INTERLEAVE,
    };
    let mask = host.nodes.iter().fold(0_u64, |mask, &node| mask | 1_u64.wrapping_shl(node));
    let offset = range.start.0 - region.start().0;
    let size = range.size.min(region.size() - offset);
    // SAFETY: mbind changes where pages come from, never what they hold, so it endangers no memory,
    // whatever the range; the range is within the region's mapping. `mask` is read before it returns.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mbind,
            region.host_address() + offset,
            size,
            mode,
            &raw const mask,
            // The kernel counts one bit more than there are.
            u64::from(u64::BITS) + 1,
            0,
        )
    };
    if result == 0 {
        return Ok(());
    }
    let source = io::Error::last_os_error();
    let advice = match source.raw_os_error() {
        Some(libc::EINVAL) => "; name nodes that the host has memory in (numactl --hardware)",
        Some(libc::ENOSYS) => "; the host's kernel has no NUMA, leave the host nodes out",
        _ => "",
    };
    Err(Error::Memory { action: "binding it to host nodes", source, advice })
}
