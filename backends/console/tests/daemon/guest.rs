//! A driver of consoles that does no more than it is told.

use std::collections::{BTreeMap, VecDeque};

use driver::{
    Buffer, Deadline, FrontEnd, Memory, Negotiation, Notifier, Placement, Queue, RingEvents, Token,
};
use virtio_spec::console::{
    CONTROL_RECEIVE_QUEUE, CONTROL_TRANSMIT_QUEUE, Control, ControlEvent, MULTIPORT, receive_queue,
};
use virtio_spec::features::{EVENT_IDX, INDIRECT_DESC, RING_PACKED, mask};

use crate::process::{Daemon, MOMENT};

/// The size of each queue, and of each buffer that is offered.
const SIZE: u16 = 64;
pub(crate) const BUFFER: usize = 4096;

/// A queue with its buffers.
pub(crate) struct Line {
    pub(crate) queue: Queue,
    pub(crate) events: RingEvents,
    buffers: BTreeMap<Token, Buffer>,
    /// Chains that the device used, with what it wrote, not looked at yet.
    used: VecDeque<Vec<u8>>,
}

/// A guest with a console of several ports.
pub(crate) struct Guest {
    pub(crate) front_end: FrontEnd,
    pub(crate) memory: Memory,
    lines: BTreeMap<u16, Line>,
}

impl Line {
    fn reap(&mut self) -> bool {
        let mut any = false;
        while let Some(used) = self.queue.reap().unwrap() {
            let buffer = self.buffers.remove(&used.token).unwrap();
            let mut bytes = vec![0; (used.written as usize).min(buffer.len())];
            buffer.read(0, &mut bytes);
            self.used.push_back(bytes);
            any = true;
        }
        any
    }

    fn publish(&mut self) {
        if self.queue.publish() {
            self.events.kick().unwrap();
        }
    }

    /// Offers a buffer of so many bytes.
    pub(crate) fn offer(&mut self, memory: &Memory, size: usize) {
        let buffer = memory.alloc(size).unwrap();
        let token = self.queue.add(&[buffer.writable()], Placement::Direct).unwrap();
        self.buffers.insert(token, buffer);
        self.publish();
    }

    /// Puts bytes into the queue. They may not have been used yet.
    pub(crate) fn put(&mut self, memory: &Memory, bytes: &[u8]) {
        let buffer = memory.alloc_with(bytes).unwrap();
        let token = self.queue.add(&[buffer.readable()], Placement::Direct).unwrap();
        self.buffers.insert(token, buffer);
        self.publish();
    }

    /// Waits for the device to use a chain, and gives what it wrote.
    pub(crate) fn used(&mut self, deadline: Deadline) -> Option<Vec<u8>> {
        loop {
            if let Some(bytes) = self.used.pop_front() {
                return Some(bytes);
            }
            if self.reap() || self.queue.enable_calls() {
                continue;
            }
            if deadline.is_past() {
                return None;
            }
            self.events.wait(deadline).unwrap();
        }
    }
}

/// A daemon, and a guest that has set these ports up, opened them and has buffers for their input.
pub(crate) fn scene(arguments: &[&str], ports: &[u16]) -> (Daemon, Guest) {
    let daemon = Daemon::start(arguments);
    let mut guest = Guest::connect(&daemon, ports);
    guest.set_up(ports);
    ports.iter().for_each(|port| guest.listen(*port, 8));
    (daemon, guest)
}

impl Guest {
    /// Connects, and starts the queues of these ports, and the control queues.
    pub(crate) fn connect(daemon: &Daemon, ports: &[u16]) -> Self {
        Self::connect_with(daemon, ports, 0)
    }

    /// The same with packed rings, if they are offered.
    pub(crate) fn connect_packed(daemon: &Daemon, ports: &[u16]) -> Self {
        Self::connect_with(daemon, ports, mask(RING_PACKED))
    }

    fn connect_with(daemon: &Daemon, ports: &[u16], more: u64) -> Self {
        let memory = Memory::new(16 << 20).unwrap();
        let socket = daemon.connect("console.sock");
        let mut front_end = FrontEnd::new(socket, &memory);
        let wanted = [MULTIPORT, EVENT_IDX, INDIRECT_DESC].map(mask).iter().sum::<u64>() | more;
        front_end.negotiate(&Negotiation::new(wanted)).unwrap();
        front_end.share_memory().unwrap();
        front_end.open_back_channel().unwrap();
        front_end.set_up_inflight(18, SIZE).unwrap();
        let mut guest = Guest { front_end, memory, lines: BTreeMap::new() };
        guest.start(CONTROL_RECEIVE_QUEUE);
        guest.start(CONTROL_TRANSMIT_QUEUE);
        for port in ports {
            guest.start(receive_queue(*port));
            guest.start(receive_queue(*port) + 1);
        }
        for _ in 0..16 {
            guest.offer(CONTROL_RECEIVE_QUEUE, 128);
        }
        guest
    }

    fn start(&mut self, index: u16) {
        let queue = self.front_end.queue(index as u8, SIZE).unwrap();
        let events = self.front_end.start_ring(index as u8, &queue, queue.reaped_base()).unwrap();
        let line = Line { queue, events, buffers: BTreeMap::new(), used: VecDeque::new() };
        self.lines.insert(index, line);
    }

