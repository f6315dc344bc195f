//! The network card: frames in order, each as it was, and none twice.

use driver::{Buffer, Memory, Part};
use fastrand::Rng;
use framework::device::Device;
use framework::engine::FileIndex;
use outrigger_net::device::{NetDevice, Settings};
use outrigger_net::service::NetService;
use outrigger_net::uplink::Uplink;
use outrigger_net::uplink::tap::Tap;
use virtio_spec::features::Negotiated;
use virtio_spec::net::MRG_RXBUF;

use super::sequence::Sequence;
use super::stand::{Plan, Sent, Stand};
use super::{Scene, some_features};
use crate::Failure;
use crate::scenario::pick;

const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
/// The uplink's file.
const UPLINK: FileIndex = FileIndex(0);
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
/// The header of a packet.
const HEADER: usize = 12;
/// Addresses and type of a frame, and its number.
const NUMBERED: usize = 18;
/// Longer than any frame here, header included.
const BUFFER: usize = 2048;
/// The most frames that wait on the uplink.
const WAITING: u32 = 64;

/// The card, and what crosses it.
pub(super) struct Card {
    features: Negotiated,
    out: Sequence,
    into: Sequence,
    /// Frames that have arrived since the last one was received.
    waiting: u32,
}

impl Scene for Card {
    type Service = NetService;

    fn choose(random: &mut Rng, seed: u64) -> (Self, Plan) {
        let features = some_features(random, &[MRG_RXBUF]);
        let size = *pick(random, &[4, 8, 32]);
        let queues = vec![0, 1];
        let plan = Plan { seed, features, queues, all: 2, size, regions: Vec::new() };
        let card =
            Card { features, out: Sequence::default(), into: Sequence::default(), waiting: 0 };
        (card, plan)
    }

    fn service(&mut self) -> Result<NetService, Failure> {
        let settings = Settings {
            mac: Some(MAC),
            mtu: None,
            pairs: 1,
            queue_size: 1024,
            offloads: true,
            ctrl_vq: false,
        };
        let mut device = NetDevice::new(Uplink::Tap(Tap::imaginary()), settings);
        device.negotiated(self.features);
        let assembly = device.service(0);
        Ok(assembly.map_err(|error| Failure::Simulator(error.to_string()))?.service)
    }

    fn act(
        &mut self,
        stand: &mut Stand<NetService>,
        random: &mut Rng,
    ) -> Result<Option<String>, Failure> {
        match random.u8(..3) {
            0 => self.post(stand, random),
            1 => self.transmit(stand, random),
            _ if self.waiting < WAITING => {
                let (number, length) = (self.into.put(), random.usize(NUMBERED..1500));
                self.waiting += 1;
                let packet = [vec![0; HEADER], frame(number, length)].concat();
                stand.outside.arrive(UPLINK, packet);
                Ok(Some(format!("frame {number} arrives from outside, {length} bytes")))
            }
            _ => Ok(None),
        }
    }

    fn look(&mut self, stand: &mut Stand<NetService>) -> Result<u64, Failure> {
        for (_, packet) in stand.outside.take_sent() {
            let number = number_of("a frame that was sent", packet.get(HEADER..))?;
            self.out.comes("a frame that was sent", number)?;
        }
        let mut back = 0;
        while let Some((sent, _)) = stand.reap(TRANSMIT)? {
            self.out.ended("a frame", sent.number)?;
            back += 1;
        }
        while let Some((sent, used)) = stand.reap(RECEIVE)? {
            let mut packet: Vec<u8> = sent.buffers.iter().flat_map(|b| b.to_vec()).collect();
            packet.truncate(used.written as usize);
            let number = number_of("a frame that was received", packet.get(HEADER..))?;
            self.into.comes("a frame that was received", number)?;
            self.waiting = self.waiting.saturating_sub(1);
            back += 1;
        }
        Ok(back)
    }

    /// The new process has another queue of the interface: what waited in the old one is gone.
    fn killed(&mut self, stand: &Stand<NetService>) {
        self.out.killed(stand.under_way(TRANSMIT));
        self.into.lose_rest();
        self.waiting = 0;
    }

    fn check_end(&mut self, stand: &mut Stand<NetService>) -> Result<(), Failure> {
        let mut random = Rng::with_seed(0);
        for _ in 0..2 * WAITING {
            self.post(stand, &mut random)?;
            stand.turn()?;
            stand.turn()?;
            self.look(stand)?;
        }
        self.out.is_complete("sent frame")?;
        self.into.is_complete("frame for the guest")
    }
}

impl Card {
    /// A buffer to receive into.
    fn post(
        &mut self,
        stand: &mut Stand<NetService>,
        random: &mut Rng,
    ) -> Result<Option<String>, Failure> {
        let cut = random.usize(1..BUFFER);
        let buffers = vec![stand.memory.alloc(cut)?, stand.memory.alloc(BUFFER - cut)?];
        let parts: Vec<Part> = buffers.iter().map(Buffer::writable).collect();
        let sent = Sent { number: 0, buffers };
        let posted = stand.send(RECEIVE, &parts, sent, random)?;
        Ok(posted.then(|| "posts a buffer".into()))
    }

    fn transmit(
        &mut self,
        stand: &mut Stand<NetService>,
        random: &mut Rng,
    ) -> Result<Option<String>, Failure> {
        if stand.free(TRANSMIT) < 2 {
            return Ok(None);
        }
        let (number, length) = (self.out.put(), random.usize(NUMBERED..1500));
        let packet = [vec![0; HEADER], frame(number, length)].concat();
        let buffers = cut(&stand.memory, &packet, random)?;
        let parts: Vec<Part> = buffers.iter().map(Buffer::readable).collect();
        stand.send(TRANSMIT, &parts, Sent { number, buffers }, random)?;
        Ok(Some(format!("sends frame {number}, {length} bytes")))
    }
}

/// Bytes in two buffers.
fn cut(memory: &Memory, bytes: &[u8], random: &mut Rng) -> Result<Vec<Buffer>, Failure> {
    let (first, second) = bytes.split_at(random.usize(1..bytes.len()));
    Ok(vec![memory.alloc_with(first)?, memory.alloc_with(second)?])
}

/// A frame for the card, or from it, that tells its number and is filled with it.
fn frame(number: u32, length: usize) -> Vec<u8> {
    let mut frame = [&MAC[..], &MAC[..], &[0x88, 0xb5], &number.to_le_bytes()].concat();
    frame.resize(length, fill(number));
    frame
}

#[expect(clippy::cast_possible_truncation, reason = "any byte will do that depends on the number")]
fn fill(number: u32) -> u8 {
    number as u8 ^ 0xa5
}

fn number_of(what: &'static str, frame: Option<&[u8]>) -> Result<u32, Failure> {
    let torn = |found: String| Failure::Answer {
        what,
        found,
        expected: "a whole frame of those that were put in".into(),
    };
    let frame = frame.ok_or_else(|| torn("shorter than its header".into()))?;
    let number = frame.get(NUMBERED - 4..NUMBERED).and_then(|bytes| bytes.try_into().ok());
    let number =
        number.map(u32::from_le_bytes).ok_or_else(|| torn("shorter than a frame".into()))?;
    if frame == self::frame(number, frame.len()) {
        Ok(number)
    } else {
        Err(torn(format!("number {number} with bytes of something else")))
    }
}
