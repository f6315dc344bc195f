//! The guest's memory.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::cpus::CpuList;
use super::fields::{Fields, read};
use super::size::Size;
use super::text::Switch;

/// Without `--memory`.
const DEFAULT_SIZE: u64 = 1 << 30;
/// Less than this boots no kernel.
const SMALLEST: u64 = 16 << 20;
/// More than this is beyond what CPUs can address.
const LARGEST: u64 = 1 << 46;
const PAGE: u64 = 4096;
/// The distance of a node to itself, and what others have unless said (ACPI, SLIT).
const LOCAL: u8 = 10;

/// The guest's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// Bytes in all.
    pub size: u64,
    /// What the host backs it with.
    pub pages: Pages,
    /// Whether all pages are there before the guest starts.
    pub prefault: bool,
    /// Whether the host must not swap it out.
    pub lock: bool,
    /// The NUMA nodes that the guest sees; none: it sees no NUMA.
    pub nodes: Vec<Node>,
}

/// The host's pages behind guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pages {
    /// 4 KiB each.
    #[default]
    Small,
    /// Transparent huge pages where the host has them.
    Transparent,
    /// 2 MiB each, from the host's pool.
    Huge2M,
    /// 1 GiB each, from the host's pool.
    Huge1G,
}

impl Pages {
    /// Bytes that guest memory is a multiple of.
    #[must_use]
    pub fn granule(self) -> u64 {
        match self {
            Self::Small | Self::Transparent => PAGE,
            Self::Huge2M => 2 << 20,
            Self::Huge1G => 1 << 30,
        }
    }
}

impl FromStr for Pages {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "4k" => Ok(Self::Small),
            "thp" => Ok(Self::Transparent),
            "hugetlb=2M" | "hugetlb:2M" => Ok(Self::Huge2M),
            "hugetlb=1G" | "hugetlb:1G" => Ok(Self::Huge1G),
            _ => Err(format!("{text:?} is not known: say 4k, thp, hugetlb=2M or hugetlb=1G")),
        }
    }
}

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Small => "4k",
            Self::Transparent => "thp",
            Self::Huge2M => "hugetlb=2M",
            Self::Huge1G => "hugetlb=1G",
        })
    }
}

/// A NUMA node of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its vCPUs.
    pub cpus: CpuList,
    /// Its bytes of memory.
    pub memory: u64,
    /// The host's node that the memory is bound to.
    pub host: Option<u32>,
    /// How far each node is from it, itself included (ACPI, SLIT): 10 is local. Empty: the usual.
    pub distances: Vec<u8>,
}

impl Memory {
    /// Puts `--memory` and the `--numa`s together.
    pub(super) fn resolve(given: Fields, nodes: Vec<Node>) -> Result<Self, String> {
        let mut reader = given.reader();
        let size = reader.main_text("size").map(|text| read::<Size>("size", &text)).transpose()?;
        let pages = reader.take("pages")?.unwrap_or_default();
        let prefault = reader.take::<Switch>("prefault")?.is_some_and(Switch::is_on);
        let lock = reader.take::<Switch>("lock")?.is_some_and(Switch::is_on);
        reader.finish()?;
        let in_nodes = nodes
            .iter()
            .try_fold(0_u64, |sum, node| sum.checked_add(node.memory))
            .ok_or("the nodes have more memory than there can be")?;
        let usual = if nodes.is_empty() { DEFAULT_SIZE } else { in_nodes };
        let size = size.map_or(usual, |Size(bytes)| bytes);
        if !nodes.is_empty() && size != in_nodes {
            return Err(format!(
                "the nodes (--numa) have {} in all, and --memory says {}: leave its size out",
                Size(in_nodes),
                Size(size)
            ));
        }
        let memory = Self { size, pages, prefault, lock, nodes };
        memory.check()?;
        Ok(memory)
    }

    fn check(&self) -> Result<(), String> {
        let granule = self.pages.granule();
        let parts = self.nodes.iter().map(|node| node.memory).chain([self.size]);
        for size in parts {
            if !size.is_multiple_of(granule) || size == 0 {
                let (size, granule) = (Size(size), Size(granule));
                return Err(format!("{size} is not a multiple of the page size, {granule}"));
            }
        }
        if !(SMALLEST..=LARGEST).contains(&self.size) {
            let (smallest, largest) = (Size(SMALLEST), Size(LARGEST));
            return Err(format!("{} is not from {smallest} to {largest}", Size(self.size)));
        }
        Ok(())
    }

    /// As `--memory` would say it.
    pub(super) fn fields(&self) -> Fields {
        let mut fields = Fields::default();
        fields.put("size", Size(self.size));
        fields.put("pages", self.pages);
        fields.put("prefault", Switch::from(self.prefault));
        fields.put("lock", Switch::from(self.lock));
        fields
    }
}

