//! How messages are made: from what the front-end and its guest have at the moment.

use std::os::fd::OwnedFd;

use virtio_spec::block::{Config, WRITEBACK_OFFSET};
use virtio_spec::features::mask;
use virtio_spec::vhost_user::{
    ConfigHeader, F_PROTOCOL_FEATURES, Inflight, MemoryRegion, VringAddr, VringState,
};
use wire::Request;

use crate::Failure;
use crate::front_end::Message;
use crate::guest::PlugState;
use crate::world::World;

/// The base of a packed ring at its start: both wrap counters set.
const START_OF_PACKED: u32 = 0x8000_8000;

impl World {
    /// A message as it is sent.
    pub(crate) fn request(&mut self, message: Message) -> Result<Request, Failure> {
        Ok(match message {
            Message::GetFeatures => Request::GetFeatures,
            Message::GetProtocolFeatures => Request::GetProtocolFeatures,
            Message::SetProtocolFeatures => {
                Request::SetProtocolFeatures(self.front_end.protocol.bits())
            }
            Message::SetOwner => Request::SetOwner,
            Message::GetQueueNum => Request::GetQueueNum,
            Message::SetFeatures => Request::SetFeatures(self.feature_bits()),
            Message::GetConfig => {
                let size = u32::try_from(Config::SIZE).unwrap_or(0);
                Request::GetConfig(ConfigHeader { offset: 0, size, flags: 0 })
            }
            Message::SetWriteback(on) => Request::SetConfig {
                access: ConfigHeader {
                    offset: u32::try_from(WRITEBACK_OFFSET).unwrap_or(0),
                    size: 1,
                    flags: 0,
                },
                data: vec![on.into()],
            },
            Message::SetStatus(status) => Request::SetStatus(status.bits()),
            Message::GetStatus => Request::GetStatus,
            Message::ResetDevice => Request::ResetDevice,
            Message::GetInflight => Request::GetInflightFd(Inflight {
                mmap_size: 0,
                mmap_offset: 0,
                num_queues: self.scenario.queues,
                queue_size: self.scenario.size,
            }),
            Message::SetInflight => match &self.front_end.region {
                Some((region, file)) => Request::SetInflightFd(*region, duplicate(file)?),
                None => return Err(Failure::Simulator("there is no in-flight region".into())),
            },
            Message::SetMemTable | Message::AddRegion(_) | Message::RemoveRegion(_) => {
                self.memory_request(message)?
            }
            about_ring => self.ring_request(about_ring)?,
        })
    }

    fn feature_bits(&self) -> u64 {
        let bits = self.guest.features.map_or(0, virtio_spec::Negotiated::bits);
        let protocol = self.scenario.protocol.map_or(0, |_| mask(F_PROTOCOL_FEATURES));
        (bits | protocol) & self.front_end.offered
    }

    fn memory_request(&mut self, message: Message) -> Result<Request, Failure> {
        let regions = self.regions()?;
        match message {
            Message::SetMemTable => Ok(Request::SetMemTable(regions)),
            Message::AddRegion(at) => {
                let region = regions.into_iter().find(|(region, _)| region.guest_addr == at);
                let missing = || Failure::Simulator(format!("there is no region at {at:#x}"));
                region.map(|(region, file)| Request::AddMemReg(region, file)).ok_or_else(missing)
            }
            Message::RemoveRegion(plug) => match &self.guest.plug(plug)?.state {
                PlugState::Leaving(leaving) => Ok(Request::RemMemReg(leaving.description)),
                _ => Err(Failure::Simulator(format!("the memory in {plug} is not leaving"))),
            },
            other => Err(Failure::Simulator(format!("{other:?} is not about memory"))),
        }
    }

    /// Whether the back-end is to have the region at this guest address.
    pub(crate) fn has_region(&self, at: u64) -> Result<bool, Failure> {
        Ok(self.regions()?.iter().any(|(region, _)| region.guest_addr == at))
    }

    /// All regions that the back-end is to have.
    pub(crate) fn regions(&self) -> Result<Vec<(MemoryRegion, OwnedFd)>, Failure> {
        let memory = &self.guest.memory;
        let mut regions = Vec::new();
        for region in memory.regions() {
            regions.push((region, memory.file(region.guest_addr)?));
        }
        for leaving in self.guest.leaving() {
            regions.push((leaving.description, duplicate(&leaving.file)?));
        }
        Ok(regions)
    }

    fn ring_request(&mut self, message: Message) -> Result<Request, Failure> {
        let state = |ring: u16, num| VringState { index: ring.into(), num };
        let index = |ring: u16| u8::try_from(ring).unwrap_or(u8::MAX);
        Ok(match message {
            Message::Num(ring) => {
                let size = self.guest.ring(ring)?.block.queue().size();
                Request::SetVringNum(state(ring, size.into()))
            }
            Message::Base(ring) => Request::SetVringBase(state(ring, self.base(ring)?)),
            Message::Address(ring) => Request::SetVringAddr(self.address(ring)?),
            Message::Err(ring) => {
                let fd = Some(self.guest.ring(ring)?.events.error.share()?);
                Request::SetVringErr { index: index(ring), fd }
            }
            Message::Call(ring) => {
                let fd = Some(self.guest.ring(ring)?.events.call.share()?);
                Request::SetVringCall { index: index(ring), fd }
            }
            Message::Kick(ring) => {
                let polled = self.scenario.polled;
                let kick = &self.guest.ring(ring)?.events.kick;
                let fd = if polled { None } else { Some(kick.share()?) };
                Request::SetVringKick { index: index(ring), fd }
            }
            Message::Enable(ring, enable) => Request::SetVringEnable { index: ring.into(), enable },
            Message::GetBase(ring) => Request::GetVringBase { index: ring.into() },
            other => return Err(Failure::Simulator(format!("{other:?} is not about a ring"))),
        })
    }

    /// Where a ring goes on: as the back-end said when it last stopped. After a loss that is stale,
    /// and front-ends send it all the same.
    fn base(&mut self, ring: u16) -> Result<u32, Failure> {
        let known = self.front_end.ring(ring).base;
        let packed = self.guest.ring(ring)?.block.queue().as_packed().is_some();
        Ok(known.unwrap_or(if packed { START_OF_PACKED } else { 0 }))
    }

    fn address(&mut self, ring: u16) -> Result<VringAddr, Failure> {
        let memory = self.guest.memory.clone();
        let at = self.guest.ring(ring)?.block.queue().addresses();
        Ok(VringAddr {
            index: ring.into(),
            flags: 0,
            descriptor: memory.user_addr(at.descriptor, 1)?,
            used: memory.user_addr(at.device, 1)?,
            available: memory.user_addr(at.driver, 1)?,
            log: 0,
        })
    }
}

fn duplicate(file: &OwnedFd) -> Result<OwnedFd, Failure> {
    file.try_clone().map_err(|error| Failure::Simulator(format!("no descriptor: {error}")))
}
