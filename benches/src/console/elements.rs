//! Used elements that a byte takes, counted by a driver that looks into the ring and does nothing else.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use driver::{FrontEnd, Memory, Negotiation, Notifier, Placement, Queue, RingEvents, Watch};
use virtio_spec::console::{
    CONTROL_RECEIVE_QUEUE, CONTROL_TRANSMIT_QUEUE, Control, ControlEvent, MULTIPORT, RECEIVE_QUEUE,
    TRANSMIT_QUEUE,
};
use virtio_spec::features::{EVENT_IDX, mask};

use super::server::Server;

/// Entries of each queue, and bytes of each buffer.
const SIZE: u16 = 64;
const BUFFER: usize = 4096;
/// Bytes that are sent at once; a buffer holds them.
pub(super) const BYTES: u16 = 1000;
/// How many buffers the driver writes, each full.
const WRITTEN: u16 = 16;
/// For everything that takes a moment, and when it is certain that nothing more comes.
const PATIENCE: Duration = Duration::from_secs(5);
const QUIET: Duration = Duration::from_millis(100);
/// How often the ring is looked at.
const LOOK: Duration = Duration::from_millis(1);

/// Used elements by bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    pub(super) elements: u16,
    pub(super) bytes: usize,
}

/// What was counted each way.
pub(super) struct Bursts {
    pub(super) to_host: Counted,
    pub(super) to_guest: Counted,
}

/// A driver of one port that never takes anything back: how far a device has got is in the ring.
struct Driver {
    memory: Memory,
    _front_end: FrontEnd,
    queues: BTreeMap<u16, (Queue, RingEvents)>,
}

/// Connects to a back-end, sets its first port up, and sends bytes both ways.
pub(super) fn count(server: Server) -> Result<Bursts> {
    let mut driver = Driver::connect(&server).context("a driver that counts")?;
    let mut line = server.terminal.line()?;
    // A back-end may let nobody type before the guest has written.
    for _ in 0..WRITTEN {
        driver.write(TRANSMIT_QUEUE, &[b'x'; BUFFER])?;
    }
    let bytes = usize::from(WRITTEN) * BUFFER;
    line.skip(bytes)?;
    let to_host = Counted { elements: driver.settled(TRANSMIT_QUEUE, 1)?, bytes };
    line.type_in(&[b'y'; BYTES as usize])?;
    let elements = driver.settled(RECEIVE_QUEUE, 1)?;
    Ok(Bursts { to_host, to_guest: Counted { elements, bytes: BYTES.into() } })
}

impl Driver {
    fn connect(server: &Server) -> Result<Self> {
        let memory = Memory::new(4 << 20)?;
        let front_end = FrontEnd::connect(&server.socket, &memory)?;
        // A device that misbehaves is what is looked for.
        let mut front_end = front_end.watched_by(Watch::none());
        front_end.negotiate(&Negotiation::new(mask(MULTIPORT) | mask(EVENT_IDX)))?;
        front_end.share_memory()?;
        let mut queues = BTreeMap::new();
        for index in [CONTROL_RECEIVE_QUEUE, CONTROL_TRANSMIT_QUEUE, RECEIVE_QUEUE, TRANSMIT_QUEUE]
        {
            let number = u8::try_from(index)?;
            let queue = front_end.queue(number, SIZE)?;
            let events = front_end.start_ring(number, &queue, queue.reaped_base())?;
            queues.insert(index, (queue, events));
        }
        let mut driver = Self { memory, _front_end: front_end, queues };
        driver.offer(CONTROL_RECEIVE_QUEUE, 128)?;
        driver.offer(RECEIVE_QUEUE, BUFFER)?;
        for (number, event) in
            [ControlEvent::DeviceReady, ControlEvent::PortReady, ControlEvent::PortOpen]
                .into_iter()
                .enumerate()
        {
            let message = Control { id: 0, event: event as u16, value: 1 };
            driver.write(CONTROL_TRANSMIT_QUEUE, &message.to_bytes())?;
            driver.settled(CONTROL_TRANSMIT_QUEUE, u16::try_from(number)? + 1)?;
        }
        Ok(driver)
    }

    fn queue(&mut self, index: u16) -> Result<&mut (Queue, RingEvents)> {
        self.queues.get_mut(&index).context("there is no such queue")
    }

    /// Offers a queue full of buffers of this size.
    fn offer(&mut self, index: u16, size: usize) -> Result<()> {
        for _ in 0..SIZE - 1 {
            let buffer = self.memory.alloc(size)?;
            self.queue(index)?.0.add(&[buffer.writable()], Placement::Direct)?;
        }
        self.publish(index)
    }

    fn write(&mut self, index: u16, bytes: &[u8]) -> Result<()> {
        let buffer = self.memory.alloc_with(bytes)?;
        self.queue(index)?.0.add(&[buffer.readable()], Placement::Direct)?;
        self.publish(index)
    }

    fn publish(&mut self, index: u16) -> Result<()> {
        let (queue, events) = self.queue(index)?;
        queue.publish();
        Ok(events.kick()?)
    }

    /// How many elements were used (virtio 1.4, 2.7.8), once there are so many and no more are coming.
    fn settled(&mut self, index: u16, least: u16) -> Result<u16> {
        let until = Instant::now() + PATIENCE;
        let (mut last, mut since) = (self.used(index)?, Instant::now());
        loop {
            std::thread::sleep(LOOK);
            let now = self.used(index)?;
            if now != last {
                (last, since) = (now, Instant::now());
            } else if now >= least && since.elapsed() > QUIET {
                return Ok(now);
            }
            if Instant::now() > until {
                bail!("queue {index} has {now} used elements after {PATIENCE:?}, and not {least}");
            }
        }
    }

    /// The used ring's index.
    fn used(&mut self, index: u16) -> Result<u16> {
        let address = self.queue(index)?.0.addresses().device + 2;
        let mut bytes = [0; 2];
        self.memory.read(address, &mut bytes)?;
        Ok(u16::from_le_bytes(bytes))
    }
}
