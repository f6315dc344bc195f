//! The data side: one worker for all queues.
//!
//! Each port has a receive and a transmit queue, and between those of the first port and the others
//! lie the two control queues (virtio 1.4, 5.3.2). Whatever happens to a port (a kick, a peer that is
//! ready, somebody at its door), it is *pumped*: its descriptors are brought up to date, who knocks is let
//! in, `transmit` and `receive` do what they can. What follows from that for the driver is
//! told through `control_queues`.

use std::time::Duration;

use framework::device::{Host, Service, Wake};
use framework::engine::{Direction, FileIndex, Io};
use framework::program::rate_limit::{self, RateLimit};
use framework::ring::Rings;
use rustix::process::{Signal, getpid, kill_process};
use virtio_spec::console::{CONTROL_RECEIVE_QUEUE, CONTROL_TRANSMIT_QUEUE, receive_queue};

use crate::board::{Board, Shared};
use crate::gate::{Gate, note_ready};
use crate::held_call::HeldCall;
use crate::line::Line;
use crate::reading::Reading;
use crate::receive::Receive;
use crate::transmit::{Flow, Transmit};
use crate::{attendant, control_queues};

/// How many peers may come and go before others have their turn.
const PEERS: usize = 4;

/// The data side of all ports.
#[derive(Debug)]
pub struct ConsoleService {
    shared: Shared,
    host: Host,
    ports: Vec<PortIo>,
    /// Whether anything was done yet.
    begun: bool,
    /// What the engine's timer is set to.
    timer: Option<Duration>,
}

/// What the worker has of one port.
#[derive(Debug, Default)]
struct PortIo {
    door: Option<Gate>,
    input: Option<Gate>,
    output: Option<Gate>,
    resizes: Option<Gate>,
    readings: Vec<Reading>,
    transmit: Transmit,
    call: HeldCall,
    receive: Receive,
    /// There is more to be done, which nothing else will tell of.
    unfinished: bool,
    /// A terminal may have another size.
    resized: bool,
}

/// What a queue is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// From a peer to the guest.
    Receive(u16),
    /// From the guest to a peer.
    Transmit(u16),
    /// Messages about ports.
    Control,
}

impl Role {
    /// The role of a queue, by its index on the device.
    pub fn of(queue: u16) -> Self {
        let port = match queue {
            CONTROL_RECEIVE_QUEUE | CONTROL_TRANSMIT_QUEUE => return Role::Control,
            0 | 1 => 0,
            queue => queue / 2 - 1,
        };
        if queue.is_multiple_of(2) { Role::Receive(port) } else { Role::Transmit(port) }
    }
}

impl ConsoleService {
    /// The data side of a board.
    pub(crate) fn new(shared: Shared, host: Host) -> Self {
        let most = shared.lock().table.most();
        let ports = (0..most).map(|_| PortIo::default()).collect();
        ConsoleService { shared, host, ports, begun: false, timer: None }
    }

    /// Does what can be done for a port. True: peers have come or gone.
    fn pump<I: Io>(&mut self, rings: &mut Rings, io: &mut I, board: &mut Board, port: u16) -> bool {
        let Some(state) = self.ports.get_mut(usize::from(port)) else { return false };
        let changed = state.pump(rings, io, board, port);
        if std::mem::take(&mut state.receive.left) {
            board.left = true;
            tracing::info!("the escape was typed: ending");
            // As if the user had ended the daemon from outside: it drains first.
            let _ = kill_process(getpid(), Signal::TERM);
        }
        if std::mem::take(&mut state.resized) {
            self.look_at_sizes(board);
        }
        changed
    }

    fn pump_all<I: Io>(&mut self, rings: &mut Rings, io: &mut I, board: &mut Board) {
        for port in 0..board.table.most() {
            self.pump(rings, io, board, port);
        }
        self.after_change(rings, board);
    }

    /// Tells the driver what has changed.
    fn after_change(&mut self, rings: &mut Rings, board: &mut Board) {
        if control_queues::tell(rings, board) {
            keep(&self.host, board);
        }
    }

