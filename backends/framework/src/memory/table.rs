//! The memory table: which guest addresses are shared with us, and where they are mapped.
#![expect(unsafe_code, reason = "makes segments out of checked ranges of mappings")]

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::{GuestAddress, Mapping, Segment, UserAddress};
use crate::Error;

/// One region of guest memory.
#[derive(Clone, Debug)]
pub struct Region {
    /// Where the guest sees it.
    pub guest: GuestAddress,
    /// Where the front-end sees it.
    pub user: UserAddress,
    /// Length in bytes, never zero.
    pub size: u64,
    mapping: Arc<Mapping>,
    file: Option<Arc<OwnedFd>>,
    file_offset: u64,
    page_size: u64,
}

/// The file system type of hugetlbfs, whose block size is that of its pages.
const HUGETLBFS_MAGIC: u64 = 0x9584_58f6;

/// Bytes of the smallest part of a file in memory that can be given back to the host.
fn page_size_of(fd: &OwnedFd) -> u64 {
    let base = rustix::param::page_size() as u64;
    match rustix::fs::fstatfs(fd) {
        Ok(stat) if u64::try_from(stat.f_type).ok() == Some(HUGETLBFS_MAGIC) => {
            u64::try_from(stat.f_bsize).unwrap_or(base).max(base)
        }
        _ => base,
    }
}

impl Region {
    /// Maps `size` bytes of `fd` from `offset`.
    ///
    /// # Errors
    /// A range that wraps around, or that cannot be mapped.
    pub fn map(
        guest: GuestAddress,
        user: UserAddress,
        size: u64,
        fd: OwnedFd,
        offset: u64,
    ) -> Result<Self, Error> {
        let mapping = Arc::new(Mapping::shared(&fd, offset, size)?);
        let mut region = Region::over(guest, user, mapping)?;
        region.page_size = page_size_of(&fd);
        region.file = Some(Arc::new(fd));
        region.file_offset = offset;
        Ok(region)
    }

    /// A region over memory that is mapped already, or owned (tests, simulation).
    ///
    /// # Errors
    /// A range that wraps around.
    pub fn over(
        guest: GuestAddress,
        user: UserAddress,
        mapping: Arc<Mapping>,
    ) -> Result<Self, Error> {
        let size = mapping.len() as u64;
        if guest.0.checked_add(size).is_none() || user.0.checked_add(size).is_none() {
            return Err(Error::RegionWraps { guest, user, size });
        }
        let page_size = rustix::param::page_size() as u64;
        Ok(Region { guest, user, size, mapping, file: None, file_offset: 0, page_size })
    }

    /// The file behind the region and the offset in it where the region starts, for a device that
    /// gives pages back to the host.
    pub fn file(&self) -> Option<(&Arc<OwnedFd>, u64)> {
        self.file.as_ref().map(|fd| (fd, self.file_offset))
    }

    /// Bytes of the pages that the region's file has: memory is given back in whole ones, counted
    /// from the file's start. 4096, or a huge page's where the file is on hugetlbfs.
    pub fn page_size(&self) -> u64 {
        self.page_size
    }

    /// The first guest address behind the region.
    pub fn guest_end(&self) -> u64 {
        self.guest.0 + self.size
    }

    fn overlaps(&self, other: &Region) -> bool {
        let apart = |a: u64, b: u64| a + self.size <= b || b + other.size <= a;
        !apart(self.guest.0, other.guest.0) || !apart(self.user.0, other.user.0)
    }
}

/// All regions at one moment, sorted by guest address, none overlapping another.
#[derive(Debug, Default)]
pub struct MemoryTable {
    regions: Vec<Region>,
}

impl MemoryTable {
    /// The most regions a table holds: as many memory slots as other back-ends offer.
    pub const MAX_REGIONS: usize = 509;

