//! A guest with one network card: its driver, and the workers that serve it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use driver::{Buffer, Memory, Part, Placement, Queue, RegionSpec, Token};
use framework::device::Device;
use framework::engine::{Faults, FileIndex, Outside, Simulated, SimulatedDisk};
use framework::memory::{GuestAddress, MemoryTable, Region, UserAddress};
use framework::ring::Call;
use framework::stats::QueueStats;
use framework::worker::{Answer, Command, PollWindow, RingSetup, Worker};
use outrigger_net::device::{NetDevice, Settings};
use outrigger_net::filter::Mac;
use outrigger_net::service::NetService;
use outrigger_net::uplink::Uplink;
use outrigger_net::uplink::tap::Tap;
use serde_json::Value;
use virtio_spec::features::{
    EVENT_IDX, IN_ORDER, INDIRECT_DESC, Negotiated, RING_PACKED, VERSION_1, mask,
};
use virtio_spec::net::control::{ACK_OK, Command as Kind};
use virtio_spec::net::{CTRL_VQ, HASH_REPORT, Header, MQ, MRG_RXBUF, MTU};

/// The card's own address.
pub(crate) const MAC: Mac = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
/// The uplink of the first pair.
const UPLINK: FileIndex = FileIndex(0);
/// The queues of the first pair.
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

/// What the card is like.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) features: u64,
    pub(crate) queue_size: u16,
    pub(crate) pairs: u16,
    pub(crate) mtu: u16,
    pub(crate) placement: Placement,
}

impl Setup {
    pub(crate) fn with(bits: &[u32]) -> Self {
        let always = [VERSION_1, INDIRECT_DESC, EVENT_IDX];
        let features = always.iter().chain(bits).map(|bit| mask(*bit)).sum();
        Setup { features, queue_size: 64, pairs: 1, mtu: 1500, placement: Placement::Direct }
    }

    /// Each way to lay out rings and chains: split and packed, in order or not, indirect or not, with
    /// mergeable buffers and without.
    pub(crate) fn each(bits: &[u32]) -> Vec<Self> {
        let mut setups = Vec::new();
        for more in 0..8_u32 {
            for placement in [Placement::Direct, Placement::Indirect] {
                let mut setup = Setup::with(bits);
                for (n, bit) in [RING_PACKED, IN_ORDER, MRG_RXBUF].into_iter().enumerate() {
                    setup.features |= mask(bit) * u64::from(more >> n & 1);
                }
                setups.push(Setup { placement, ..setup });
            }
        }
        setups
    }

    pub(crate) fn has(&self, bit: u32) -> bool {
        self.features & mask(bit) != 0
    }

    pub(crate) fn start(self) -> Guest {
        Guest::start(self)
    }
}

/// A worker with its queues as the driver has them.
struct Side {
    worker: Worker<NetService, Simulated>,
    outside: Outside,
    queues: Vec<Queue>,
    calls: Vec<Arc<AtomicU64>>,
}

/// A guest with its card.
pub(crate) struct Guest {
    pub(crate) setup: Setup,
    pub(crate) device: NetDevice,
    pub(crate) memory: Memory,
    pub(crate) answers: Arc<Mutex<Vec<Answer>>>,
    sides: Vec<Side>,
    posted: HashMap<Token, Vec<Buffer>>,
    kept: Vec<Buffer>,
}

/// A packet that the driver was given.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) header: Vec<u8>,
    pub(crate) frame: Vec<u8>,
    pub(crate) chains: usize,
}

impl Received {
    pub(crate) fn header(&self) -> Header {
        Header::from_prefix(&self.header).unwrap()
    }
}

