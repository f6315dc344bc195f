//! The guest: its memory, its driver's rings, and what the driver has asked for.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use driver::{Area, BlockQueue, Buffer, Event, Memory, Operation, Queue, RegionSpec, Token, Watch};
use virtio_spec::block::Status;
use virtio_spec::vhost_user::MemoryRegion;
use virtio_spec::{DeviceType, Negotiated};

use crate::Failure;

/// What memory is filled with that the back-end must leave alone.
const POISON: u8 = 0xa7;

/// Where memory can be plugged in. They lie below the rest of memory, so that buffers are taken from
/// there as long as they are there. The second is larger, so that all of it fits nowhere else.
const PLUGS: [RegionSpec; 2] =
    [RegionSpec::new(0x1_0000, 0x8000), RegionSpec::new(0x1_8000, 0x9000)];

/// Two regions that are always there, next to each other.
const ALWAYS: [RegionSpec; 2] =
    [RegionSpec::new(0x10_0000, 0x2_0000), RegionSpec::new(0x12_0000, 0x10_0000)];

/// The guest.
pub(crate) struct Guest {
    pub(crate) memory: Memory,
    pub(crate) watch: Watch,
    /// What the driver agreed on; None: it has not begun, or was reset.
    pub(crate) features: Option<Negotiated>,
    pub(crate) rings: Vec<Ring>,
    pub(crate) plugs: Vec<Plug>,
}

/// The driver's side of a ring.
pub(crate) struct Ring {
    pub(crate) block: BlockQueue,
    pub(crate) events: Events,
    /// Requests that have not ended.
    pub(crate) sent: BTreeMap<Token, Sent>,
    /// Those of them that the device does not see yet.
    pub(crate) unpublished: Vec<(Token, Operation)>,
    /// The device wants a kick that the driver has not sent yet.
    pub(crate) owes_kick: bool,
    /// The back-end does not have the kick eventfd yet: kicks are lost.
    pub(crate) kicks_are_lost: bool,
    /// Whether its worker has had a whole turn with the ring running since the last publication, and
    /// so has taken all that there was.
    pub(crate) seen: bool,
    /// The driver looks at the ring only when it is called.
    pub(crate) sleeping: bool,
    /// The driver has broken a rule in it: it makes no sense until it is set up anew.
    pub(crate) spoilt: bool,
    /// The device has signalled that it gave the ring up.
    pub(crate) failed: bool,
}

/// The eventfds of a ring; they survive its reset.
#[derive(Clone)]
pub(crate) struct Events {
    pub(crate) kick: Event,
    pub(crate) call: Event,
    /// The one before: calls may still come there.
    pub(crate) former_call: Option<Event>,
    pub(crate) error: Event,
}

/// A request.
pub(crate) struct Sent {
    pub(crate) id: u32,
    pub(crate) expected: Expected,
    /// Regions that could be unplugged and in which it may have buffers.
    pub(crate) plugs: u8,
    /// A back-end that had it under way was killed.
    pub(crate) survived: bool,
}

/// How a request is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Well, or with an error if operations fail.
    Done,
    /// With this status: it makes no sense.
    Status(Status),
}

/// A place for a region of memory.
pub(crate) struct Plug {
    pub(crate) spec: RegionSpec,
    pub(crate) state: PlugState,
    /// Regions that were taken away.
    pub(crate) gone: Vec<Gone>,
}

pub(crate) enum PlugState {
    Out,
    /// The back-end does not have it yet, so nobody takes buffers from it: this is all of it.
    Entering {
        _all: Buffer,
    },
    In,
    /// The guest takes no new buffers from it; the back-end still has it.
    Leaving(Leaving),
}

pub(crate) struct Leaving {
    pub(crate) description: MemoryRegion,
    pub(crate) file: OwnedFd,
    area: Area,
}

pub(crate) struct Gone {
    region: Leaving,
    /// Nobody uses it any more, and it was filled with [`POISON`].
    poisoned: bool,
}

impl Events {
    pub(crate) fn new(watch: &Watch, ring: u16) -> Result<Self, Failure> {
        Ok(Events {
            kick: Event::kick(watch, ring)?,
            call: Event::call(watch, ring)?,
            former_call: None,
            error: Event::new()?,
        })
    }

