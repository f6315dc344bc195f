//! Sharing guest memory with the back-end.

use virtio_spec::vhost_user::{MemoryRegion, ProtocolFeatures};
use wire::Request;

use super::FrontEnd;
use crate::{RegionSpec, Result};

impl FrontEnd {
    /// Shares all of guest memory: region by region with CONFIGURE_MEM_SLOTS, as a table
    /// otherwise.
    ///
    /// # Errors
    /// [`Error::Wire`](crate::Error::Wire).
    pub fn share_memory(&mut self) -> Result<()> {
        if !self.protocol().contains(ProtocolFeatures::CONFIGURE_MEM_SLOTS) {
            return self.set_mem_table();
        }
        for region in self.memory.regions() {
            self.add_mem_reg(region)?;
        }
        Ok(())
    }

    /// Replaces what the back-end has by all of guest memory.
    ///
    /// # Errors
    /// [`Error::Wire`](crate::Error::Wire).
    pub fn set_mem_table(&mut self) -> Result<()> {
        let mut table = Vec::new();
        for region in self.memory.regions() {
            table.push((region, self.memory.file(region.guest_addr)?));
        }
        self.call(Request::SetMemTable(table)).map(drop)
    }

    /// Plugs a region in and shares it.
    ///
    /// # Errors
    /// [`Error::Overlap`](crate::Error::Overlap), [`Error::Wire`](crate::Error::Wire).
    pub fn plug(&mut self, spec: RegionSpec) -> Result<()> {
        self.memory.add_region(spec)?;
        let regions = self.memory.regions();
        match regions.into_iter().find(|region| region.guest_addr == spec.guest_addr) {
            Some(region) => self.add_mem_reg(region),
            None => Ok(()),
        }
    }

    /// Takes a region back from the back-end and unplugs it.
    ///
    /// # Errors
    /// [`Error::OutsideMemory`](crate::Error::OutsideMemory) when none starts there.
    pub fn unplug(&mut self, guest_addr: u64) -> Result<()> {
        self.require(ProtocolFeatures::CONFIGURE_MEM_SLOTS)?;
        let region = self.memory.remove_region(guest_addr)?;
        self.call(Request::RemMemReg(region)).map(drop)
    }

    /// How many regions the back-end takes.
    ///
    /// # Errors
    /// [`Error::NotOffered`](crate::Error::NotOffered) without CONFIGURE_MEM_SLOTS.
    pub fn max_mem_slots(&mut self) -> Result<u64> {
        self.require(ProtocolFeatures::CONFIGURE_MEM_SLOTS)?;
        self.number(Request::GetMaxMemSlots, "GET_MAX_MEM_SLOTS")
    }

    fn add_mem_reg(&mut self, region: MemoryRegion) -> Result<()> {
        let file = self.memory.file(region.guest_addr)?;
        self.call(Request::AddMemReg(region, file)).map(drop)
    }
}
