//! A driver with two queue pairs and a control queue.

use std::path::Path;

use driver::{Deadline, FrontEnd, Memory, Negotiation, Notifier, Placement, Queue, RingEvents};
use virtio_spec::features::{EVENT_IDX, mask};
use virtio_spec::net::control::Command;
use virtio_spec::{DeviceType, net};

use crate::card::LONG;

/// The control queue behind two pairs.
const CONTROL: usize = 4;

/// A driver.
pub(crate) struct Driver {
    _front_end: FrontEnd,
    memory: Memory,
    rings: Vec<(Queue, RingEvents)>,
    posted: Vec<driver::Buffer>,
}

impl Driver {
    /// Connects with these feature bits and a control queue, starts all rings, and posts buffers to receive into.
    pub(crate) fn connect(socket: &Path, bits: &[u32]) -> Self {
        let memory = Memory::new(32 << 20).unwrap();
        let mut front_end = FrontEnd::connect(socket, &memory).unwrap().of_device(DeviceType::NET);
        let bits = bits.iter().chain(&[net::CTRL_VQ, EVENT_IDX]).map(|bit| mask(*bit)).sum();
        let negotiated = front_end.negotiate(&Negotiation::new(bits)).unwrap();
        front_end.share_memory().unwrap();
        let mut start = |index| {
            let queue = Queue::new(&memory, 256, negotiated).unwrap();
            let events = front_end.start_ring(index, &queue, queue.reaped_base()).unwrap();
            (queue, events)
        };
        let rings = (0..=4).map(&mut start).collect();
        let mut driver = Driver { _front_end: front_end, memory, rings, posted: Vec::new() };
        for queue in [0, 2] {
            for _ in 0..200 {
                let buffer = driver.memory.alloc(2048).unwrap();
                let (ring, _) = &mut driver.rings[queue];
                ring.add(&[buffer.writable()], Placement::Direct).unwrap();
                driver.posted.push(buffer);
            }
            driver.publish(queue);
        }
        driver
    }

    fn publish(&mut self, queue: usize) {
        let (ring, events) = &mut self.rings[queue];
        ring.publish();
        events.kick().unwrap();
    }

    /// Sends a command; gives its acknowledgement.
    pub(crate) fn command(&mut self, command: Command, data: &[u8]) -> u8 {
        let bytes = [&command.header().to_bytes()[..], data].concat();
        let (asked, answer) =
            (self.memory.alloc_with(&bytes).unwrap(), self.memory.alloc(1).unwrap());
        let parts = [asked.readable(), answer.writable()];
        self.rings[CONTROL].0.add(&parts, Placement::Direct).unwrap();
        self.publish(CONTROL);
        let (ring, events) = &mut self.rings[CONTROL];
        let used = loop {
            if let Some(used) = ring.reap().unwrap() {
                break used;
            }
            // A call may be one of before.
            assert!(ring.enable_calls() || events.wait(Deadline::after(LONG)).unwrap());
        };
        assert_eq!(used.written, 1);
        answer.to_vec()[0]
    }

    /// How many datagrams have come by each pair since the last call.
    pub(crate) fn datagrams(&mut self) -> [usize; 2] {
        [0, 2].map(|queue| {
            let mut count = 0;
            while let Some(used) = self.rings[queue].0.reap().unwrap() {
                // Chains are used in the order in which they were posted, each once.
                let half = queue * 100 + usize::from(used.token.0);
                let bytes = self.posted[half].to_vec();
                count += usize::from(bytes[..used.written as usize].ends_with(b"datagram"));
            }
            count
        })
    }
}