    /// Takes the calls that have come.
    pub(crate) fn take_calls(&self) -> Result<u64, Failure> {
        let former = self.former_call.as_ref().map_or(Ok(0), Event::take)?;
        Ok(former + self.call.take()?)
    }

    /// Sees whether there are calls, without taking them.
    pub(crate) fn is_called(&self) -> Result<bool, Failure> {
        let former = self.former_call.as_ref().map_or(Ok(false), Event::look)?;
        Ok(self.call.look()? || former)
    }
}

impl Ring {
    pub(crate) fn new(
        memory: &Memory,
        watch: &Watch,
        (index, size): (u16, u16),
        features: Negotiated,
        events: Events,
    ) -> Result<Self, Failure> {
        let queue = Queue::new(memory, size, features)?;
        queue.watch(watch, index)?;
        Ok(Ring {
            block: BlockQueue::new(queue, memory),
            events,
            sent: BTreeMap::new(),
            unpublished: Vec::new(),
            owes_kick: false,
            kicks_are_lost: false,
            seen: false,
            sleeping: true,
            spoilt: false,
            failed: false,
        })
    }

    /// Whether the device has been shown this request.
    pub(crate) fn is_published(&self, token: Token) -> bool {
        self.unpublished.iter().all(|(unpublished, _)| *unpublished != token)
    }
}

impl Guest {
    /// A guest that has just been switched on.
    /// An observer sees all of it, unless its driver breaks rules.
    pub(crate) fn new(hostile: bool) -> Result<Self, Failure> {
        let plug = |spec| Plug { spec, state: PlugState::Out, gone: Vec::new() };
        Ok(Guest {
            memory: Memory::with_regions(&ALWAYS)?,
            watch: if hostile { Watch::none() } else { Watch::new(DeviceType::BLOCK) },
            features: None,
            rings: Vec::new(),
            plugs: PLUGS.into_iter().map(plug).collect(),
        })
    }

    pub(crate) fn has(&self, feature: u32) -> bool {
        self.features.is_some_and(|features| features.has(feature))
    }

    pub(crate) fn ring(&mut self, ring: u16) -> Result<&mut Ring, Failure> {
        let there = self.rings.get_mut(usize::from(ring));
        there.ok_or_else(|| Failure::Simulator(format!("there is no ring {ring}")))
    }

    pub(crate) fn plug(&mut self, plug: usize) -> Result<&mut Plug, Failure> {
        let there = self.plugs.get_mut(plug);
        there.ok_or_else(|| Failure::Simulator(format!("there is no place {plug} for memory")))
    }

    /// Places where memory is plugged in from which buffers are taken, as bits.
    pub(crate) fn plugged(&self) -> u8 {
        let plugs = self.plugs.iter().enumerate();
        let inside = plugs.filter(|(_, plug)| matches!(plug.state, PlugState::In));
        inside.fold(0, |bits, (index, _)| bits | 1 << index)
    }

    /// Regions that the back-end is to have beside those of [`Memory::regions`]: those that leave,
    /// and those that are gone but hold buffers of requests that a killed process has left behind.
    pub(crate) fn leaving(&self) -> impl Iterator<Item = &Leaving> {
        self.plugs.iter().enumerate().flat_map(|(index, plug)| {
            let leaving = match &plug.state {
                PlugState::Leaving(leaving) => Some(leaving),
                _ => None,
            };
            let needed = self.users_of(index).any(|sent| sent.survived);
            let gone = plug.gone.iter().filter(move |gone| needed && !gone.poisoned);
            leaving.into_iter().chain(gone.map(|gone| &gone.region))
        })
    }

    /// Whether a ring's own areas lie in a plugged region.
    pub(crate) fn has_ring_in(&mut self, plug: usize) -> bool {
        let Some(RegionSpec { guest_addr, size, .. }) = self.plugs.get(plug).map(|p| p.spec) else {
            return false;
        };
        self.rings.iter_mut().any(|ring| {
            let at = ring.block.queue().addresses();
            let inside = |addr: u64| addr >= guest_addr && addr - guest_addr < size;
            [at.descriptor, at.driver, at.device].into_iter().any(inside)
        })
    }

