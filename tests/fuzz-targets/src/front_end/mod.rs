//! What a back-end answers, and asks, as input of the VMM's front-end; with a driver that does
//! what the transport lets drivers do.

mod deed;
mod peer;

use std::os::unix::net::UnixStream;
use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use front_end::{Config, FrontEnd, Region, Rehearsal};
use hypervisor::GuestAddress;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use virtio_pci::{Device, Event, Queue, Start};
use virtio_spec::features::{RING_PACKED, VERSION_1, mask};
use virtio_spec::{DeviceType, Negotiated};

use deed::{Deed, Driver};
use peer::Peer;

/// Bytes of guest memory.
const MEMORY: u64 = 1 << 20;
/// The most deeds in one input.
const MOST: usize = 40;
/// The most queues that the driver uses.
const QUEUES: u16 = 4;

/// One input.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let device_type = [DeviceType::BLOCK, DeviceType::NET, DeviceType(42)];
    let kind = u8::arbitrary(&mut input).unwrap_or(0);
    let mut stand = Stand::new(device_type[usize::from(kind) % device_type.len()]);
    for _ in 0..MOST {
        let Ok(deed) = Deed::arbitrary(&mut input) else { break };
        stand.happen(deed);
        stand.check();
    }
    stand.end();
}

/// A device, its back-end's place, and its driver.
struct Stand {
    rehearsal: Rehearsal,
    device: FrontEnd,
    peer: Option<Peer>,
    events: Vec<[Arc<Event>; 2]>,
    /// The driver has set DRIVER_OK.
    live: bool,
    /// The queues that the driver has handed over.
    queues: Vec<u16>,
    /// What was read of the configuration space, with its version.
    read: Option<(u64, [u8; 64])>,
}

impl Stand {
    fn new(device_type: DeviceType) -> Self {
        let file = memfd_create("guest", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, MEMORY).unwrap();
        let (guest_addr, user_addr, offset) = (0, 0x7000_0000_0000, 0);
        let region = Region { guest_addr, size: MEMORY, user_addr, file: Arc::new(file), offset };
        let config = Config::new("fuzz", device_type);
        let (rehearsal, device) = Rehearsal::new(config, vec![region]).unwrap();
        let event = || Arc::new(Event::new().unwrap());
        let events = (0..QUEUES).map(|_| [event(), event()]).collect();
        Self { rehearsal, device, peer: None, events, live: false, queues: Vec::new(), read: None }
    }

    fn happen(&mut self, deed: Deed) {
        if self.peer.is_none() {
            let (ours, theirs) = UnixStream::pair().unwrap();
            self.rehearsal.connect(ours.into()).unwrap();
            self.peer = Some(Peer::new(theirs.into()));
        }
        let peer = self.peer.as_mut().unwrap();
        match deed {
            Deed::Proper(count) => {
                for _ in 0..count % 32 {
                    self.turn();
                    match &mut self.peer {
                        Some(peer) => peer.answer(None),
                        None => break,
                    }
                }
            }
            Deed::Twisted(twist) => {
                self.turn();
                if let Some(peer) = &mut self.peer {
                    peer.answer(Some(&twist));
                }
            }
            Deed::Message(message) => peer.send(message.frame()),
            Deed::Bytes(bytes) => peer.bytes(&bytes),
            Deed::Request(message) => peer.request(message.map(|message| message.frame())),
            Deed::Cut => self.peer = None,
            Deed::Driver(call) => self.drive(call),
        }
        self.turn();
    }

    fn turn(&mut self) {
        if self.rehearsal.turn().is_err() {
            self.peer = None;
        }
    }

    /// What the transport lets a driver do at this moment.
    fn drive(&mut self, call: Driver) {
        match call {
            Driver::Start { packed, queues, at } if !self.live && self.device.is_reset() => {
                let packed = if packed { mask(RING_PACKED) } else { 0 };
                let bits = self.device.offered().bits() & (packed | !mask(RING_PACKED));
                let features = Negotiated::assume(bits | mask(VERSION_1));
                if !self.device.accept_features(features) {
                    return;
                }
                let count = self.device.queues().min(QUEUES);
                self.queues = (0..count).filter(|queue| queues & (1 << queue) != 0).collect();
                let queues = self.queues.iter().map(|queue| self.queue(*queue, at)).collect();
                self.device.start(Start { features, queues });
                self.live = true;
            }
            Driver::StartQueue { queue, at } => {
                let queue = u16::from(queue) % QUEUES;
                let free = !self.queues.contains(&queue) && self.device.queue_is_reset(queue);
                if self.live && free && queue < self.device.queues() {
                    self.device.start_queue(self.queue(queue, at));
                    self.queues.push(queue);
                }
            }
            Driver::ResetQueue(queue) => {
                let queue = u16::from(queue) % QUEUES;
                if self.queues.contains(&queue) {
                    self.device.reset_queue(queue);
                    self.queues.retain(|there| *there != queue);
                }
            }
            Driver::Reset => {
                self.device.reset();
                self.live = false;
                self.queues.clear();
            }
            Driver::Write(offset, data) => self.device.write_config(offset, &data),
            Driver::Pause(true) => self.device.quiesce(),
            Driver::Pause(false) => self.device.resume(),
            Driver::Announce => self.device.announce([2, 0, 0, 0, 0, 1]),
            Driver::Start { .. } => {}
        }
    }

    /// A queue anywhere, also outside of memory.
    fn queue(&self, index: u16, at: u16) -> Queue {
        let page = |n: u64| GuestAddress(u64::from(at) * 64 + n * 4096);
        let [kick, call] = self.events[usize::from(index)].clone();
        Queue { index, size: 64, desc: page(0), driver: page(1), device: page(2), kick, call }
    }

    /// What must hold at any time.
    fn check(&mut self) {
        assert!(self.device.queues() <= 256);
        assert!(self.device.config_size() <= 256);
        let mut bytes = [0; 64];
        let version = self.device.read_config(0, &mut bytes);
        if let Some((before, content)) = self.read {
            assert!(before != version || content == bytes, "another content, the same version");
        }
        self.read = Some((version, bytes));
        serde_json::to_string(&self.device.report()).unwrap();
    }

    /// Without a back-end nobody touches a ring: a reset is over at once.
    fn end(mut self) {
        if self.peer.take().is_some() {
            while self.rehearsal.turn().is_ok() {}
        }
        self.device.reset();
        assert!(self.device.is_reset());
        assert!((0..QUEUES).all(|queue| self.device.queue_is_reset(queue)));
        assert!(self.events.iter().flatten().all(|event| Arc::strong_count(event) <= 2));
    }
}