    /// # Errors
    /// Regions that overlap in either address space, or too many of them.
    pub fn new(mut regions: Vec<Region>) -> Result<Self, Error> {
        if regions.len() > Self::MAX_REGIONS {
            return Err(Error::TooManyRegions { count: regions.len(), most: Self::MAX_REGIONS });
        }
        regions.sort_by_key(|r| r.guest);
        for (i, region) in regions.iter().enumerate() {
            if let Some(other) = regions.iter().skip(i + 1).find(|other| region.overlaps(other)) {
                return Err(Error::RegionsOverlap { first: region.guest, second: other.guest });
            }
        }
        Ok(MemoryTable { regions })
    }

    /// The regions, by guest address.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// The region that holds this address. None: it is not guest memory.
    pub fn region_at(&self, address: GuestAddress) -> Option<&Region> {
        let index = self.regions.partition_point(|r| r.guest <= address).checked_sub(1)?;
        self.regions.get(index).filter(|r| address.0 < r.guest_end())
    }

    /// Whether an access has hit a page that its file no longer has; see [`Mapping::is_broken`].
    pub fn is_broken(&self) -> bool {
        self.regions.iter().any(|r| r.mapping.is_broken())
    }

    /// Resolves `start..start + len`, if all of it lies in this region.
    #[inline]
    pub(crate) fn whole(&self, start: u64, len: usize, region: usize) -> Option<Segment> {
        let region = self.regions.get(region)?;
        let offset = start.checked_sub(region.guest.0)?;
        let base = region.mapping.pointer(usize::try_from(offset).ok()?, len)?;
        // SAFETY: inside the mapping; the ring that asks keeps this table for as long as it has
        // segments that were resolved by it.
        Some(unsafe { Segment::new(base, len) })
    }

    /// Resolves the first piece of `start..start + len`: as much as lies in one region. `last` is a
    /// hint, the region of the last look-up. None: not guest memory.
    #[inline]
    pub(crate) fn piece(&self, start: u64, len: usize, last: &mut usize) -> Option<Segment> {
        let region = match self.regions.get(*last) {
            Some(r) if start >= r.guest.0 && start < r.guest_end() => r,
            _ => self.find(start, last)?,
        };
        let offset = start - region.guest.0;
        let n = len.min(usize::try_from(region.size - offset).ok()?);
        let base = region.mapping.pointer(usize::try_from(offset).ok()?, n)?;
        // SAFETY: inside the mapping; the ring that asks keeps this table for as long as it has
        // segments that were resolved by it.
        Some(unsafe { Segment::new(base, n) })
    }

    /// The region of an address: chains go back and forth between few of them, so the first ones
    /// are looked at in turn before all are searched.
    fn find(&self, address: u64, last: &mut usize) -> Option<&Region> {
        let holds = |r: &&Region| address >= r.guest.0 && address < r.guest_end();
        let first = self.regions.iter().take(4).position(|r| holds(&r));
        let index = match first {
            Some(index) => index,
            None => self.regions.partition_point(|r| r.guest.0 <= address).checked_sub(1)?,
        };
        let region = self.regions.get(index).filter(holds)?;
        *last = index;
        Some(region)
    }

    /// A host pointer to `len` bytes at a user address, all in one region and aligned to `align`:
    /// what a ring needs.
    pub(crate) fn user_pointer(
        &self,
        user: UserAddress,
        len: usize,
        align: usize,
    ) -> Option<(*mut u8, GuestAddress)> {
        let inside = |r: &&Region| user.0 >= r.user.0 && user.0 - r.user.0 < r.size;
        let region = self.regions.iter().find(inside)?;
        let offset = user.0 - region.user.0;
        let guest = GuestAddress(region.guest.0 + offset);
        let pointer = region.mapping.pointer(usize::try_from(offset).ok()?, len)?;
        (pointer as usize).is_multiple_of(align).then_some((pointer, guest))
    }

    /// The guest address of a host pointer that this table resolved: for the dirty log.
    pub(crate) fn guest_of(&self, pointer: *const u8) -> Option<GuestAddress> {
        self.regions.iter().find_map(|r| {
            let offset = (pointer as usize).checked_sub(r.mapping.base() as usize)?;
            (offset < r.mapping.len()).then(|| GuestAddress(r.guest.0 + offset as u64))
        })
    }
}