impl Guest {
    fn start(setup: Setup) -> Self {
        let uplink = Uplink::Tap(Tap::imaginary());
        let settings = Settings {
            mac: Some(MAC),
            mtu: setup.has(MTU).then_some(setup.mtu),
            pairs: setup.pairs,
            queue_size: 1024,
            offloads: true,
            ctrl_vq: setup.has(CTRL_VQ),
        };
        let mut device = NetDevice::new(uplink, settings);
        device.negotiated(Negotiated::assume(setup.features));
        let regions = [RegionSpec::new(1 << 20, 64 << 20), RegionSpec::new(1 << 32, 1 << 20)];
        let memory = Memory::with_regions(&regions).unwrap();
        let answers = Arc::default();
        let (posted, kept) = (HashMap::new(), Vec::new());
        let mut guest = Guest { setup, device, memory, answers, sides: Vec::new(), posted, kept };
        for pair in 0..setup.pairs {
            guest.add_side(pair, &[2 * pair, 2 * pair + 1]);
        }
        if setup.has(CTRL_VQ) {
            let control = if setup.has(MQ) { 2 * setup.pairs } else { 2 };
            guest.add_side(control / 2, &[control]);
        }
        guest
    }

    fn add_side(&mut self, number: u16, indexes: &[u16]) {
        let disk = SimulatedDisk::new(512);
        let engine = Simulated::new(1, Faults::none(), 2, vec![disk]);
        let outside = engine.outside();
        let tell = Arc::clone(&self.answers);
        let worker = Worker::new(
            self.device.service(number).unwrap().service,
            engine,
            indexes.iter().map(|index| (*index, QueueStats::new())).collect(),
            PollWindow::Fixed(Duration::ZERO),
            Box::new(move |answer| tell.lock().unwrap().push(answer)),
        );
        let features = Negotiated::assume(self.setup.features);
        let size = self.setup.queue_size;
        let queues = indexes.iter().map(|_| Queue::new(&self.memory, size, features).unwrap());
        let calls = indexes.iter().map(|_| Arc::default()).collect();
        let mut side = Side { worker, outside, queues: queues.collect(), calls };
        for (index, (queue, call)) in indexes.iter().zip(side.queues.iter().zip(&side.calls)) {
            let setup = self.ring_setup(*index, queue, Call::Counter(Arc::clone(call)));
            side.worker.command(Command::Start(Box::new(setup)));
        }
        self.sides.push(side);
        for answer in self.answers.lock().unwrap().drain(..) {
            assert!(matches!(answer, Answer::Started { result: Ok(()), .. }), "{answer:?}");
        }
    }

    fn ring_setup(&self, index: u16, queue: &Queue, call: Call) -> RingSetup {
        let addresses = queue.addresses();
        let user = |addr| UserAddress(self.memory.user_addr(addr, 1).unwrap());
        RingSetup {
            queue: index,
            size: queue.size(),
            features: Negotiated::assume(self.setup.features),
            descriptors: user(addresses.descriptor),
            driver: user(addresses.driver),
            device: user(addresses.device),
            base: queue.reaped_base(),
            memory: Arc::new(self.memory_table()),
            log: None,
            used_log: None,
            in_flight: None,
            kick: None,
            call,
            error: None,
            enabled: true,
            serve_disabled: self.device.serves_disabled(index),
        }
    }

    fn memory_table(&self) -> MemoryTable {
        let regions = self.memory.regions().into_iter().map(|region| {
            let file = self.memory.file(region.guest_addr).unwrap();
            let (guest, user) = (GuestAddress(region.guest_addr), UserAddress(region.user_addr));
            Region::map(guest, user, region.size, file, region.mmap_offset).unwrap()
        });
        MemoryTable::new(regions.collect()).unwrap()
    }

    /// Lets every worker work for some turns.
    pub(crate) fn run(&mut self) {
        for _ in 0..4 {
            for side in &mut self.sides {
                side.worker.turn();
            }
        }
    }

    /// Tells the workers that there is something for them, as the framework does.
    pub(crate) fn nudge(&mut self) {
        self.device.rung();
        self.command(0, Command::Nudge);
        self.run();
    }

    pub(crate) fn command(&mut self, side: usize, command: Command) {
        self.sides[side].worker.command(command);
    }

    pub(crate) fn queue(&mut self, side: usize, queue: usize) -> &mut Queue {
        &mut self.sides[side].queues[queue]
    }