    /// Asks to be woken when somebody is to be connected to or called, or work was left, and for nothing
    /// else.
    fn set_timer<I: Io>(&mut self, io: &mut I, board: &Board) {
        let calls = self.ports.iter().filter_map(|port| port.call.due);
        let left = self.ports.iter().any(|port| port.unfinished).then_some(Duration::ZERO);
        let due = calls.chain(board.dial_due()).chain(left).min();
        if due != self.timer {
            self.timer = due;
            io.set_timer(due);
        }
    }

    fn look_at_sizes(&self, board: &mut Board) {
        if board.look_at_sizes() {
            self.host.ring();
        }
    }

    fn control<I: Io>(&mut self, rings: &mut Rings, io: &mut I, board: &mut Board) {
        let host = &self.host;
        if control_queues::listen(rings, board, |board| keep(host, board)) {
            // Ports were opened: what waited for that goes on.
            self.pump_all(rings, io, board);
        } else {
            self.after_change(rings, board);
        }
    }

    fn ready<I: Io>(&mut self, rings: &mut Rings, io: &mut I, board: &mut Board, file: FileIndex) {
        let port = self.ports.iter_mut().position(|port| port.note_ready(file));
        if let Some(port) = port.and_then(|port| u16::try_from(port).ok()) {
            self.serve(rings, io, board, port);
        }
    }

    fn serve<I: Io>(&mut self, rings: &mut Rings, io: &mut I, board: &mut Board, port: u16) {
        // A size that has changed is to be told, too.
        self.pump(rings, io, board, port);
        self.after_change(rings, board);
    }

    fn stop(&mut self, rings: &mut Rings, board: &mut Board, queue: usize) {
        let Some(ring) = rings.get(queue) else { return };
        if let Role::Transmit(port) = Role::of(ring.queue())
            && let Some(state) = self.ports.get_mut(usize::from(port))
        {
            state.transmit.stop(ring, board.line(port));
        }
    }
}

impl Drop for ConsoleService {
    fn drop(&mut self) {
        self.shared.lock().set_in_use(false);
    }
}

/// Keeps names, ports and what the driver has said where a crash does not reach them.
fn keep(host: &Host, board: &Board) {
    static REPORTS: RateLimit = RateLimit::new(1, Duration::from_secs(60));
    if let Err(error) = host.keep(|| board.save())
        && let Some(suppressed) = REPORTS.admit(rate_limit::now())
    {
        tracing::error!(%error, suppressed, "the ports' state is not kept");
    }
}

impl PortIo {
    fn pump<I: Io>(&mut self, rings: &mut Rings, io: &mut I, board: &mut Board, port: u16) -> bool {
        let mut changed = false;
        self.unfinished = true;
        for _ in 0..PEERS {
            self.sync(io, board, port);
            if self.let_in(io, board, port) {
                changed = true;
                continue;
            }
            changed |= self.serve_readers(io, board, port);
            let Some(ended) = self.transfer(rings, io, board, port) else {
                // What has just been passed on is for those who read along as well.
                changed |= self.serve_readers(io, board, port);
                self.unfinished = self.transmit.unfinished;
                break;
            };
            if board.line(port).is_some_and(|line| line.ended(ended)) {
                board.detach(port);
                self.receive.forget_peer();
                changed = true;
            }
        }
        self.sync(io, board, port);
        if let Some(door) = &mut self.door {
            // Who knocks while there is no room would be reported over and over: we look when there is.
            if board.line(port).is_some_and(|line| line.has_room()) {
                door.wait(io, Direction::Readable);
            } else {
                door.ready = true;
            }
        }
        let (_, transmit) = queues(port);
        self.call.update(rings.get(transmit), || io.now());
        changed
    }

    /// Gives those who read along what there is. True: one of them has left.
    fn serve_readers<I: Io>(&mut self, io: &mut I, board: &mut Board, port: u16) -> bool {
        let mut left = false;
        let Some(line) = board.line(port) else { return false };
        for index in (0..line.readers.len()).rev() {
            let (Some(line), Some(reading)) = (board.line(port), self.readings.get_mut(index))
            else {
                continue;
            };
            if !reading.serve(io, line, index, &mut self.receive.typed) {
                board.leave(port, index);
                left = true;
            }
        }
        if left {
            self.sync(io, board, port);
        }
        left
    }

