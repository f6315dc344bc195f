//! The guest's RAM: one memory file, mapped here, shared with the back-ends.
//!
//! The file can be neither shrunk nor grown, by anybody: a back-end that shrank it would raise
//! SIGBUS in everyone else. It is not sealed against writes, and holes can be punched, which is how
//! a balloon returns memory to the host.

mod config;
#[cfg(test)]
mod memory_test;
mod numa;
mod prepare;
mod region;
mod resident;

use std::fs::File;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use vm_memory::{FileOffset, GuestMemoryMmap};

pub use self::config::{Config, HostNodes, Node, NodePolicy, Pages};
pub use self::numa::NodeRange;
pub use self::region::Region;
use crate::{Error, GuestAddress, Result, layout};

/// The guest's RAM. Cheap to clone; the mappings live as long as any clone, any [`Region`] of it, or
/// any machine that it is mapped into.
#[derive(Clone, Debug)]
pub struct Memory {
    guest: GuestMemoryMmap,
    regions: Vec<Region>,
    nodes: Vec<NodeRange>,
    file: Arc<File>,
    size: u64,
}

impl Memory {
    /// Makes and maps the memory that `config` describes.
    ///
    /// # Errors
    /// When the configuration cannot be, or the host does not have the memory.
    pub fn new(config: &Config) -> Result<Self> {
        config.check()?;
        let file = Arc::new(memory_file(config)?);
        let regions = map(config, &file)?;
        let nodes = numa::ranges(&config.nodes);
        numa::bind(&config.nodes, &nodes, &regions)?;
        prepare::prepare(config, &regions)?;
        let all = regions.iter().map(Region::mapping).collect();
        let guest = GuestMemoryMmap::from_arc_regions(all)
            .map_err(|error| Error::MemoryConfig(error.to_string()))?;
        Ok(Memory { guest, regions, nodes, file, size: config.size })
    }

    /// For loading kernels and tables into it, and reading what the guest left there.
    #[must_use]
    pub fn guest(&self) -> &GuestMemoryMmap {
        &self.guest
    }

    /// Its regions in ascending order: what is mapped into the machine, and what front-ends tell
    /// their back-ends. There are one or two, whatever the NUMA nodes.
    #[must_use]
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// Which addresses belong to which NUMA node of the guest, in ascending order. Empty if the
    /// guest has no nodes.
    #[must_use]
    pub fn nodes(&self) -> &[NodeRange] {
        &self.nodes
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The first address after the highest region.
    #[must_use]
    pub fn end(&self) -> GuestAddress {
        let end = self.regions.iter().map(|region| region.start().0.saturating_add(region.size()));
        GuestAddress(end.max().unwrap_or(0))
    }

    /// How many bytes of it the host has provided so far, in RAM or in swap: what was never touched
    /// and what a balloon returned does not count.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn allocated(&self) -> Result<u64> {
        let stat = rustix::fs::fstat(&self.file).map_err(failed("reading its size"))?;
        Ok(u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512))
    }

    /// How many bytes of it are in the host's RAM at the moment. Takes the longer the more memory
    /// there is: some milliseconds for each GiB.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn resident(&self) -> Result<u64> {
        self.regions.iter().map(resident::bytes).sum()
    }
}

fn memory_file(config: &Config) -> Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | huge_page_flags(config.pages);
    // Hosts can demand that memory files are not executable; old ones do not know the flag.
    let fd = match rustix::fs::memfd_create("guest-ram", flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => rustix::fs::memfd_create("guest-ram", flags),
        other => other,
    };
    let fd = fd.map_err(|error| match config.pages {
        Pages::Small | Pages::Transparent => failed("memfd_create")(error),
        Pages::Huge2M | Pages::Huge1G => Error::Memory {
            action: "asking for huge pages",
            source: error.into(),
            advice: "; the host has none of this size (/sys/kernel/mm/hugepages)",
        },
    })?;
    rustix::fs::ftruncate(&fd, config.size).map_err(failed("setting its size"))?;
    // Sealing the seals keeps a back-end from adding one that would stop another from mapping it.
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&fd, seals).map_err(failed("sealing it"))?;
    Ok(File::from(fd))
}

fn huge_page_flags(pages: Pages) -> MemfdFlags {
    match pages {
        Pages::Small | Pages::Transparent => MemfdFlags::empty(),
        Pages::Huge2M => MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB,
        Pages::Huge1G => MemfdFlags::HUGETLB | MemfdFlags::HUGE_1GB,
    }
}

/// Maps the file's parts to where they are in the guest, one after the other in the file.
fn map(config: &Config, file: &Arc<File>) -> Result<Vec<Region>> {
    let (low, high) = layout::ram(config.size);
    let mut offset = 0;
    let mut regions = Vec::new();
    for range in std::iter::once(low).chain(high) {
        let size = range.end - range.start;
        let part = FileOffset::from_arc(Arc::clone(file), offset);
        regions.push(Region::map(GuestAddress(range.start), size, part, config.pages)?);
        offset += size;
    }
    Ok(regions)
}

/// Turns an error of the system into ours, with advice where there is some.
fn failed(action: &'static str) -> impl Fn(Errno) -> Error {
    move |error| {
        let advice = match error {
            Errno::NOMEM | Errno::NOSPC | Errno::FAULT => {
                "; give the guest less memory, or the host more (for huge pages: \
                 /proc/sys/vm/nr_hugepages, or /sys/kernel/mm/hugepages)"
            }
            Errno::PERM | Errno::AGAIN => "; raise the limit of locked memory (ulimit -l)",
            _ => "",
        };
        Error::Memory { action, source: error.into(), advice }
    }
}
