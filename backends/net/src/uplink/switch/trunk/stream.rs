//! The peer of a stream socket as the uplink of a switch.
//!
//! The protocol has nothing but frames: what guests leave to their receiver is done here. Frames that
//! the peer does not take at once wait, within bounds; what exceeds those is dropped and counted.

use std::sync::Arc;
use std::time::Duration;

use framework::engine::{BounceBuffer, Direction, Engine, FileIndex, Transfer};
use framework::memory::Segment;
use rustix::io::Errno;
use virtio_spec::net::Header;

use super::super::delivery::{Waiting, plain};
use super::super::outlet::Share;
use super::slab::PLACES;
use super::{Common, Kind, UPLINK};
use crate::header::FRAME_MIN;
use crate::uplink::stream::Stream;
use crate::uplink::stream::framing::{BUFFER, Incoming, Next, Outgoing};

/// A stream and its connection, if there is one.
#[derive(Debug)]
pub(super) struct StreamTrunk {
    stream: Stream,
    peer: Option<Peer>,
    buffers: Option<Buffers>,
    waiting: Waiting,
    /// When to try to connect again.
    retry: Option<Duration>,
    results: Vec<Result<u32, Errno>>,
}

#[derive(Clone, Copy, Debug)]
struct Peer {
    file: FileIndex,
    readable: bool,
    writable: bool,
}

#[derive(Debug)]
struct Buffers {
    incoming: Incoming,
    outgoing: Outgoing,
    /// A frame that goes out.
    frame: BounceBuffer,
}

impl StreamTrunk {
    pub(super) fn new(stream: Stream) -> Self {
        StreamTrunk {
            stream,
            peer: None,
            buffers: None,
            waiting: Waiting::default(),
            retry: None,
            results: Vec::new(),
        }
    }

    /// Whether there is a connection, perhaps since just now.
    fn connect<E: Engine>(&mut self, common: &Common, engine: &mut E) -> bool {
        if self.peer.is_some() {
            return true;
        }
        if self.retry.is_some_and(|at| at > engine.now()) {
            return false;
        }
        self.retry = None;
        if self.buffers.is_none() {
            let mut lend = || engine.bounce().lend(BUFFER).ok().flatten();
            let lent = lend().zip(lend()).zip(lend());
            self.buffers = lent.map(|((one, two), frame)| Buffers {
                incoming: Incoming::new(one),
                outgoing: Outgoing::new(two),
                frame,
            });
        }
        match self.stream.next() {
            Ok(Some(socket)) => match engine.open_file(Arc::new(socket)) {
                Ok(file) if self.buffers.is_some() => {
                    self.peer = Some(Peer { file, readable: true, writable: true });
                    return true;
                }
                Ok(file) => engine.close_file(file),
                Err(_) => common.counts.uplink_failed(Errno::NFILE),
            },
            // Nobody has come yet.
            Ok(None) if self.stream.listening().is_some() => {
                engine.watch(UPLINK, Direction::Readable);
                return false;
            }
            Ok(None) => common.counts.uplink_failed(Errno::CONNREFUSED),
            Err(_) => common.counts.uplink_failed(Errno::ACCESS),
        }
        self.retry = Some(engine.now() + self.stream.delay());
        false
    }

    fn give_up<E: Engine>(&mut self, common: &Common, engine: &mut E, why: Errno) {
        common.counts.uplink_failed(why);
        if let Some(peer) = self.peer.take() {
            engine.close_file(peer.file);
        }
        if let Some(Buffers { incoming, outgoing, .. }) = &mut self.buffers {
            incoming.clear();
            outgoing.clear();
        }
        self.waiting.clear();
        self.retry = Some(engine.now() + self.stream.delay());
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
            if !self.flush(engine)? || self.waiting.is_empty() {
                return Ok(());
            }
        }
    }

    /// Puts frames that wait into the buffer, as many as there is room for.
    fn fill(&mut self, common: &Common) {
        let Some(Buffers { outgoing, frame, .. }) = &mut self.buffers else { return };
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

    /// Writes the buffer. False: the peer takes no more now.
    fn flush<E: Engine>(&mut self, engine: &mut E) -> Result<bool, Errno> {
        let (Some(peer), Some(Buffers { outgoing, .. })) = (&mut self.peer, &mut self.buffers)
        else {
            return Ok(false);
        };
        if !peer.writable || outgoing.is_empty() {
            return Ok(peer.writable);
        }
        let all = outgoing.unsent();
        let wanted = all.iter().map(Segment::len).sum::<usize>();
        engine.stage(&Transfer::Send { header: &[], from: all });
        engine.carry_out(peer.file, &mut self.results);
        let sent = transferred(&self.results)?;
        outgoing.sent(sent);
        peer.writable = sent == wanted;
        Ok(peer.writable)
    }

    /// Reads what the peer has sent, and hands it to the switch.
    fn receive<E: Engine>(&mut self, common: &mut Common, engine: &mut E) -> Result<(), Errno> {
        self.hand_over(common)?;
        let (Some(peer), Some(Buffers { incoming, .. })) = (&mut self.peer, &mut self.buffers)
        else {
            return Ok(());
        };
        if peer.readable && incoming.next() == Next::Partial {
            let into = incoming.room();
            let wanted = into.iter().map(Segment::len).sum::<usize>();
            engine.stage(&Transfer::Receive { into });
            engine.carry_out(peer.file, &mut self.results);
            if let Some(Ok(0)) = self.results.first() {
                return Err(Errno::CONNRESET);
            }
            let read = transferred(&self.results)?;
            incoming.filled(read);
            peer.readable = read == wanted;
        }
        self.hand_over(common)
    }

    /// Hands frames to the switch, as long as there are slabs for them.
    fn hand_over(&mut self, common: &mut Common) -> Result<(), Errno> {
        let Some(Buffers { incoming, .. }) = &mut self.buffers else { return Ok(()) };
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

    /// Has the thread woken for what the connection waits for.
    fn watch<E: Engine>(&self, engine: &mut E) {
        let Some(peer) = self.peer else { return };
        if !peer.readable {
            engine.watch(peer.file, Direction::Readable);
        }
        if !peer.writable {
            engine.watch(peer.file, Direction::Writable);
        }
    }
}

/// How many bytes a transfer has moved.
fn transferred(results: &[Result<u32, Errno>]) -> Result<usize, Errno> {
    match results.first() {
        Some(Ok(n)) => Ok(*n as usize),
        Some(Err(Errno::AGAIN | Errno::INTR)) | None => Ok(0),
        Some(Err(error)) => Err(*error),
    }
}

impl Kind for StreamTrunk {
    fn ready(&mut self, file: FileIndex, direction: Direction) {
        let Some(peer) = self.peer.as_mut().filter(|peer| peer.file == file) else { return };
        match direction {
            Direction::Readable => peer.readable = true,
            Direction::Writable => peer.writable = true,
        }
    }

    fn turn<E: Engine>(&mut self, common: &mut Common, engine: &mut E) -> bool {
        if !self.connect(common, engine) {
            let lost = common.mail.shares.drain(..).map(|share| share.frames.len()).sum();
            common.outlet.overflow(lost);
            return true;
        }
        let done = self.send(common, engine).and_then(|()| self.receive(common, engine));
        if let Err(error) = done {
            self.give_up(common, engine, error);
            return self.retry.is_some();
        }
        self.watch(engine);
        self.peer.is_none_or(|peer| !peer.readable) || common.slabs.are_lent()
    }

    fn due(&self) -> Option<Duration> {
        self.retry
    }
}
