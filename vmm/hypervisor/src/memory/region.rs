//! One range of guest memory.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use vm_memory::mmap::{MmapRegionBuilder, MmapRegionError};
use vm_memory::{FileOffset, GuestMemoryRegion, GuestRegionMmap};

use super::Pages;
use crate::{Error, GuestAddress, Result};

/// One contiguous range of guest memory, mapped in one piece from one file. Clones share the
/// mapping; it lives as long as any of them.
#[derive(Clone, Debug)]
pub struct Region {
    mapping: Arc<GuestRegionMmap>,
    part: FileOffset,
    page_size: u64,
}

impl Region {
    pub(super) fn map(
        start: GuestAddress,
        size: u64,
        part: FileOffset,
        pages: Pages,
    ) -> Result<Self> {
        let too_large = || Error::MemoryConfig(format!("{size} bytes cannot be mapped"));
        let is_huge = pages.size() > Pages::Small.size();
        // Huge pages are set aside now: better an error here than SIGBUS later.
        let reserve = if is_huge { 0 } else { libc::MAP_NORESERVE };
        let mapping = MmapRegionBuilder::new(usize::try_from(size).map_err(|_| too_large())?)
            .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
            .with_mmap_flags(libc::MAP_SHARED | reserve)
            .with_file_offset(part.clone())
            .with_hugetlbfs(is_huge)
            .build()
            .map_err(map_failed)?;
        let mapping = GuestRegionMmap::new(mapping, start).ok_or_else(too_large)?;
        Ok(Region { mapping: Arc::new(mapping), part, page_size: pages.size() })
    }

    /// Guest address of its first byte.
    #[must_use]
    pub fn start(&self) -> GuestAddress {
        self.mapping.start_addr()
    }

    /// Size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.mapping.len()
    }

    /// Where it is mapped in this process: what vhost-user calls the user address.
    #[must_use]
    pub fn host_address(&self) -> u64 {
        self.mapping.as_ptr() as u64
    }

    /// The file it is mapped from.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file().as_fd()
    }

    /// The file it is mapped from.
    #[must_use]
    pub fn file(&self) -> &Arc<File> {
        self.part.arc()
    }

    /// Where in the file it begins, in bytes.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.part.start()
    }

    /// Size of its pages in bytes.
    #[must_use]
    pub fn page_size(&self) -> u64 {
        self.page_size
    }

    pub(crate) fn mapping(&self) -> Arc<GuestRegionMmap> {
        Arc::clone(&self.mapping)
    }
}

fn map_failed(error: MmapRegionError) -> Error {
    match error {
        MmapRegionError::Mmap(source) => Error::Memory {
            action: "mapping it",
            source,
            advice: "; give the guest less memory, or raise the host's limits (ulimit -v, huge pages)",
        },
        other => Error::MemoryConfig(other.to_string()),
    }
}