    /// Lets the user set the link up or down.
    pub(crate) fn link(&mut self, state: &str) {
        let arguments = serde_json::json!({ "state": state });
        self.device.control("link", &arguments, Vec::new()).unwrap().unwrap();
        self.nudge();
    }

    /// How often the driver was called for the receiving queue.
    pub(crate) fn receive_calls(&self) -> u64 {
        self.sides[0].calls[RECEIVE].load(Ordering::Acquire)
    }

    /// Lets the first pair's worker work for one turn.
    pub(crate) fn turn(&mut self) {
        self.sides[0].worker.turn();
    }

    /// Lets packets arrive: headers of the uplink, each with its frame.
    pub(crate) fn arrive(&mut self, header: Header, frame: &[u8]) {
        let mut packet = header.to_bytes().to_vec();
        packet.resize(self.header_len(), 0);
        packet.extend(frame);
        self.sides[0].outside.arrive(UPLINK, packet);
    }

    /// Lets a frame arrive that asks for nothing, and gives what the driver is given.
    pub(crate) fn receive(&mut self, frame: &[u8]) -> Option<Received> {
        self.arrive(Header::default(), frame);
        self.nudge();
        self.next_received()
    }

    pub(crate) fn header_len(&self) -> usize {
        if self.setup.has(HASH_REPORT) { 20 } else { 12 }
    }

    /// Posts a chain of these sizes to receive into.
    pub(crate) fn post(&mut self, sizes: &[usize]) {
        let buffers: Vec<Buffer> =
            sizes.iter().map(|size| self.memory.alloc(*size).unwrap()).collect();
        let parts: Vec<Part> = buffers.iter().map(Buffer::writable).collect();
        let placement = self.setup.placement;
        let token = self.queue(0, RECEIVE).add(&parts, placement).unwrap();
        self.queue(0, RECEIVE).publish();
        self.posted.insert(token, buffers);
    }

    /// The next packet that the driver was given: as many chains as its header says.
    pub(crate) fn next_received(&mut self) -> Option<Received> {
        let (mut bytes, mut chains, mut expected) = (Vec::new(), 0, 1);
        while chains < expected {
            let Some(used) = self.queue(0, RECEIVE).reap().unwrap() else {
                assert_eq!(chains, 0, "the chains of a packet are used together");
                return None;
            };
            let buffers = self.posted.remove(&used.token).unwrap();
            let mut chain: Vec<u8> = buffers.iter().flat_map(|buffer| buffer.to_vec()).collect();
            let room = chain.len();
            chain.truncate(used.written as usize);
            bytes.extend(chain);
            chains += 1;
            if bytes.len() >= 12 {
                expected = usize::from(Header::from_prefix(&bytes).unwrap().num_buffers);
            }
            let filled = used.written as usize == room;
            assert!(filled || chains == expected, "only the last chain is not filled");
        }
        let frame = bytes.split_off(self.header_len());
        Some(Received { header: bytes, frame, chains })
    }

    /// Sends a header and a frame, cut into chains of these sizes; the last takes the rest.
    pub(crate) fn transmit(&mut self, header: &[u8], frame: &[u8], cuts: &[usize]) {
        let packet = [header, frame].concat();
        self.transmit_bytes(&packet, cuts);
    }

    /// The same of bytes that are perhaps no packet.
    pub(crate) fn transmit_bytes(&mut self, packet: &[u8], cuts: &[usize]) {
        let mut rest = packet;
        let mut buffers = Vec::new();
        for cut in cuts {
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            buffers.push(self.memory.alloc_with(piece).unwrap());
            rest = after;
        }
        if !rest.is_empty() {
            buffers.push(self.memory.alloc_with(rest).unwrap());
        }
        let parts: Vec<Part> = buffers.iter().map(Buffer::readable).collect();
        self.transmit_parts(&parts);
        self.kept = buffers;
    }

    /// The same of a chain as it is.
    pub(crate) fn transmit_parts(&mut self, parts: &[Part]) {
        let placement = self.setup.placement;
        self.queue(0, TRANSMIT).add(parts, placement).unwrap();
        self.queue(0, TRANSMIT).publish();
        self.run();
        let used = self.queue(0, TRANSMIT).reap().unwrap().unwrap();
        assert_eq!(used.written, 0, "nothing is written into what is transmitted");
    }

