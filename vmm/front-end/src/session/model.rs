//! A back-end that answers steps and checks that each may be said at this moment.

use std::collections::{BTreeMap, BTreeSet};

use virtio_spec::features::{RING_PACKED, RING_RESET, VERSION_1, mask};
use virtio_spec::vhost_user::{F_LOG_ALL, F_PROTOCOL_FEATURES, MemoryRegion, ProtocolFeatures};
use virtio_spec::{DeviceType, Negotiated, net};

use super::{Answer, Base, Ring, Session, Step};
use crate::config::Config;
use crate::{Error, Result};

/// What a back-end is like.
#[derive(Debug, Clone)]
pub(super) struct Kind {
    pub(super) features: u64,
    pub(super) protocol: ProtocolFeatures,
    pub(super) queues: u64,
    pub(super) slots: u64,
    pub(super) config: Vec<u8>,
    /// Queues whose start is refused.
    pub(super) refuses: BTreeSet<u16>,
    pub(super) status: u64,
}

impl Default for Kind {
    fn default() -> Self {
        let bits = [VERSION_1, RING_PACKED, RING_RESET, F_LOG_ALL, F_PROTOCOL_FEATURES];
        Self {
            features: bits.iter().fold(0, |bits, bit| bits | mask(*bit)),
            protocol: ProtocolFeatures::all(),
            queues: 4,
            slots: 32,
            config: vec![7; 60],
            refuses: BTreeSet::new(),
            status: 0,
        }
    }
}

/// One connection's back-end.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) kind: Kind,
    pub(super) features: Option<u64>,
    pub(super) protocol: ProtocolFeatures,
    pub(super) memory: Vec<MemoryRegion>,
    pub(super) status: u8,
    pub(super) rings: BTreeMap<u16, RingModel>,
    pub(super) in_flight: bool,
    pub(super) log: bool,
    /// All that was said.
    pub(super) said: Vec<Step>,
}

#[derive(Debug, Default)]
pub(super) struct RingModel {
    pub(super) size: Option<u16>,
    pub(super) base: Option<Base>,
    address: bool,
    pub(super) logged: bool,
    call: bool,
    pub(super) started: bool,
    pub(super) enabled: bool,
}

impl Model {
    pub(super) fn new(kind: &Kind) -> Self {
        Self { kind: kind.clone(), ..Self::default() }
    }

    fn has(&self, feature: ProtocolFeatures) -> bool {
        self.protocol.contains(feature)
    }

    /// Queues that are served.
    pub(super) fn running(&self) -> Vec<u16> {
        let runs = |ring: &RingModel| {
            ring.started && (ring.enabled || self.kind.features & mask(F_PROTOCOL_FEATURES) == 0)
        };
        self.rings.iter().filter(|(_, ring)| runs(ring)).map(|(queue, _)| *queue).collect()
    }

    /// Answers as a back-end that keeps to the protocol. Panics when the front-end does not.
    pub(super) fn answer(&mut self, step: &Step) -> Answer {
        self.said.push(step.clone());
        self.check_extension(step);
        match step {
            Step::GetFeatures => return Answer::Number(self.kind.features),
            Step::GetProtocolFeatures => return Answer::Number(self.kind.protocol.bits()),
            Step::GetQueueNum => return Answer::Number(self.kind.queues),
            Step::GetMaxMemSlots => return Answer::Number(self.kind.slots),
            Step::GetStatus => return Answer::Number(self.kind.status),
            Step::GetConfig(size) => {
                let size = usize::try_from(*size).unwrap();
                return match self.kind.config.get(..size) {
                    Some(config) => Answer::Config(config.to_vec()),
                    None => Answer::Refused(0),
                };
            }
            Step::StopRing(queue) => return self.stop(*queue),
            Step::SetProtocolFeatures(bits) => {
                assert!(self.kind.protocol.contains(*bits));
                self.protocol = *bits;
            }
            Step::SetFeatures(bits) => {
                assert_eq!(bits & !self.kind.features, 0, "features that were not offered");
                let changed = self.features.unwrap_or(0) ^ bits;
                let running = self.rings.values().any(|ring| ring.started);
                assert!(!running || changed & !mask(F_LOG_ALL) == 0, "features changed");
                self.features = Some(*bits);
            }
            Step::SetMemTable(regions) => self.memory.clone_from(regions),
            Step::AddRegion(region) => {
                assert!(!self.memory.contains(region));
                self.memory.push(*region);
            }
            Step::RemoveRegion(region) => {
                let before = self.memory.len();
                self.memory.retain(|there| there != region);
                assert_eq!(self.memory.len() + 1, before);
            }
            Step::SetStatus(status) => {
                self.status = *status;
                if *status == 0 {
                    assert!(self.rings.values().all(|ring| !ring.started));
                }
            }
            Step::SetInFlight { .. } => {
                assert!(self.features.is_some());
                assert!(self.rings.values().all(|ring| !ring.started), "region changed");
                self.in_flight = true;
            }
            Step::SetLog(_) => self.log = true,
            Step::ResetDevice => {
                self.rings.clear();
                (self.features, self.status, self.in_flight) = (None, 0, false);
            }
            Step::SetConfig { offset, data } => {
                let start = usize::try_from(*offset).unwrap();
                let there = self.kind.config.get_mut(start..start + data.len());
                there.unwrap().copy_from_slice(data);
            }
            step if step.queue().is_some() => return self.ring(step),
            _ => {}
        }
        Answer::Done
    }

