//! The regions of guest memory that a front-end describes.

use super::super::clause::vhost_user::{MEMORY_KNOWN, MEMORY_OVERLAP};
use super::super::violation::Findings;
use crate::vhost_user::{FrontendRequest, MemoryRegion, MemoryTableHeader, SingleMemoryRegion};

/// The regions that are in force.
#[derive(Debug, Default)]
pub(super) struct Regions(Vec<MemoryRegion>);

impl Regions {
    pub(super) fn request(
        &mut self,
        request: FrontendRequest,
        payload: &[u8],
        findings: &mut Findings,
    ) {
        match request {
            FrontendRequest::SetMemTable => self.replace(payload, findings),
            FrontendRequest::AddMemReg => {
                if let Some(single) = SingleMemoryRegion::from_prefix(payload) {
                    self.add(single.region, findings);
                }
            }
            FrontendRequest::RemMemReg => {
                if let Some(single) = SingleMemoryRegion::from_prefix(payload) {
                    self.remove(single.region, findings);
                }
            }
            _ => {}
        }
    }

    fn replace(&mut self, payload: &[u8], findings: &mut Findings) {
        self.0.clear();
        let Some(header) = MemoryTableHeader::from_prefix(payload) else { return };
        let regions = payload.get(MemoryTableHeader::SIZE..).unwrap_or_default();
        let regions = regions.chunks_exact(MemoryRegion::SIZE).take(header.num_regions as usize);
        for region in regions.filter_map(MemoryRegion::from_prefix) {
            self.add(region, findings);
        }
    }

    fn add(&mut self, region: MemoryRegion, findings: &mut Findings) {
        let other = self.0.iter().find(|other| {
            overlap(other.guest_addr, other.size, region.guest_addr, region.size)
                || overlap(other.user_addr, other.size, region.user_addr, region.size)
        });
        if let Some(other) = other {
            findings.breach(&MEMORY_OVERLAP, format!("{region:#x?} overlaps {other:#x?}"));
        }
        self.0.push(region);
    }

    fn remove(&mut self, region: MemoryRegion, findings: &mut Findings) {
        let place = self.0.iter().position(|known| {
            (known.guest_addr, known.user_addr, known.size)
                == (region.guest_addr, region.user_addr, region.size)
        });
        match place {
            Some(place) => drop(self.0.remove(place)),
            None => findings.breach(&MEMORY_KNOWN, format!("{region:#x?} was removed")),
        }
    }
}

fn overlap(first: u64, first_size: u64, second: u64, second_size: u64) -> bool {
    first < second.saturating_add(second_size) && second < first.saturating_add(first_size)
}
