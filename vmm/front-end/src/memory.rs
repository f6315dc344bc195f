//! Guest memory as the back-ends are told of it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::pread;
use virtio_spec::vhost_user::MemoryRegion;

/// A region of guest memory.
#[derive(Debug, Clone)]
pub struct Region {
    /// First guest address.
    pub guest_addr: u64,
    /// Bytes in the region.
    pub size: u64,
    /// First address in this process: the name of the region in messages about rings.
    pub user_addr: u64,
    /// The file behind the region, which must be readable: a memfd.
    pub file: Arc<OwnedFd>,
    /// Where in the file the region starts.
    pub offset: u64,
}

impl Region {
    /// The region without its file, as messages describe it.
    #[must_use]
    pub fn place(&self) -> MemoryRegion {
        MemoryRegion {
            guest_addr: self.guest_addr,
            size: self.size,
            user_addr: self.user_addr,
            mmap_offset: self.offset,
        }
    }
}

/// The user address of `len` bytes at a guest address, if one region holds them all.
pub(crate) fn user_address(places: &[MemoryRegion], addr: u64, len: u64) -> Option<u64> {
    let (place, into) = find(places, addr, len)?;
    place.user_addr.checked_add(into)
}

/// Reads a little-endian number from guest memory.
///
/// # Errors
/// When no region holds it, or the file cannot be read.
pub(crate) fn read_u16(regions: &[Region], addr: u64) -> io::Result<u16> {
    let outside = || io::Error::new(io::ErrorKind::InvalidInput, "not in guest memory");
    let places: Vec<MemoryRegion> = regions.iter().map(Region::place).collect();
    let (place, into) = find(&places, addr, 2).ok_or_else(outside)?;
    let region = regions.iter().find(|region| region.guest_addr == place.guest_addr);
    let at = place.mmap_offset.checked_add(into).ok_or_else(outside)?;
    let mut bytes = [0; 2];
    match pread(&region.ok_or_else(outside)?.file, &mut bytes, at)? {
        2 => Ok(u16::from_le_bytes(bytes)),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// The region that holds `len` bytes at a guest address, and how far in it they are.
fn find(places: &[MemoryRegion], addr: u64, len: u64) -> Option<(&MemoryRegion, u64)> {
    places.iter().find_map(|place| {
        let into = addr.checked_sub(place.guest_addr)?;
        let end = into.checked_add(len)?;
        (end <= place.size).then_some((place, into))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(guest_addr: u64, size: u64, user_addr: u64) -> MemoryRegion {
        MemoryRegion { guest_addr, size, user_addr, mmap_offset: 0 }
    }

    #[test]
    fn a_range_is_found_in_one_region_only() {
        let places = [place(0, 0x1000, 0x10_0000), place(0x1000, 0x1000, 0x20_0000)];
        assert_eq!(user_address(&places, 0x10, 16), Some(0x10_0010));
        assert_eq!(user_address(&places, 0x1ff0, 16), Some(0x20_0ff0));
        assert_eq!(user_address(&places, 0xff8, 16), None);
        assert_eq!(user_address(&places, 0x2000, 1), None);
        assert_eq!(user_address(&places, u64::MAX, 16), None);
        assert_eq!(user_address(&[place(0, u64::MAX, u64::MAX)], 1, 1), None);
    }
}
