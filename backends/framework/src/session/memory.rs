//! Guest memory: the table as a whole, and regions one by one.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use virtio_spec::vhost_user::MemoryRegion;

use super::pending::Then;
use super::{Session, Workers};
use crate::Error;
use crate::device::Service;
use crate::error::Result;
use crate::memory::{GuestAddress, MemoryTable, Region, UserAddress};
use crate::worker::Command;

impl Session {
    /// Legal while rings run: workers switch between two wakes, and the former regions go with
    /// their last operation.
    pub(super) fn set_mem_table<S: Service, W: Workers<S>>(
        &mut self,
        regions: Vec<(MemoryRegion, OwnedFd)>,
        workers: &mut W,
    ) -> Result<Then> {
        let regions: Result<Vec<Region>> =
            regions.into_iter().map(|(region, fd)| map(&region, fd)).collect();
        self.use_table(MemoryTable::new(regions?)?, false, workers);
        Ok(Then::Ack)
    }

    pub(super) fn add_mem_reg<S: Service, W: Workers<S>>(
        &mut self,
        region: &MemoryRegion,
        fd: OwnedFd,
        workers: &mut W,
    ) -> Result<Then> {
        let mut regions = self.memory.regions().to_vec();
        // Looked at before mapping, so that a front-end cannot make us map without end.
        if regions.len() >= MemoryTable::MAX_REGIONS {
            let count = regions.len().saturating_add(1);
            return Err(Error::TooManyRegions { count, most: MemoryTable::MAX_REGIONS });
        }
        regions.push(map(region, fd)?);
        self.use_table(MemoryTable::new(regions)?, false, workers);
        Ok(Then::Ack)
    }

    /// The reply waits for operations in the region: the front-end takes the memory away then.
    pub(super) fn rem_mem_reg<S: Service, W: Workers<S>>(
        &mut self,
        region: &MemoryRegion,
        workers: &mut W,
    ) -> Result<Then> {
        // The offset in the file does not count (vhost-user, REM_MEM_REG).
        let is_it = |r: &Region| {
            r.guest == GuestAddress(region.guest_addr)
                && r.user == UserAddress(region.user_addr)
                && r.size == region.size
        };
        let mut regions = self.memory.regions().to_vec();
        let Some(position) = regions.iter().position(is_it) else {
            let guest = GuestAddress(region.guest_addr);
            return Err(Error::NoSuchRegion { guest, size: region.size });
        };
        regions.remove(position);
        self.use_table(MemoryTable::new(regions)?, true, workers);
        Ok(Then::Ack)
    }

    fn use_table<S: Service, W: Workers<S>>(
        &mut self,
        table: MemoryTable,
        release: bool,
        workers: &mut W,
    ) {
        let table = Arc::new(table);
        self.memory = Arc::clone(&table);
        self.tell_all(workers, || Command::Memory { table: Arc::clone(&table), release });
    }
}

fn map(region: &MemoryRegion, fd: OwnedFd) -> Result<Region> {
    let guest = GuestAddress(region.guest_addr);
    let user = UserAddress(region.user_addr);
    Region::map(guest, user, region.size, fd, region.mmap_offset)
}