    fn check_extension(&self, step: &Step) {
        let needed = match step {
            Step::GetQueueNum => ProtocolFeatures::MQ,
            Step::GetMaxMemSlots | Step::AddRegion(_) | Step::RemoveRegion(_) => {
                ProtocolFeatures::CONFIGURE_MEM_SLOTS
            }
            Step::OpenChannel => ProtocolFeatures::BACKEND_REQ,
            Step::GetConfig(_) | Step::SetConfig { .. } => ProtocolFeatures::CONFIG,
            Step::SetMtu(_) => ProtocolFeatures::NET_MTU,
            Step::Announce(_) => ProtocolFeatures::RARP,
            Step::GetInFlight { .. } | Step::SetInFlight { .. } => ProtocolFeatures::INFLIGHT_SHMFD,
            Step::SetLog(_) => ProtocolFeatures::LOG_SHMFD,
            Step::SetStatus(_) | Step::GetStatus => ProtocolFeatures::STATUS,
            Step::ResetDevice => ProtocolFeatures::RESET_DEVICE,
            Step::GetProtocolFeatures | Step::SetProtocolFeatures(_) | Step::RingEnable(..) => {
                assert!(self.kind.features & mask(F_PROTOCOL_FEATURES) != 0);
                return;
            }
            _ => return,
        };
        assert!(self.has(needed), "{step:?} without {needed:?}");
    }

    fn ring(&mut self, step: &Step) -> Answer {
        let queue = step.queue().unwrap();
        let whole = self.features.is_some() && !self.memory.is_empty();
        let refuses = self.kind.refuses.contains(&queue);
        let ring = self.rings.entry(queue).or_default();
        match step {
            Step::RingSize(_, size) => {
                assert!(!ring.started);
                ring.size = Some(*size);
            }
            Step::RingBase(_, base) => {
                assert!(!ring.started);
                ring.base = Some(*base);
            }
            Step::RingAddress(address) => {
                assert!(!ring.started || address.log.is_some() != ring.logged);
                (ring.address, ring.logged) = (true, address.log.is_some());
            }
            Step::RingCall(_) => ring.call = true,
            Step::RingKick(_) => {
                assert!(whole && ring.size.is_some() && ring.base.is_some());
                assert!(ring.address && ring.call && !ring.started);
                if refuses {
                    return Answer::Refused(1);
                }
                ring.started = true;
            }
            Step::RingEnable(_, enable) => ring.enabled = *enable,
            _ => {}
        }
        Answer::Done
    }

    fn stop(&mut self, queue: u16) -> Answer {
        let refused = self.kind.refuses.contains(&queue);
        let ring = self.rings.entry(queue).or_default();
        assert!(ring.started || refused, "a ring is stopped that does not run");
        ring.started = false;
        Answer::Base(u32::from(queue) + 100)
    }
}

/// A session and its back-end.
pub(super) struct Stand {
    pub(super) session: Session,
    pub(super) model: Option<Model>,
    pub(super) kind: Kind,
}

pub(super) const REGION: MemoryRegion =
    MemoryRegion { guest_addr: 0, size: 0x10_0000, user_addr: 0x7000_0000, mmap_offset: 0 };
pub(super) const HIGH: MemoryRegion =
    MemoryRegion { guest_addr: 1 << 32, size: 0x1000, user_addr: 0x9000_0000, mmap_offset: 4096 };

impl Stand {
    pub(super) fn new(kind: Kind) -> Self {
        Self::of(Config::new("dev0", DeviceType::BLOCK), kind)
    }

    pub(super) fn of(config: Config, kind: Kind) -> Self {
        let session = Session::new(config, vec![REGION, HIGH]);
        Self { session, model: None, kind }
    }

    /// A stand with a connection over which all was said.
    pub(super) fn connected(kind: Kind) -> Self {
        let mut stand = Self::new(kind);
        stand.connect();
        stand.run().unwrap();
        stand
    }

    pub(super) fn connect(&mut self) {
        self.session.connected();
        self.model = Some(Model::new(&self.kind));
    }

    pub(super) fn lose(&mut self) {
        self.session.lost(&Error::Wire(wire::Error::Closed));
        self.model = None;
    }

    /// Answers the outstanding request, or makes the next. Says whether there was any.
    pub(super) fn step(&mut self) -> Result<bool> {
        if let Some(step) = self.session.outstanding().cloned() {
            let answer = self.model.as_mut().unwrap().answer(&step);
            self.session.answered(answer)?;
            return Ok(true);
        }
        Ok(self.session.next_step().is_some())
    }

    /// Until there is nothing more to say, which there is after a bounded number of messages.
    pub(super) fn run(&mut self) -> Result<()> {
        for _ in 0..2000 {
            if !self.step()? {
                return Ok(());
            }
        }
        panic!("it never ends: {:?}", self.model.as_ref().map(|model| &model.said));
    }

    pub(super) fn model(&mut self) -> &mut Model {
        self.model.as_mut().unwrap()
    }

    /// What was said since the last time.
    pub(super) fn said(&mut self) -> Vec<&'static str> {
        self.model().said.drain(..).map(|step| step.name()).collect()
    }

    pub(super) fn start(&mut self, features: u64, queues: &[u16]) {
        let features = Negotiated::assume(features | mask(VERSION_1));
        self.session.start(features, queues.iter().map(|queue| ring(*queue)));
    }
}

pub(super) fn ring(queue: u16) -> Ring {
    let at = 0x1_0000 * u64::from(queue);
    Ring { queue, size: 64, descriptors: at, driver: at + 0x1000, device: at + 0x2000 }
}

/// A network card's kind.
pub(super) fn network(protocol: ProtocolFeatures) -> Kind {
    let own = mask(net::feature::MTU) | mask(net::feature::MAC) | mask(net::feature::CTRL_VQ);
    let features = Kind::default().features | own;
    let config = net::Config { mtu: 1400, ..net::Config::default() }.to_bytes().to_vec();
    Kind { features, protocol, config, ..Kind::default() }
}
