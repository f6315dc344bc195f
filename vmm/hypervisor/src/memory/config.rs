//! What memory the guest is to have.

use crate::{Error, Result};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// NUMA nodes at most; as many as one word of a node mask has bits.
pub(super) const MAX_NODES: usize = 64;

/// The guest's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Size in bytes: a multiple of the page size.
    pub size: u64,
    /// Which pages of the host's it is made of.
    pub pages: Pages,
    /// NUMA nodes of the guest; none for a guest without.
    pub nodes: Vec<Node>,
    /// Whether all pages are allocated before the guest starts.
    pub prefault: bool,
    /// Whether the memory is locked into the host's RAM; it is then also allocated at once.
    pub lock: bool,
}

/// Which pages of the host's the memory is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pages {
    /// 4 KiB.
    #[default]
    Small,
    /// 4 KiB, which the host may join to 2 MiB if its `shmem_enabled` is `advise` or more.
    Transparent,
    /// 2 MiB from the host's pool of huge pages.
    Huge2M,
    /// 1 GiB from the host's pool of huge pages.
    Huge1G,
}

impl Pages {
    /// Size of the pages that are certain, in bytes.
    #[must_use]
    pub fn size(self) -> u64 {
        match self {
            Pages::Small | Pages::Transparent => 4 * KIB,
            Pages::Huge2M => 2 * MIB,
            Pages::Huge1G => GIB,
        }
    }
}

/// One NUMA node of the guest; the nodes follow one another in its memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Size in bytes: a multiple of the page size.
    pub size: u64,
    /// Where the host takes the memory from, if it matters.
    pub host: Option<HostNodes>,
}

/// NUMA nodes of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostNodes {
    /// Their numbers, each below 64.
    pub nodes: Vec<u32>,
    /// How they are used.
    pub policy: NodePolicy,
}

/// How NUMA nodes of the host are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NodePolicy {
    /// Memory comes from these nodes only.
    #[default]
    Bind,
    /// Memory comes from the first of these nodes as long as it has some.
    Preferred,
    /// Memory comes from these nodes in turn.
    Interleave,
}

impl Config {
    /// Plain memory of `size` bytes.
    #[must_use]
    pub fn new(size: u64) -> Self {
        Config { size, pages: Pages::Small, nodes: Vec::new(), prefault: false, lock: false }
    }

    /// Whether all of it adds up.
    pub(super) fn check(&self) -> Result<()> {
        let page = self.pages.size();
        let refuse = |why: String| Err(Error::MemoryConfig(why));
        if self.size == 0 || !self.size.is_multiple_of(page) {
            return refuse(format!(
                "its size must be a multiple of {page} bytes, and {} is not",
                self.size
            ));
        }
        if self.size > 1 << 46 {
            return refuse(format!("{} bytes are more than a CPU addresses", self.size));
        }
        if self.nodes.is_empty() {
            return Ok(());
        }
        if self.nodes.len() > MAX_NODES {
            return refuse(format!("at most {MAX_NODES} NUMA nodes, not {}", self.nodes.len()));
        }
        for (number, node) in self.nodes.iter().enumerate() {
            if node.size == 0 || !node.size.is_multiple_of(page) {
                return refuse(format!("node {number} must be a multiple of {page} bytes"));
            }
            check_host_nodes(number, node.host.as_ref())?;
        }
        let sum = self.nodes.iter().try_fold(0_u64, |sum, node| sum.checked_add(node.size));
        if sum != Some(self.size) {
            return refuse(format!("its NUMA nodes do not add up to {} bytes", self.size));
        }
        Ok(())
    }
}

fn check_host_nodes(number: usize, host: Option<&HostNodes>) -> Result<()> {
    let Some(host) = host else { return Ok(()) };
    if host.nodes.is_empty() || host.nodes.iter().any(|&node| node as usize >= MAX_NODES) {
        return Err(Error::MemoryConfig(format!(
            "node {number} must name host nodes below {MAX_NODES}"
        )));
    }
    Ok(())
}
