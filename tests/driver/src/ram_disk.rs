//! Devices by other authors, for tests: `virtio-queue` on our guest memory, and a block device
//! with its contents in RAM on top of it, which `vhost-user-backend` can serve.

use std::fs::File;
use std::io::{Read, Write};

use virtio_queue::{DescriptorChain, Queue, QueueT, Reader, Writer};
use virtio_spec::Negotiated;
use virtio_spec::block::{RequestHeader, RequestType, SECTOR_SIZE, Segment, Status};
use virtio_spec::features::EVENT_IDX;
use vm_memory::mmap::MmapRegion;
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap, GuestRegionMmap};

use crate::{Addresses, Memory};

/// Our guest memory as `vm-memory` maps it.
pub(crate) fn mapped(memory: &Memory) -> GuestMemoryMmap {
    let regions = memory.regions().into_iter().map(|region| {
        let file = File::from(memory.file(region.guest_addr).unwrap());
        let offset = FileOffset::new(file, region.mmap_offset);
        let mapping = MmapRegion::from_file(offset, region.size.try_into().unwrap()).unwrap();
        GuestRegionMmap::new(mapping, GuestAddress(region.guest_addr)).unwrap()
    });
    GuestMemoryMmap::from_regions(regions.collect()).unwrap()
}

/// The device's side of a split ring.
pub(crate) fn device_side(at: Addresses, size: u16, negotiated: Negotiated) -> Queue {
    let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).ok();
    let mut queue = Queue::new(size).unwrap();
    queue.set_desc_table_address(half(at.descriptor), half(at.descriptor >> 32));
    queue.set_avail_ring_address(half(at.driver), half(at.driver >> 32));
    queue.set_used_ring_address(half(at.device), half(at.device >> 32));
    queue.set_size(size);
    queue.set_event_idx(negotiated.has(EVENT_IDX));
    queue.set_ready(true);
    queue
}

/// A disk's contents.
#[derive(Debug, Clone)]
pub(crate) struct RamDisk(pub(crate) Vec<u8>);

impl RamDisk {
    pub(crate) const SERIAL: &[u8; 20] = b"ram-disk\0\0\0\0\0\0\0\0\0\0\0\0";

    pub(crate) fn new(sectors: u64) -> Self {
        Self(vec![0; usize::try_from(sectors * SECTOR_SIZE).unwrap()])
    }

    /// Carries out the request in a chain; returns how many bytes were written into it.
    pub(crate) fn serve(
        &mut self,
        memory: &GuestMemoryMmap,
        chain: DescriptorChain<&GuestMemoryMmap>,
    ) -> u32 {
        let mut from: Reader<'_> = chain.clone().reader(memory).unwrap();
        let mut to: Writer<'_> = chain.writer(memory).unwrap();
        let mut header = [0; RequestHeader::SIZE];
        from.read_exact(&mut header).unwrap();
        let header = RequestHeader::from_bytes(&header);
        let room = to.available_bytes() - 1;
        let mut status = to.split_at(room).unwrap();
        let outcome = self.carry_out(header, &mut from, &mut to);
        status.write_all(&[outcome.number()]).unwrap();
        let written = if to.bytes_written() == room { room + 1 } else { to.bytes_written() };
        written.try_into().unwrap()
    }

    fn carry_out(
        &mut self,
        header: RequestHeader,
        from: &mut Reader<'_>,
        to: &mut Writer<'_>,
    ) -> Status {
        let at = usize::try_from(header.sector * SECTOR_SIZE).unwrap();
        match RequestType::from_u32(header.request_type) {
            Some(RequestType::In) => match self.0.get(at..at + to.available_bytes()) {
                Some(bytes) => to.write_all(bytes).map_or(Status::IoErr, |()| Status::Ok),
                None => Status::IoErr,
            },
            Some(RequestType::Out) => match self.0.get_mut(at..at + from.available_bytes()) {
                Some(bytes) => from.read_exact(bytes).map_or(Status::IoErr, |()| Status::Ok),
                None => Status::IoErr,
            },
            Some(RequestType::Flush) => Status::Ok,
            Some(RequestType::Discard | RequestType::WriteZeroes) => {
                let mut segment = [0; Segment::SIZE];
                from.read_exact(&mut segment).unwrap();
                let segment = Segment::from_bytes(&segment);
                let at = usize::try_from(segment.sector * SECTOR_SIZE).unwrap();
                let len = usize::try_from(u64::from(segment.num_sectors) * SECTOR_SIZE).unwrap();
                self.0[at..at + len].fill(0);
                Status::Ok
            }
            Some(RequestType::GetId) => {
                to.write_all(Self::SERIAL).map_or(Status::IoErr, |()| Status::Ok)
            }
            _ => Status::Unsupported,
        }
    }
}