/// Each vCPU is in one node, and each node says how far all of them are, or none does.
pub(super) fn check_nodes(nodes: &[Node], cpus: u16) -> Result<(), String> {
    if nodes.is_empty() {
        return Ok(());
    }
    let mut placed = BTreeSet::new();
    for &cpu in nodes.iter().flat_map(|node| node.cpus.as_slice()) {
        if cpu >= u32::from(cpus) {
            return Err(format!("there is no vCPU {cpu}: the guest has {cpus} (--cpus)"));
        }
        if !placed.insert(cpu) {
            return Err(format!("vCPU {cpu} is in two nodes"));
        }
    }
    if let Some(missing) = (0..u32::from(cpus)).find(|cpu| !placed.contains(cpu)) {
        return Err(format!("vCPU {missing} is in no node: add it to the cpus= of one"));
    }
    for (index, node) in nodes.iter().enumerate() {
        let given = &node.distances;
        let fits = given.len() == nodes.len() && given.get(index) == Some(&LOCAL);
        if !given.is_empty() && (!fits || given.iter().any(|distance| *distance < LOCAL)) {
            return Err(format!(
                "the distances of node {index} are one for each of the {} nodes, with \
                 {LOCAL} for itself and more for others, such as 10:20",
                nodes.len()
            ));
        }
    }
    Ok(())
}

impl Node {
    /// Reads a `--numa`.
    pub(super) fn read(given: Fields) -> Result<Self, String> {
        let mut reader = given.reader();
        let cpus = reader.take("cpus")?.ok_or("cpus= is missing: say which vCPUs are in it")?;
        let memory = reader.take::<Size>("memory")?.ok_or("memory= is missing")?;
        let host = reader.number("host", 0..=1023)?.and_then(|node| u32::try_from(node).ok());
        let distances = match reader.text("distances") {
            Some(text) => read_distances(&text)?,
            None => Vec::new(),
        };
        reader.finish()?;
        Ok(Self { cpus, memory: memory.0, host, distances })
    }

    /// As `--numa` would say it.
    pub(super) fn fields(&self) -> Fields {
        let mut fields = Fields::default();
        fields.put("cpus", &self.cpus);
        fields.put("memory", Size(self.memory));
        fields.put_some("host", self.host);
        if !self.distances.is_empty() {
            let distances: Vec<_> = self.distances.iter().map(u8::to_string).collect();
            fields.put("distances", distances.join(":"));
        }
        fields
    }
}

fn read_distances(text: &str) -> Result<Vec<u8>, String> {
    text.split(':').map(|distance| read("distances", distance)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(text: &str, nodes: &[&str], cpus: u16) -> Result<Memory, String> {
        let nodes: Result<Vec<Node>, _> =
            nodes.iter().map(|n| Node::read(n.parse().unwrap())).collect();
        let nodes = nodes?;
        check_nodes(&nodes, cpus)?;
        Memory::resolve(text.parse().unwrap(), nodes)
    }

    #[test]
    fn the_size_may_stand_alone() {
        let found = memory("2G,pages=hugetlb=2M,prefault=on", &[], 1).unwrap();
        assert_eq!((found.size, found.pages), (2 << 30, Pages::Huge2M));
        assert!(found.prefault && !found.lock);
    }

    #[test]
    fn nodes_add_up() {
        let nodes = ["cpus=0,memory=1G,host=0", "cpus=1-2,memory=2G,distances=20:10"];
        let found = memory("pages=thp", &nodes, 3).unwrap();
        assert_eq!(found.size, 3 << 30);
        assert_eq!(found.nodes[1].distances, [20, 10]);
    }

    #[test]
    fn mistakes_say_what_to_do() {
        let one = "cpus=0,memory=1G";
        for (text, nodes, complaint) in [
            ("1000000001", &[][..], "page size"),
            ("1M", &[], "not from 16M"),
            ("3M,pages=hugetlb=2M", &[], "page size, 2M"),
            ("1G,pages=huge", &[], "hugetlb=2M"),
            ("2G", &["cpus=0-1,memory=1G"], "leave its size out"),
            ("pages=4k", &[one], "vCPU 1 is in no node"),
            ("pages=4k", &[one, one], "in two nodes"),
            ("pages=4k", &["cpus=0-2,memory=1G"], "no vCPU 2"),
            ("pages=4k", &["cpus=0-1,memory=1G,distances=20"], "10:20"),
            ("pages=4k", &["memory=1G"], "cpus= is missing"),
        ] {
            let error = memory(text, nodes, 2).unwrap_err();
            assert!(error.contains(complaint), "{text} {nodes:?}: {error}");
        }
    }
}