    /// What has gone out since the last call: headers with their frames.
    pub(crate) fn sent(&mut self) -> Vec<Vec<u8>> {
        let sent = self.sides[0].outside.take_sent();
        sent.into_iter().map(|(_, packet)| packet).collect()
    }

    /// Sends a command, cut into pieces of these sizes; gives the bytes of the answer.
    pub(crate) fn ask(&mut self, bytes: &[u8], cuts: &[usize], answer: &[usize]) -> Vec<u8> {
        let control = self.sides.len() - 1;
        let mut rest = bytes;
        let mut readable = Vec::new();
        for cut in cuts {
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            readable.push(self.memory.alloc_with(piece).unwrap());
            rest = after;
        }
        if !rest.is_empty() {
            readable.push(self.memory.alloc_with(rest).unwrap());
        }
        let writable: Vec<Buffer> =
            answer.iter().map(|size| self.memory.alloc_with(&vec![0xee; *size]).unwrap()).collect();
        let parts = readable.iter().map(Buffer::readable);
        let parts: Vec<Part> = parts.chain(writable.iter().map(Buffer::writable)).collect();
        let placement = self.setup.placement;
        self.queue(control, 0).add(&parts, placement).unwrap();
        self.queue(control, 0).publish();
        self.run();
        let used = self.queue(control, 0).reap().unwrap().unwrap();
        let mut bytes: Vec<u8> = writable.iter().flat_map(|buffer| buffer.to_vec()).collect();
        bytes.truncate(used.written as usize);
        self.nudge();
        bytes
    }

    /// Sends a command, and lets nobody but the control queue's worker work.
    pub(crate) fn ask_control(&mut self, bytes: &[u8]) {
        let control = self.sides.len() - 1;
        let (asked, answer) =
            (self.memory.alloc_with(bytes).unwrap(), self.memory.alloc(1).unwrap());
        let parts = [asked.readable(), answer.writable()];
        self.queue(control, 0).add(&parts, Placement::Direct).unwrap();
        self.queue(control, 0).publish();
        for _ in 0..4 {
            self.sides[control].worker.turn();
        }
        assert_eq!(answer.to_vec(), [ACK_OK]);
    }

    /// Sends a command in the usual shape; gives its acknowledgement.
    pub(crate) fn command_ack(&mut self, kind: Kind, data: &[u8]) -> u8 {
        let bytes = [&kind.header().to_bytes()[..], data].concat();
        self.ask(&bytes, &[2], &[1])[0]
    }

    /// The same, and it is to be acknowledged.
    pub(crate) fn set(&mut self, kind: Kind, data: &[u8]) {
        assert_eq!(self.command_ack(kind, data), ACK_OK, "{kind:?}");
    }

    /// A number of `stats`.
    pub(crate) fn stat(&self, name: &str) -> u64 {
        self.device.stats().get(name).and_then(Value::as_u64).unwrap()
    }

    /// Whether `stats` says that frames are filtered.
    pub(crate) fn device_filters(&self) -> Option<bool> {
        self.device.stats().get("filtering").and_then(Value::as_bool)
    }

    /// The card still sends and receives.
    pub(crate) fn assert_alive(&mut self) {
        self.sent();
        let length = self.header_len();
        self.transmit(&vec![0; length], &frame(60), &[length]);
        assert_eq!(self.sent().len(), 1);
        self.post(&[2048]);
        assert_eq!(self.receive(&frame(60)).unwrap().frame, frame(60));
    }
}

/// A frame for the card, of so many bytes.
pub(crate) fn frame(length: usize) -> Vec<u8> {
    let start = [&MAC[..], &[2, 0, 0, 0, 0, 9, 8, 0]].concat();
    start.into_iter().chain((0..=255).cycle()).take(length).collect()
}

/// The same for another address.
pub(crate) fn frame_to(to: Mac) -> Vec<u8> {
    [&to[..], &frame(60)[6..]].concat()
}
