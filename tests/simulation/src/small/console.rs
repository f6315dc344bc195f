//! The console: what the guest writes is kept for whoever comes, in order and whole.

use std::io::Read;
use std::os::unix::net::UnixStream;

use driver::{Buffer, Part};
use fastrand::Rng;
use framework::device::Device;
use outrigger_console::backend::{Backend, Peer};
use outrigger_console::board::{Board, Shared};
use outrigger_console::device::{ConsoleDevice, Settings};
use outrigger_console::line::Line;
use outrigger_console::message::ResizeOrder;
use outrigger_console::port_spec::{Overflow, PortSpec, Where};
use outrigger_console::service::ConsoleService;
use rustix::io::Errno;
use virtio_spec::features::Negotiated;

use super::sequence::Sequence;
use super::stand::{Plan, Sent, Stand};
use super::{Scene, some_features};
use crate::Failure;
use crate::scenario::pick;

const TRANSMIT: usize = 0;
/// A message's length and number.
const HEAD: usize = 5;
/// The most that a process keeps here before somebody reads it, bytes: less than it would drop.
const UNREAD: usize = 2048;

/// The port's process, and what the guest has written.
pub(super) struct Port {
    features: Negotiated,
    board: Shared,
    written: Sequence,
    unread: usize,
}

impl Scene for Port {
    type Service = ConsoleService;

    fn choose(random: &mut Rng, seed: u64) -> (Self, Plan) {
        let features = some_features(random, &[]);
        let size = *pick(random, &[4, 8, 32]);
        let plan = Plan { seed, features, queues: vec![1], all: 2, size, regions: Vec::new() };
        let board = Shared::new(Board::new(1, ResizeOrder::Spec));
        (Port { features, board, written: Sequence::default(), unread: 0 }, plan)
    }

    fn service(&mut self) -> Result<ConsoleService, Failure> {
        let simulator = |error: String| Failure::Simulator(error);
        let mut board = Board::new(1, ResizeOrder::Spec);
        let spec = PortSpec::new(Where::Null);
        let line = Line::new(&spec, Overflow::DropOldest, Backend::Brought.into());
        board.add(&spec, line, false).map_err(|error| simulator(error.to_string()))?;
        self.board = Shared::new(board);
        let settings = Settings { queue_size: 256, multiport: false };
        let mut device = ConsoleDevice::new(self.board.clone(), settings);
        device.negotiated(self.features);
        Ok(device.service(0).map_err(|error| simulator(error.to_string()))?.service)
    }

    fn act(
        &mut self,
        stand: &mut Stand<ConsoleService>,
        random: &mut Rng,
    ) -> Result<Option<String>, Failure> {
        let length = random.u8(1..);
        if stand.free(TRANSMIT) < 2 || self.unread + usize::from(length) + HEAD > UNREAD {
            return Ok(None);
        }
        let number = self.written.put();
        let bytes = message(number, length);
        self.unread += bytes.len();
        let (first, second) = bytes.split_at(random.usize(1..bytes.len()));
        let buffers = vec![stand.memory.alloc_with(first)?, stand.memory.alloc_with(second)?];
        let parts: Vec<Part> = buffers.iter().map(Buffer::readable).collect();
        stand.send(TRANSMIT, &parts, Sent { number, buffers }, random)?;
        Ok(Some(format!("writes message {number}, {length} bytes")))
    }

    fn look(&mut self, stand: &mut Stand<ConsoleService>) -> Result<u64, Failure> {
        let mut rest = &self.read()?[..];
        while !rest.is_empty() {
            let (number, after) = parse(rest)?;
            self.written.comes("a message that the guest wrote", number)?;
            rest = after;
        }
        let mut back = 0;
        while let Some((sent, _)) = stand.reap(TRANSMIT)? {
            self.written.ended("a message", sent.number)?;
            self.unread = self
                .unread
                .saturating_sub(HEAD + sent.buffers.iter().map(|b| b.len()).sum::<usize>());
            back += 1;
        }
        if stand.under_way(TRANSMIT).is_empty() {
            self.unread = 0;
        }
        Ok(back)
    }

    fn killed(&mut self, stand: &Stand<ConsoleService>) {
        self.written.killed(stand.under_way(TRANSMIT));
    }

    fn check_end(&mut self, _stand: &mut Stand<ConsoleService>) -> Result<(), Failure> {
        self.written.is_complete("message")
    }
}

impl Port {
    /// Somebody comes, reads all that was kept, and leaves.
    fn read(&self) -> Result<Vec<u8>, Failure> {
        let simulator = |error: String| Failure::Simulator(error);
        let (ours, mut theirs) = UnixStream::pair().map_err(|e| simulator(e.to_string()))?;
        for end in [&ours, &theirs] {
            end.set_nonblocking(true).map_err(|e| simulator(e.to_string()))?;
        }
        let mut board = self.board.lock();
        let peer = Peer::stream(ours.into());
        board.bring(0, peer, true).map_err(|e| simulator(e.to_string()))?;
        let mut found = Vec::new();
        for _ in 0..64 {
            let flushed = board.line(0).map_or(Ok(()), Line::flush);
            // It ends where there is nothing left for now.
            let _ = theirs.read_to_end(&mut found);
            match flushed {
                Ok(()) => break,
                Err(Errno::AGAIN) => {}
                Err(errno) => return Err(simulator(format!("nobody can read: {errno}"))),
            }
        }
        board.detach(0);
        Ok(found)
    }
}

/// A message that tells its length and its number, and is filled with it.
fn message(number: u32, length: u8) -> Vec<u8> {
    let mut message = vec![length];
    message.extend(number.to_le_bytes());
    message.resize(HEAD + usize::from(length), number.to_le_bytes()[0] ^ 0x5a);
    message
}

/// The first message, by its number, and what follows it.
fn parse(bytes: &[u8]) -> Result<(u32, &[u8]), Failure> {
    let torn = || Failure::Answer {
        what: "what somebody reads",
        found: format!("{bytes:?}"),
        expected: "whole messages".into(),
    };
    let &[length, a, b, c, d, ..] = bytes else { return Err(torn()) };
    let number = u32::from_le_bytes([a, b, c, d]);
    let (first, rest) = bytes.split_at_checked(HEAD + usize::from(length)).ok_or_else(torn)?;
    if first == message(number, length) { Ok((number, rest)) } else { Err(torn()) }
}
