//! Guest memory of a few regions: one for the device's area alone, two that meet, one behind a hole,
//! one near the end of the address space. It is owned memory, so that the address sanitizer and Miri see every step outside.

use std::sync::Arc;

use framework::memory::{GuestAddress, Mapping, MemoryTable, Region, UserAddress};

/// Where the descriptors are, or the packed ring.
pub(crate) const DESCRIPTORS: u64 = 0x1_0000;
/// Where the driver's area is.
pub(crate) const DRIVER: u64 = 0x1_0400;
/// Where the device's area is, in a region of its own.
pub(crate) const DEVICE: u64 = 0x8000;
/// Where indirect tables are.
pub(crate) const TABLES: u64 = 0x1_0800;
/// Where headers and status bytes of requests are.
pub(crate) const HEADERS: u64 = 0x1_2800;
/// Where buffers begin.
pub(crate) const DATA: u64 = 0x1_3000;
/// Where the first region ends and the second begins.
pub(crate) const SEAM: u64 = 0x1_5000;
/// Where the second region ends; a hole follows.
pub(crate) const EDGE: u64 = 0x1_6000;
/// The region behind the hole.
pub(crate) const FAR: u64 = 0x10_0000;
/// The region near the end of the address space.
pub(crate) const HIGH: u64 = u64::MAX - 0x1fff;

/// The most descriptors that the ring's areas have room for.
pub(crate) const MOST: u16 = 64;

/// Start and length of each region.
pub(crate) const REGIONS: [(u64, usize); 5] =
    [(DEVICE, 0x1000), (DESCRIPTORS, 0x5000), (SEAM, 0x1000), (FAR, 0x1000), (HIGH, 0x1000)];

/// Bytes of all regions together.
pub(crate) const BYTES: usize = 0x9000;

/// Guest memory.
#[derive(Debug)]
pub(crate) struct Guest {
    regions: Vec<(u64, Arc<Mapping>)>,
}

impl Guest {
    pub(crate) fn new() -> Self {
        let region = |&(start, len): &(u64, usize)| (start, Arc::new(Mapping::owned(len).unwrap()));
        Guest { regions: REGIONS.iter().map(region).collect() }
    }

    /// The table of all regions.
    pub(crate) fn table(&self) -> Arc<MemoryTable> {
        self.table_without(usize::MAX)
    }

    /// The table of all regions but one.
    pub(crate) fn table_without(&self, left_out: usize) -> Arc<MemoryTable> {
        let regions = self.regions.iter().enumerate().filter(|(n, _)| *n != left_out);
        let regions = regions.map(|(_, (start, mapping))| {
            Region::over(GuestAddress(*start), UserAddress(*start), Arc::clone(mapping)).unwrap()
        });
        Arc::new(MemoryTable::new(regions.collect()).unwrap())
    }

    /// Reads what is there; the rest stays zero. Says how many bytes there were.
    pub(crate) fn read(&self, addr: u64, to: &mut [u8]) -> usize {
        self.pieces(addr, to.len(), |mapping, offset, range| mapping.read(offset, &mut to[range]))
    }

    /// Writes where there is memory. Says how many bytes there was room for.
    pub(crate) fn write(&self, addr: u64, from: &[u8]) -> usize {
        self.pieces(addr, from.len(), |mapping, offset, range| mapping.write(offset, &from[range]))
    }

    /// An array of bytes, if all of them are there.
    pub(crate) fn array<const N: usize>(&self, addr: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        (self.read(addr, &mut bytes) == N).then_some(bytes)
    }

    /// A little-endian number of an area of the ring.
    pub(crate) fn u16_at(&self, addr: u64) -> u16 {
        u16::from_le_bytes(self.array(addr).expect("the ring's areas are in memory"))
    }

    /// All that is in memory.
    pub(crate) fn image(&self) -> Vec<u8> {
        let mut image = vec![0; BYTES];
        let mut rest = image.as_mut_slice();
        for (_, mapping) in &self.regions {
            let (region, others) = rest.split_at_mut(mapping.len());
            mapping.read(0, region);
            rest = others;
        }
        image
    }

    /// Overwrites all of memory by what [`Guest::image`] gave.
    pub(crate) fn fill(&self, mut image: &[u8]) {
        for (_, mapping) in &self.regions {
            image = &image[mapping.write(0, image)..];
        }
    }

    fn pieces(
        &self,
        addr: u64,
        len: usize,
        mut each: impl FnMut(&Mapping, usize, std::ops::Range<usize>) -> usize,
    ) -> usize {
        let mut done = 0;
        while done < len {
            let Some(at) = addr.checked_add(done as u64) else { break };
            let holds = |(start, mapping): &&(u64, Arc<Mapping>)| {
                at.checked_sub(*start).is_some_and(|offset| offset < mapping.len() as u64)
            };
            let Some((start, mapping)) = self.regions.iter().find(holds) else { break };
            done += each(mapping, (at - start) as usize, done..len);
        }
        done
    }
}