    /// Hears whether a terminal has another size.
    fn hear_of_size<I: Io>(&mut self, io: &mut I, line: &Line) {
        let Some(gate) = self.resizes.as_mut().filter(|gate| gate.ready) else { return };
        if let Some((_, socket)) = line.backend.resizes() {
            self.resized |= attendant::hear(socket);
        }
        gate.wait(io, Direction::Readable);
    }

    /// Makes the worker's files those of the line.
    fn sync<I: Io>(&mut self, io: &mut I, board: &mut Board, port: u16) {
        let line = board.line(port);
        let line = line.as_deref();
        let peer = line.and_then(|line| line.peer.as_ref());
        let input = peer.and_then(|peer| Some((peer.id, peer.input.as_ref()?)));
        let output = peer.and_then(|peer| Some((peer.id, peer.output.as_ref()?)));
        Gate::sync(&mut self.door, line.and_then(|line| line.backend.door()), io);
        Gate::sync(&mut self.input, input, io);
        Gate::sync(&mut self.output, output, io);
        Gate::sync(&mut self.resizes, line.and_then(|line| line.backend.resizes()), io);
        let readers = line.map_or(&[][..], |line| line.readers.as_slice());
        self.readings.resize_with(self.readings.len().max(readers.len()), Reading::default);
        for (index, reading) in self.readings.iter_mut().enumerate() {
            reading.sync(readers.get(index), io);
        }
        self.readings.truncate(readers.len());
        if let Some(line) = line {
            self.hear_of_size(io, line);
        }
    }

    fn let_in<I: Io>(&mut self, io: &mut I, board: &mut Board, port: u16) -> bool {
        if board.dial(port, io.now()) {
            return true;
        }
        let Some(door) = self.door.as_mut().filter(|door| door.ready) else { return false };
        if board.line(port).is_none_or(|line| !line.has_room()) {
            return false;
        }
        let came = board.answer_door(port);
        if !came {
            door.wait(io, Direction::Readable);
        }
        came
    }

    /// Moves bytes both ways. Which way has ended, if one has.
    fn transfer<I: Io>(
        &mut self,
        rings: &mut Rings,
        io: &mut I,
        board: &mut Board,
        port: u16,
    ) -> Option<Direction> {
        let (receive, transmit) = queues(port);
        let takes = board.guest_takes(port);
        let Some(line) = board.line(port) else {
            if let Some(ring) = rings.get(transmit) {
                self.transmit.discard(ring);
            }
            return None;
        };
        if self.transmit.run(rings.get(transmit), io, line, &mut self.output) == Flow::Gone {
            return Some(Direction::Writable);
        }
        let flow = self.receive.run(rings.get(receive), io, line, &mut self.input, takes);
        (flow == Flow::Gone).then_some(Direction::Readable)
    }

    fn note_ready(&mut self, file: FileIndex) -> bool {
        note_ready(&mut self.door, file)
            || note_ready(&mut self.input, file)
            || note_ready(&mut self.output, file)
            || note_ready(&mut self.resizes, file)
            || self.readings.iter_mut().any(|reading| reading.note_ready(file))
    }
}

/// The receive and the transmit queue of a port.
fn queues(port: u16) -> (usize, usize) {
    let receive = usize::from(receive_queue(port));
    (receive, receive + 1)
}

impl Service for ConsoleService {
    fn service<I: Io>(&mut self, rings: &mut Rings, io: &mut I, wake: Wake) {
        let shared = self.shared.clone();
        let board = &mut *shared.lock();
        if !std::mem::replace(&mut self.begun, true) {
            board.set_in_use(true);
            self.look_at_sizes(board);
            self.pump_all(rings, io, board);
        }
        match wake {
            Wake::Kick(queue) => match rings.get(queue).map(|ring| Role::of(ring.queue())) {
                Some(Role::Control) => self.control(rings, io, board),
                Some(Role::Receive(port) | Role::Transmit(port)) => {
                    self.serve(rings, io, board, port);
                }
                None => {}
            },
            Wake::Ready(file, _) => self.ready(rings, io, board, file),
            Wake::Timer => {
                self.timer = None;
                self.pump_all(rings, io, board);
            }
            Wake::Nudge => self.pump_all(rings, io, board),
            Wake::Stop(queue) => self.stop(rings, board, queue),
            Wake::Done(_) => {}
        }
        self.set_timer(io, board);
    }
}