    /// Requests that may have buffers in a plugged region.
    fn users_of(&self, plug: usize) -> impl Iterator<Item = &Sent> {
        let uses = move |sent: &&Sent| sent.plugs & 1 << plug != 0;
        self.rings.iter().flat_map(|ring| ring.sent.values()).filter(uses)
    }

    /// A request that has not ended in a region that was taken away. What has ended in a ring that
    /// makes no sense the driver does not know.
    pub(crate) fn left_behind_in(&self, plug: usize) -> Option<u32> {
        let rings = self.rings.iter().filter(|ring| !ring.spoilt);
        let mut sent = rings.flat_map(|ring| ring.sent.values());
        sent.find(|sent| sent.plugs & 1 << plug != 0).map(|sent| sent.id)
    }

    /// One of the requests that may have buffers in a plugged region.
    pub(crate) fn user_of(&self, plug: usize) -> Option<&Sent> {
        self.users_of(plug).next()
    }

    /// Whether every request with buffers in a plugged region was taken by its worker.
    pub(crate) fn is_taken(&self, plug: usize) -> bool {
        let uses = |sent: &Sent| sent.plugs & 1 << plug != 0;
        self.rings.iter().all(|ring| {
            let unpublished = ring.unpublished.iter().filter_map(|(token, _)| ring.sent.get(token));
            !unpublished.into_iter().any(uses)
                && (ring.seen && !ring.spoilt || !ring.sent.values().any(uses))
        })
    }

    /// Plugs a region in. No buffers are taken from it until [`Guest::entered`].
    pub(crate) fn begin_plug(&mut self, plug: usize) -> Result<(), Failure> {
        let memory = self.memory.clone();
        let plug = self.plug(plug)?;
        memory.add_region(plug.spec)?;
        let all = memory.alloc(usize::try_from(plug.spec.size).unwrap_or(0))?;
        plug.state = PlugState::Entering { _all: all };
        Ok(())
    }

    /// The back-end has been told of a region, or of all (None).
    pub(crate) fn entered(&mut self, at: Option<u64>) {
        for plug in &mut self.plugs {
            let meant = at.is_none_or(|at| at == plug.spec.guest_addr);
            if meant && matches!(plug.state, PlugState::Entering { .. }) {
                plug.state = PlugState::In;
            }
        }
    }

    /// Takes no more buffers from a region.
    pub(crate) fn begin_unplug(&mut self, plug: usize) -> Result<(), Failure> {
        let memory = self.memory.clone();
        let plug = self.plug(plug)?;
        let len = usize::try_from(plug.spec.size).unwrap_or(0);
        let area = memory.area(plug.spec.guest_addr, len)?;
        let file = memory.file(plug.spec.guest_addr)?;
        let description = memory.remove_region(plug.spec.guest_addr)?;
        plug.state = PlugState::Leaving(Leaving { description, file, area });
        Ok(())
    }

    /// The back-end no longer has a region.
    pub(crate) fn unplugged(&mut self, plug: usize) -> Result<(), Failure> {
        let plug = self.plug(plug)?;
        if let PlugState::Leaving(leaving) = std::mem::replace(&mut plug.state, PlugState::Out) {
            plug.gone.push(Gone { region: leaving, poisoned: false });
        }
        Ok(())
    }

    /// Poisons regions that are gone once no request uses them, and looks after the poison in
    /// others.
    pub(crate) fn check_gone(&mut self) -> Result<(), Failure> {
        for index in 0..self.plugs.len() {
            let used = self.user_of(index).is_some();
            for gone in self.plugs.get_mut(index).into_iter().flat_map(|plug| &mut plug.gone) {
                if gone.poisoned {
                    let bytes = gone.region.area.to_vec();
                    if let Some(offset) = bytes.iter().position(|byte| *byte != POISON) {
                        return Err(Failure::Touched { offset });
                    }
                } else if !used {
                    gone.region.area.fill(POISON);
                    gone.poisoned = true;
                }
            }
        }
        Ok(())
    }
}
