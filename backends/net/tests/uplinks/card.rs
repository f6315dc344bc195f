//! A driver with one queue pair of a card.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use driver::RingEvents;
use driver::{Buffer, Deadline, FrontEnd, Memory, Negotiation, Notifier, Placement, Queue, Token};
use virtio_spec::DeviceType;
use virtio_spec::features::{EVENT_IDX, Negotiated, mask};
use virtio_spec::net::Header;

pub(crate) const LONG: Duration = Duration::from_secs(10);
pub(crate) const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 5];

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

/// A driver.
pub(crate) struct Card {
    /// The connection, which lasts as long as the driver.
    _front_end: FrontEnd,
    pub(crate) negotiated: Negotiated,
    memory: Memory,
    queues: [Queue; 2],
    events: [RingEvents; 2],
    posted: HashMap<Token, Buffer>,
    sending: HashMap<Token, Buffer>,
}

impl Card {
    /// Connects, negotiates these feature bits, and starts both rings; nothing can be received yet.
    pub(crate) fn connect(socket: &Path, bits: &[u32]) -> Self {
        let memory = Memory::new(32 << 20).unwrap();
        let front_end = FrontEnd::connect(socket, &memory).unwrap();
        let mut front_end = front_end.of_device(DeviceType::NET);
        let bits = bits.iter().chain(&[EVENT_IDX]).map(|bit| mask(*bit)).sum();
        let negotiated = front_end.negotiate(&Negotiation::new(bits)).unwrap();
        front_end.share_memory().unwrap();
        let mut start = |index| {
            let queue = Queue::new(&memory, 256, negotiated).unwrap();
            let events = front_end.start_ring(index, &queue, queue.reaped_base()).unwrap();
            (queue, events)
        };
        let (receive, transmit) = (start(0), start(1));
        Card {
            _front_end: front_end,
            negotiated,
            memory,
            queues: [receive.0, transmit.0],
            events: [receive.1, transmit.1],
            posted: HashMap::new(),
            sending: HashMap::new(),
        }
    }

    /// Posts so many buffers of this size.
    pub(crate) fn post(&mut self, count: usize, size: usize) {
        for _ in 0..count {
            let buffer = self.memory.alloc(size).unwrap();
            let queue = &mut self.queues[RECEIVE];
            let token = queue.add(&[buffer.writable()], Placement::Direct).unwrap();
            self.posted.insert(token, buffer);
        }
        self.queues[RECEIVE].publish();
        self.events[RECEIVE].kick().unwrap();
    }

    /// Puts a frame into the transmitting ring, behind a header.
    pub(crate) fn submit_with(&mut self, header: &Header, frame: &[u8]) {
        let packet = [&header.to_bytes()[..], frame].concat();
        let buffer = self.memory.alloc_with(&packet).unwrap();
        let queue = &mut self.queues[TRANSMIT];
        let token = queue.add(&[buffer.readable()], Placement::Direct).unwrap();
        self.sending.insert(token, buffer);
        queue.publish();
    }

    /// Sends frames, as many at once as the ring holds, and waits until all were taken.
    pub(crate) fn send(&mut self, frames: &[Vec<u8>]) {
        for frame in frames {
            self.reap_sent();
            while self.sending.len() >= 250 {
                self.events[TRANSMIT].kick().unwrap();
                assert!(self.wait_sent(LONG));
            }
            self.submit_with(&Header::default(), frame);
        }
        self.kick();
        while !self.sending.is_empty() {
            assert!(self.wait_sent(LONG), "{} frames are not taken", self.sending.len());
        }
    }

    pub(crate) fn kick(&mut self) {
        self.events[TRANSMIT].kick().unwrap();
    }

    /// Frames that were not taken yet.
    pub(crate) fn unsent(&mut self) -> usize {
        self.reap_sent();
        self.sending.len()
    }

    fn reap_sent(&mut self) {
        while let Some(used) = self.queues[TRANSMIT].reap().unwrap() {
            self.sending.remove(&used.token).unwrap();
        }
    }

    /// Waits until some were taken.
    fn wait_sent(&mut self, limit: Duration) -> bool {
        let before = self.sending.len();
        self.reap_sent();
        if self.sending.len() == before && !self.queues[TRANSMIT].enable_calls() {
            let called = self.events[TRANSMIT].wait(Deadline::after(limit)).unwrap();
            self.reap_sent();
            return called;
        }
        self.reap_sent();
        true
    }

    /// The next packet, whose chains are posted again: header and frame.
    pub(crate) fn receive(&mut self, limit: Duration) -> Option<(Header, Vec<u8>)> {
        let mut packet = self.take(limit)?;
        let header = Header::from_prefix(&packet).unwrap();
        for _ in 1..header.num_buffers {
            packet.extend(self.take(LONG).unwrap());
        }
        Some((header, packet.split_off(Header::SIZE)))
    }

    fn take(&mut self, limit: Duration) -> Option<Vec<u8>> {
        let deadline = Deadline::after(limit);
        loop {
            if let Some(used) = self.queues[RECEIVE].reap().unwrap() {
                let buffer = self.posted.remove(&used.token).unwrap();
                let mut bytes = buffer.to_vec();
                let size = bytes.len();
                bytes.truncate(used.written as usize);
                self.post(1, size);
                return Some(bytes);
            }
            if !self.queues[RECEIVE].enable_calls()
                && !self.events[RECEIVE].wait(deadline).unwrap()
                && !self.queues[RECEIVE].has_used()
            {
                return None;
            }
        }
    }
}

/// A frame of this length, the rest of which depends on `number`.
pub(crate) fn frame(number: usize, length: usize) -> Vec<u8> {
    let head = [&[0xff; 6][..], &MAC, &[0x88, 0xb5]].concat();
    let body = (0..length.saturating_sub(head.len())).map(|n| (n * 7 + number).to_le_bytes()[0]);
    head.iter().copied().chain(body).take(length).collect()
}
