//! A step of the session as a message with its descriptors, and a message as its answer.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use virtio_pci::Event;
use virtio_spec::vhost_user::{
    ConfigFlags, ConfigHeader, Inflight, Log, MemoryRegion, VringAddr, VringAddrFlags, VringState,
};
use wire::{Reply, Request};

use crate::in_flight::InFlight;
use crate::memory::{Region, read_u16};
use crate::session::{Answer, Base, RingAddress, Step};
use crate::two_sides::{QueueEvents, Shared};
use crate::{Error, Result};

/// The descriptors that messages of one connection carry.
pub(crate) struct Descriptors<'a> {
    pub(crate) shared: &'a Shared,
    /// Signalled by the back-end when a ring fails.
    pub(crate) error: &'a Event,
    /// The in-flight region, which outlives connections.
    pub(crate) in_flight: &'a mut Option<InFlight>,
    /// The other end of the channel for the back-end's requests.
    pub(crate) channel: Option<OwnedFd>,
}

impl Descriptors<'_> {
    /// The step as a request.
    ///
    /// # Errors
    /// When the system has no descriptors left, or what the step speaks of is not there.
    pub(crate) fn request(&mut self, step: &Step) -> Result<Request> {
        Ok(match step {
            Step::GetFeatures => Request::GetFeatures,
            Step::GetProtocolFeatures => Request::GetProtocolFeatures,
            Step::SetProtocolFeatures(bits) => Request::SetProtocolFeatures(bits.bits()),
            Step::SetOwner => Request::SetOwner,
            Step::GetQueueNum => Request::GetQueueNum,
            Step::GetMaxMemSlots => Request::GetMaxMemSlots,
            Step::OpenChannel => {
                Request::SetBackendReqFd(self.channel.take().ok_or(Error::Gone("the channel"))?)
            }
            Step::GetConfig(size) => Request::GetConfig(config_header(0, *size)),
            Step::SetConfig { offset, data } => {
                let size = u32::try_from(data.len()).unwrap_or(u32::MAX);
                Request::SetConfig { access: config_header(*offset, size), data: data.clone() }
            }
            Step::SetFeatures(bits) => Request::SetFeatures(*bits),
            Step::SetMtu(mtu) => Request::NetSetMtu((*mtu).into()),
            Step::Announce(mac) => Request::SendRarp(*mac),
            Step::SetStatus(status) => Request::SetStatus(*status),
            Step::GetStatus => Request::GetStatus,
            Step::ResetDevice => Request::ResetDevice,
            Step::SetMemTable(_) | Step::AddRegion(_) | Step::RemoveRegion(_) => {
                self.memory(step)?
            }
            Step::GetInFlight { .. } | Step::SetInFlight { .. } => self.in_flight(step)?,
            Step::SetLog(number) => self.log(*number)?,
            ring => self.ring(ring)?,
        })
    }

    fn memory(&self, step: &Step) -> Result<Request> {
        let regions = self.regions();
        Ok(match step {
            Step::AddRegion(place) => Request::AddMemReg(*place, region_file(&regions, place)?),
            Step::RemoveRegion(place) => Request::RemMemReg(*place),
            Step::SetMemTable(places) => {
                let with_file = |place: &MemoryRegion| Ok((*place, region_file(&regions, place)?));
                Request::SetMemTable(places.iter().map(with_file).collect::<Result<_>>()?)
            }
            _ => return Err(Error::Gone("a region of memory")),
        })
    }

    fn regions(&self) -> Arc<[Region]> {
        Arc::clone(&self.shared.lock().regions)
    }

    fn in_flight(&mut self, step: &Step) -> Result<Request> {
        if let Step::GetInFlight { queues, size } = *step {
            let (num_queues, queue_size) = (queues, size);
            let wish = Inflight { mmap_size: 0, mmap_offset: 0, num_queues, queue_size };
            return Ok(Request::GetInflightFd(wish));
        }
        let (Step::SetInFlight { clear, packed }, Some(region)) = (step, &self.in_flight) else {
            return Err(Error::Gone("the in-flight region"));
        };
        if let Err(error) = region.clear(clear, *packed) {
            // Better none than one that tells of the past: the next connection begins a new one.
            self.shared.lock().session.forget_region();
            return Err(Error::system("clearing a part of the in-flight region")(error));
        }
        let (place, file) = region.share()?;
        Ok(Request::SetInflightFd(place, file))
    }

    fn log(&self, number: u64) -> Result<Request> {
        let log = self.shared.lock().log.clone();
        let (_, log) =
            log.filter(|(there, _)| *there == number).ok_or(Error::Gone("the dirty log"))?;
        let place = Log { mmap_size: log.size, mmap_offset: log.offset };
        Ok(Request::SetLogBase(place, Some(duplicate(&log.file)?)))
    }

    fn ring(&self, step: &Step) -> Result<Request> {
        let state = |queue: u16, num| VringState { index: queue.into(), num };
        Ok(match *step {
            Step::RingSize(queue, size) => Request::SetVringNum(state(queue, size.into())),
            Step::RingBase(queue, base) => {
                Request::SetVringBase(state(queue, self.position(base)?))
            }
            Step::RingAddress(address) => Request::SetVringAddr(vring_addr(&address)),
            Step::RingError(queue) => {
                Request::SetVringErr { index: index(queue)?, fd: Some(duplicate(self.error)?) }
            }
            Step::RingCall(queue) => {
                let call = duplicate(&*self.events(queue)?.call)?;
                Request::SetVringCall { index: index(queue)?, fd: Some(call) }
            }
            Step::RingKick(queue) => {
                let kick = duplicate(&*self.events(queue)?.kick)?;
                Request::SetVringKick { index: index(queue)?, fd: Some(kick) }
            }
            Step::RingEnable(queue, enable) => {
                Request::SetVringEnable { index: queue.into(), enable }
            }
            Step::StopRing(queue) => Request::GetVringBase { index: queue.into() },
            _ => return Err(Error::Gone("a queue")),
        })
    }

    fn position(&self, base: Base) -> Result<u32> {
        match base {
            Base::At(position) => Ok(position),
            Base::UsedIndex(addr) => read_u16(&self.regions(), addr)
                .map(u32::from)
                .map_err(Error::system("reading a ring's used index from guest memory")),
        }
    }

    fn events(&self, queue: u16) -> Result<QueueEvents> {
        self.shared.lock().queues.get(&queue).cloned().ok_or(Error::Gone("a queue"))
    }

    /// The answer to the step, as far as it can be judged without the session.
    ///
    /// # Errors
    /// When it is not an answer to it.
    pub(crate) fn answer(&mut self, step: &Step, reply: Reply) -> Result<Answer> {
        Ok(match (step, reply) {
            (_, Reply::U64(number)) => Answer::Number(number),
            (_, Reply::Ack(0) | Reply::Log(_)) => Answer::Done,
            (_, Reply::Ack(value)) => Answer::Refused(value),
            (_, Reply::ConfigRefused) => Answer::Refused(0),
            (_, Reply::Config(config)) if config.offset == 0 => Answer::Config(config.data),
            (Step::StopRing(queue), Reply::VringState(state))
                if state.index == u32::from(*queue) =>
            {
                Answer::Base(state.num)
            }
            (Step::GetInFlight { queues, size }, Reply::Inflight(place, file)) => {
                *self.in_flight = Some(InFlight::accept(place, file, *queues, *size)?);
                Answer::Done
            }
            (step, reply) => {
                let what = format!("{reply:?}");
                return Err(Error::WrongAnswer { message: step.name(), what });
            }
        })
    }
}

fn config_header(offset: u32, size: u32) -> ConfigHeader {
    ConfigHeader { offset, size, flags: ConfigFlags::empty().bits() }
}

fn vring_addr(address: &RingAddress) -> VringAddr {
    let flags = match address.log {
        Some(_) => VringAddrFlags::LOG,
        None => VringAddrFlags::empty(),
    };
    VringAddr {
        index: address.queue.into(),
        flags: flags.bits(),
        descriptor: address.descriptors,
        used: address.device,
        available: address.driver,
        log: address.log.unwrap_or(0),
    }
}

fn region_file(regions: &[Region], place: &MemoryRegion) -> Result<OwnedFd> {
    let region = regions.iter().find(|region| region.place() == *place);
    let region = region.ok_or(Error::Gone("a region of memory"))?;
    duplicate(&*region.file)
}

fn index(queue: u16) -> Result<u8> {
    u8::try_from(queue).map_err(|_| Error::Gone("a queue"))
}

fn duplicate(fd: &impl AsFd) -> Result<OwnedFd> {
    fd.as_fd().try_clone_to_owned().map_err(Error::system("duplicating a descriptor"))
}
