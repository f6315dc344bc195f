//! The peer of a stream socket as the uplink of a switch.
//!
//! The protocol has nothing but frames: what guests leave to their receiver is done here. Frames that
//! the peer does not take at once wait, within bounds; what exceeds those is dropped and counted.

use std::time::Duration;

use framework::engine::{BounceBuffer, Direction, Engine, FileIndex};
use rustix::io::Errno;
use virtio_spec::net::Header;

use super::super::delivery::{Waiting, plain};
use super::super::outlet::Share;
use super::slab::PLACES;
use super::{Common, Kind, UPLINK};
use crate::header::FRAME_MIN;
use crate::uplink::stream::Stream;
use crate::uplink::stream::connection::Connection;
use crate::uplink::stream::framing::{BUFFER, Next};

/// A stream and its connection, if there is one.
#[derive(Debug)]
pub(super) struct StreamTrunk {
    stream: Stream,
    connection: Connection,
    waiting: Waiting,
    /// Room for a frame that goes out.
    frame: Option<BounceBuffer>,
}

impl StreamTrunk {
    pub(super) fn new(stream: Stream) -> Self {
        let connection = Connection::new(UPLINK);
        StreamTrunk { stream, connection, waiting: Waiting::default(), frame: None }
    }

    /// Whether there is a connection, perhaps since just now, and room to work in.
    fn connect<E: Engine>(&mut self, common: &Common, engine: &mut E) -> bool {
        if self.frame.is_none() {
            self.frame = engine.bounce().lend(BUFFER).ok().flatten();
        }
        self.connection.connect(engine, &self.stream, &common.counts) && self.frame.is_some()
    }

    /// Sends what guests have sent, as far as the peer takes it.
    fn send<E: Engine>(&mut self, common: &mut Common, engine: &mut E) -> Result<(), Errno> {
        for Share { parcel, frames } in std::mem::take(&mut common.mail.shares) {
            for frame in frames.iter().filter_map(|number| parcel.frame(*number)) {
                if !self.waiting.push(&frame) {
                    common.outlet.overflow(1);
                }
            }
        }
        loop {
            self.fill(common);
            if !self.connection.flush(engine)? || self.waiting.is_empty() {
                return Ok(());
            }
        }
    }

    /// Puts frames that wait into the buffer, as many as there is room for.
    fn fill(&mut self, common: &Common) {
        let (Some(outgoing), Some(frame)) = (self.connection.outgoing(), &mut self.frame) else {
            return;
        };
        while outgoing.has_room()
            && let Some((header, bytes)) = self.waiting.pop()
        {
            let Some(plain) = plain(&header, bytes) else {
                common.counts.rx_unnegotiated.add(1);
                continue;
            };
            let mut left = plain.into_iter();
            while outgoing.has_room()
                && let Some(bytes) = left.next()
            {
                frame.bytes().write(0, &bytes);
                if outgoing.push(frame.part(0, bytes.len())) {
                    common.counts.rx_frames.add(1);
                    common.counts.rx_bytes.add(bytes.len() as u64);
                }
            }
            self.waiting.push_front(left);
        }
    }

    /// Reads what the peer has sent, and hands it to the switch.
    fn receive<E: Engine>(&mut self, common: &mut Common, engine: &mut E) -> Result<(), Errno> {
        self.hand_over(common)?;
        let Some(incoming) = self.connection.incoming() else { return Ok(()) };
        if incoming.next() == Next::Partial {
            self.connection.read(engine)?;
        }
        self.hand_over(common)
    }

    /// Hands frames to the switch, as long as there are slabs for them.
    fn hand_over(&mut self, common: &mut Common) -> Result<(), Errno> {
        let Some(incoming) = self.connection.incoming() else { return Ok(()) };
        while let Next::Frame { .. } = incoming.next()
            && let Some(slab) = common.slabs.take()
        {
            let mut parcel = slab.parcel();
            let (mut place, mut bytes) = (0, 0);
            while place < PLACES
                && let Next::Frame { at, length } = incoming.next()
            {
                if length < FRAME_MIN {
                    common.counts.tx_malformed.add(1);
                } else if let Some(room) = slab.place(place).first() {
                    room.copy_part(0, incoming.bytes(), at, length);
                    slab.add(&mut parcel, place, (0, length), Header::default());
                    (place, bytes) = (place + 1, bytes + length);
                }
                incoming.pop();
            }
            common.slabs.lend(slab);
            common.arrive(parcel, bytes);
        }
        match incoming.next() {
            Next::Broken { .. } => Err(Errno::PROTO),
            _ => Ok(()),
        }
    }
}

impl Kind for StreamTrunk {
    fn ready(&mut self, file: FileIndex, direction: Direction) {
        self.connection.ready(file, direction);
    }

    fn turn<E: Engine>(&mut self, common: &mut Common, engine: &mut E) -> bool {
        if !self.connect(common, engine) {
            let lost = common.mail.shares.drain(..).map(|share| share.frames.len()).sum();
            common.outlet.overflow(lost);
            return true;
        }
        let done = self.send(common, engine).and_then(|()| self.receive(common, engine));
        if let Err(error) = done {
            self.connection.give_up(engine, &self.stream, &common.counts, error);
            self.waiting.clear();
            return true;
        }
        if !self.connection.is_readable() {
            self.connection.watch(engine);
        }
        !self.connection.is_readable() || common.slabs.are_lent()
    }

    fn due(&self) -> Option<Duration> {
        self.connection.due()
    }
}