    /// Goes on with another daemon: the same rings, the same chains in them.
    pub(crate) fn reconnect(&mut self, daemon: &Daemon) {
        self.front_end.reconnect(daemon.connect("console.sock")).unwrap();
        for (index, line) in &mut self.lines {
            line.events = self
                .front_end
                .start_ring(*index as u8, &line.queue, line.queue.reaped_base())
                .unwrap();
        }
    }

    /// Stops a queue and starts it again, as when the machine pauses.
    pub(crate) fn pause(&mut self, queue: u16) {
        let base = self.front_end.stop_ring(queue as u8).unwrap();
        let line = self.lines.get_mut(&queue).unwrap();
        line.events = self.front_end.start_ring(queue as u8, &line.queue, base).unwrap();
    }

    pub(crate) fn line(&mut self, queue: u16) -> &mut Line {
        self.lines.get_mut(&queue).unwrap()
    }

    /// Offers a buffer for what the device has to say in a queue.
    pub(crate) fn offer(&mut self, queue: u16, size: usize) {
        let memory = self.memory.clone();
        self.line(queue).offer(&memory, size);
    }

    /// Offers buffers for input of a port.
    pub(crate) fn listen(&mut self, port: u16, buffers: usize) {
        for _ in 0..buffers {
            self.offer(receive_queue(port), BUFFER);
        }
    }

    /// The next buffer with input of a port.
    pub(crate) fn hear(&mut self, port: u16) -> Option<Vec<u8>> {
        self.line(receive_queue(port)).used(Deadline::after(MOMENT))
    }

    /// Writes to a port, and waits until that is taken.
    pub(crate) fn write(&mut self, port: u16, bytes: &[u8]) {
        self.put(port, bytes);
        let line = self.line(receive_queue(port) + 1);
        // What was put there before is taken first.
        while line.queue.in_flight() > 0 {
            let taken = line.used(Deadline::after(MOMENT));
            assert!(taken.is_some(), "nobody takes what the guest writes");
        }
        line.used.clear();
    }

    /// Writes to a port without waiting.
    pub(crate) fn put(&mut self, port: u16, bytes: &[u8]) {
        let memory = self.memory.clone();
        self.line(receive_queue(port) + 1).put(&memory, bytes);
    }

    /// Writes to a port as soon as the queue has room.
    pub(crate) fn queue(&mut self, port: u16, bytes: &[u8]) {
        self.await_room(port, SIZE.into());
        self.put(port, bytes);
    }

    /// Waits until all that was written to a port is taken.
    pub(crate) fn drain(&mut self, port: u16) {
        self.await_room(port, 1);
    }

    /// Waits until fewer than so many chains that were written to a port are not taken yet.
    fn await_room(&mut self, port: u16, chains: usize) {
        let line = self.line(receive_queue(port) + 1);
        while line.queue.in_flight() >= chains {
            let taken = line.used(Deadline::after(MOMENT));
            assert!(taken.is_some(), "nobody takes what the guest writes");
        }
    }

    /// Whether a chain that was written to a port is taken within this time.
    pub(crate) fn taken(&mut self, port: u16, limit: std::time::Duration) -> bool {
        self.line(receive_queue(port) + 1).used(Deadline::after(limit)).is_some()
    }

    /// Sends a control message and waits until it is taken.
    pub(crate) fn say(&mut self, id: u32, event: ControlEvent, value: u16) {
        let bytes = Control { id, event: event as u16, value }.to_bytes();
        self.say_bytes(&bytes);
    }

    pub(crate) fn say_bytes(&mut self, bytes: &[u8]) {
        let memory = self.memory.clone();
        let line = self.line(CONTROL_TRANSMIT_QUEUE);
        line.put(&memory, bytes);
        assert!(line.used(Deadline::after(MOMENT)).is_some(), "no control message is taken");
    }

    /// The next control message: header and what follows it.
    pub(crate) fn told(&mut self) -> Option<(Control, Vec<u8>)> {
        let line = self.line(CONTROL_RECEIVE_QUEUE);
        let bytes = line.used(Deadline::after(std::time::Duration::from_millis(300)))?;
        self.offer(CONTROL_RECEIVE_QUEUE, 128);
        let (header, rest) = bytes.split_at(Control::SIZE);
        Some((Control::from_bytes(header.try_into().unwrap()), rest.to_vec()))
    }

    /// All control messages that come, each as a line; ports that are added are made ready.
    pub(crate) fn all_told(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        while let Some((control, rest)) = self.told() {
            let event = ControlEvent::from_u16(control.event).unwrap();
            if event == ControlEvent::PortAdd {
                self.say(control.id, ControlEvent::PortReady, 1);
            }
            let rest = match event {
                ControlEvent::PortName => String::from_utf8(rest).unwrap(),
                _ => format!("{}{rest:?}", control.value),
            };
            all.push(format!("{} {event:?} {rest}", control.id));
        }
        all
    }

    /// What a driver does at its start: says that it is there, sets all ports up, opens them.
    pub(crate) fn set_up(&mut self, ports: &[u16]) -> Vec<String> {
        self.say(0, ControlEvent::DeviceReady, 1);
        let told = self.all_told();
        for port in ports {
            self.say((*port).into(), ControlEvent::PortOpen, 1);
        }
        told
    }
}
