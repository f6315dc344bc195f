//! Guest memory as the guest and its VMM have it: regions in memfds, and an allocator of buffers.

mod area;
mod free_list;

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use virtio_spec::vhost_user::MemoryRegion;

pub use self::area::Area;
use self::area::Mapping;
use self::free_list::FreeList;
use crate::event::duplicate;
use crate::{Error, Part, Result};

/// Regions start and end at multiples of this many bytes.
pub const PAGE_SIZE: u64 = 4096;

/// Where a region of guest memory is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegionSpec {
    /// First guest address, a multiple of [`PAGE_SIZE`].
    pub guest_addr: u64,
    /// Bytes, a multiple of [`PAGE_SIZE`].
    pub size: u64,
    /// Where in its file the region starts, a multiple of [`PAGE_SIZE`].
    pub mmap_offset: u64,
}

impl RegionSpec {
    /// A region at the start of its file.
    #[must_use]
    pub const fn new(guest_addr: u64, size: u64) -> Self {
        Self { guest_addr, size, mmap_offset: 0 }
    }
}

/// Guest memory. Clones are the same memory.
#[derive(Debug, Clone)]
pub struct Memory(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// Sorted by guest address, without overlaps.
    regions: Vec<Region>,
}

#[derive(Debug)]
struct Region {
    spec: RegionSpec,
    mapping: Arc<Mapping>,
    free: FreeList,
}

impl Memory {
    /// One region of so many bytes (rounded up to pages) at guest address 0, whose first page is
    /// never allocated, so that no buffer has address 0.
    ///
    /// # Errors
    /// [`Error::System`] when the system has no memory to give.
    pub fn new(size: u64) -> Result<Self> {
        let size = size.next_multiple_of(PAGE_SIZE) + PAGE_SIZE;
        let memory = Self::with_regions(&[RegionSpec::new(0, size)])?;
        memory.lock().take(PAGE_SIZE, PAGE_SIZE);
        Ok(memory)
    }

    /// Regions in these places, with holes between them or adjacent.
    ///
    /// # Errors
    /// [`Error::Overlap`], or [`Error::System`] when the system has no memory to give.
    pub fn with_regions(specs: &[RegionSpec]) -> Result<Self> {
        let memory = Self(Arc::default());
        for spec in specs {
            memory.add_region(*spec)?;
        }
        Ok(memory)
    }

    /// One more region, as if memory were plugged in.
    ///
    /// # Errors
    /// As for [`with_regions`](Self::with_regions).
    pub fn add_region(&self, spec: RegionSpec) -> Result<()> {
        let mut inner = self.lock();
        let end = spec.guest_addr.saturating_add(spec.size);
        let overlaps = |region: &Region| {
            spec.guest_addr < region.spec.guest_addr + region.spec.size
                && region.spec.guest_addr < end
        };
        if inner.regions.iter().any(overlaps) {
            return Err(Error::Overlap(spec.guest_addr));
        }
        let mapping = Arc::new(Mapping::new(spec.size, spec.mmap_offset)?);
        let free = FreeList::new(spec.guest_addr, spec.size);
        inner.regions.push(Region { spec, mapping, free });
        inner.regions.sort_by_key(|region| region.spec.guest_addr);
        Ok(())
    }

    /// Unplugs the region that starts there and returns its description. Areas and buffers in it
    /// stay readable to their holders, but guest memory has them no more.
    ///
    /// # Errors
    /// [`Error::OutsideMemory`] when none starts there.
    pub fn remove_region(&self, guest_addr: u64) -> Result<MemoryRegion> {
        let mut inner = self.lock();
        let found = inner.regions.iter().position(|region| region.spec.guest_addr == guest_addr);
        let index = found.ok_or(Error::OutsideMemory { addr: guest_addr, len: 1 })?;
        Ok(inner.regions.remove(index).description())
    }

    /// Descriptions of all regions, as a front-end sends them.
    #[must_use]
    pub fn regions(&self) -> Vec<MemoryRegion> {
        self.lock().regions.iter().map(Region::description).collect()
    }

    /// Another descriptor of the file behind the region that starts there.
    ///
    /// # Errors
    /// [`Error::OutsideMemory`] when none starts there.
    pub fn file(&self, guest_addr: u64) -> Result<OwnedFd> {
        let inner = self.lock();
        let region = inner.regions.iter().find(|region| region.spec.guest_addr == guest_addr);
        match region {
            Some(region) => duplicate(region.mapping.file()),
            None => Err(Error::OutsideMemory { addr: guest_addr, len: 1 }),
        }
    }

    /// The user address of a guest address, for a range that one region holds.
    ///
    /// # Errors
    /// [`Error::OutsideMemory`].
    pub fn user_addr(&self, addr: u64, len: usize) -> Result<u64> {
        self.area(addr, len).map(|area| area.user_addr())
    }

    /// A range of guest memory that one region holds.
    ///
    /// # Errors
    /// [`Error::OutsideMemory`] when no region holds all of it.
    pub fn area(&self, addr: u64, len: usize) -> Result<Area> {
        let outside = Error::OutsideMemory { addr, len };
        let bytes = u64::try_from(len).unwrap_or(u64::MAX);
        let inner = self.lock();
        let holds = |region: &&Region| {
            addr.checked_sub(region.spec.guest_addr)
                .and_then(|offset| offset.checked_add(bytes))
                .is_some_and(|end| end <= region.spec.size)
        };
        let Some(region) = inner.regions.iter().find(holds) else {
            return Err(outside);
        };
        match usize::try_from(addr - region.spec.guest_addr) {
            Ok(offset) => Ok(Area::new(Arc::clone(&region.mapping), addr, offset, len)),
            Err(_) => Err(outside),
        }
    }

    /// Copies out of guest memory; the range may cross adjacent regions.
    ///
    /// # Errors
    /// [`Error::OutsideMemory`]; what comes before the hole may have been copied.
    pub fn read(&self, addr: u64, to: &mut [u8]) -> Result<()> {
        self.in_pieces(addr, to.len(), |area, done| {
            if let Some(piece) = to.get_mut(done..done + area.len()) {
                area.read(0, piece);
            }
        })
    }

    /// Copies into guest memory; the range may cross adjacent regions.
    ///
    /// # Errors
    /// [`Error::OutsideMemory`]; what comes before the hole may have been copied.
    pub fn write(&self, addr: u64, from: &[u8]) -> Result<()> {
        self.in_pieces(addr, from.len(), |area, done| {
            if let Some(piece) = from.get(done..done + area.len()) {
                area.write(0, piece);
            }
        })
    }

    /// Allocates a zeroed buffer aligned to 16 bytes.
    ///
    /// # Errors
    /// [`Error::NoRoom`].
    pub fn alloc(&self, len: usize) -> Result<Buffer> {
        self.alloc_aligned(len, 16)
    }

    /// Allocates a zeroed buffer aligned to `align` bytes, a power of two.
    ///
    /// # Errors
    /// [`Error::NoRoom`].
    pub fn alloc_aligned(&self, len: usize, align: u64) -> Result<Buffer> {
        let bytes = u64::try_from(len.max(1)).map_err(|_| Error::NoRoom(len))?;
        let addr = self.lock().take(bytes, align).ok_or(Error::NoRoom(len))?;
        let area = self.area(addr, len)?;
        area.fill(0);
        Ok(Buffer { area, memory: self.clone(), taken: bytes })
    }

    /// Allocates a buffer with these bytes.
    ///
    /// # Errors
    /// [`Error::NoRoom`].
    pub fn alloc_with(&self, bytes: &[u8]) -> Result<Buffer> {
        let buffer = self.alloc(bytes.len())?;
        buffer.write(0, bytes);
        Ok(buffer)
    }

    /// Walks over a range region by region.
    fn in_pieces(&self, addr: u64, len: usize, mut visit: impl FnMut(&Area, usize)) -> Result<()> {
        let mut done = 0;
        while done < len {
            let at = addr.wrapping_add(done as u64);
            let piece = self.lock().contiguous(at).min(len - done);
            if piece == 0 {
                return Err(Error::OutsideMemory { addr: at, len: len - done });
            }
            visit(&self.area(at, piece)?, done);
            done += piece;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Bytes from `addr` to the end of the region that holds it; zero in a hole.
    fn contiguous(&self, addr: u64) -> usize {
        let left = |region: &Region| {
            let offset = addr.checked_sub(region.spec.guest_addr)?;
            region.spec.size.checked_sub(offset).filter(|&left| left > 0)
        };
        let left = self.regions.iter().find_map(left).unwrap_or(0);
        usize::try_from(left).unwrap_or(usize::MAX)
    }

    fn take(&mut self, len: u64, align: u64) -> Option<u64> {
        self.regions.iter_mut().find_map(|region| region.free.take(len, align))
    }

    /// Gives an allocation back, unless its region was unplugged meanwhile.
    fn give_back(&mut self, addr: u64, len: u64) {
        let holds = |region: &&mut Region| {
            addr.checked_sub(region.spec.guest_addr).is_some_and(|at| at < region.spec.size)
        };
        if let Some(region) = self.regions.iter_mut().find(holds) {
            region.free.give_back(addr, len);
        }
    }
}

impl Region {
    fn description(&self) -> MemoryRegion {
        MemoryRegion {
            guest_addr: self.spec.guest_addr,
            size: self.spec.size,
            user_addr: self.mapping.user_addr(),
            mmap_offset: self.spec.mmap_offset,
        }
    }
}

/// An allocated part of guest memory, given back when dropped. It is an [`Area`].
#[derive(Debug)]
pub struct Buffer {
    area: Area,
    memory: Memory,
    taken: u64,
}

impl Buffer {
    /// The whole buffer as a part that the device reads.
    #[must_use]
    pub fn readable(&self) -> Part {
        Part::readable(self.addr(), self.len_u32())
    }

    /// The whole buffer as a part that the device writes.
    #[must_use]
    pub fn writable(&self) -> Part {
        Part::writable(self.addr(), self.len_u32())
    }

    fn len_u32(&self) -> u32 {
        u32::try_from(self.area.len()).unwrap_or(u32::MAX)
    }
}

impl std::ops::Deref for Buffer {
    type Target = Area;

    fn deref(&self) -> &Area {
        &self.area
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.memory.lock().give_back(self.area.addr(), self.taken);
    }
}

#[cfg(test)]
#[path = "memory_test.rs"]
mod tests;
