//! A session with a small device and workers that only take notes.

mod device;
mod disconnect;
mod in_flight;
mod memory;
mod negotiation;
mod rings;
mod sequences;
mod simulated;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::MemfdFlags;
use virtio_spec::features::{VERSION_1, mask};
use virtio_spec::vhost_user::{
    F_PROTOCOL_FEATURES, MemoryRegion, ProtocolFeatures, VringAddr, VringState,
};
use wire::{Reply, Request};

use super::{Action, RingOffer, Session, Workers};
use crate::device::Assembly;
use crate::error::{Error, Result};
use crate::server::echo::{Echo, EchoService, Knobs};
use crate::worker::{Answer, Command};

/// Where the only region of guest memory starts for the front-end.
const USER: u64 = 0x10_0000;
/// The bases that the noting workers report.
const STOPPED_AT: u32 = 7;
/// All that a front-end with every protocol feature but in-band notifications acknowledges.
const FEATURES: u64 = mask(VERSION_1) | mask(F_PROTOCOL_FEATURES);

/// Workers that note what they are told and have an answer ready for each command.
#[derive(Debug, Default)]
struct Notes {
    spawned: Vec<(u16, Vec<u16>)>,
    commands: Vec<(u16, Command)>,
    answers: VecDeque<(u16, Answer)>,
    /// The next start fails.
    refuse_start: bool,
}

impl Workers<EchoService> for Notes {
    fn spawn(&mut self, worker: u16, queues: &[u16], _: Assembly<EchoService>) -> Result<()> {
        self.spawned.push((worker, queues.to_vec()));
        Ok(())
    }

    fn command(&mut self, worker: u16, command: Command) {
        let answer = match &command {
            Command::Start(setup) if std::mem::take(&mut self.refuse_start) => {
                let result = Err(Error::NoSuchQueue { queue: setup.queue });
                Answer::Started { queue: setup.queue, result }
            }
            Command::Start(setup) => Answer::Started { queue: setup.queue, result: Ok(()) },
            Command::Stop { queue } => Answer::Stopped { queue: *queue, base: STOPPED_AT },
            Command::Quit => Answer::Ended,
            _ => Answer::Done,
        };
        self.answers.push_back((worker, answer));
        self.commands.push((worker, command));
    }
}

/// What the front-end sees of a request.
#[derive(Debug)]
enum Seen {
    Reply(Reply),
    Nothing,
    Waits,
    Closed(Error),
}

impl Seen {
    fn number(self) -> u64 {
        match self {
            Seen::Reply(Reply::U64(number)) => number,
            other => panic!("{other:?} is no number"),
        }
    }

    fn acked(&self) -> bool {
        match self {
            Seen::Reply(Reply::Ack(value)) => *value == 0,
            Seen::Reply(Reply::Log(_)) => true,
            other => panic!("{other:?} is no acknowledgement"),
        }
    }

    fn base(self) -> u32 {
        match self {
            Seen::Reply(Reply::VringState(state)) => state.num,
            other => panic!("{other:?} is no base"),
        }
    }

    fn error(self) -> Error {
        match self {
            Seen::Closed(error) => error,
            other => panic!("{other:?} does not end the connection"),
        }
    }
}

/// A session, its device and its workers.
struct Bench {
    session: Session,
    device: Echo,
    knobs: Arc<Knobs>,
    notes: Notes,
}

impl Bench {
    /// Nothing was said yet.
    fn silent() -> Self {
        let knobs = Arc::default();
        let device = Echo::new(&knobs);
        let offer = RingOffer { packed: true, in_order: true, inband: true };
        let session = Session::new(&device, offer, &Arc::new(event()));
        Bench { session, device, knobs, notes: Notes::default() }
    }

    /// Features and protocol features are agreed on.
    fn negotiated() -> Self {
        let mut bench = Bench::silent();
        let protocol =
            ProtocolFeatures::from_bits_retain(bench.ask(Request::GetProtocolFeatures).number());
        let protocol = protocol - ProtocolFeatures::INBAND_NOTIFICATIONS;
        bench.tell(Request::SetProtocolFeatures(protocol.bits()));
        bench.tell(Request::SetFeatures(FEATURES));
        bench
    }

    /// Memory is shared too, and ring 0 runs.
    fn running() -> Self {
        let mut bench = Bench::negotiated();
        bench.tell(Request::SetMemTable(vec![region(0, USER, 1 << 20)]));
        bench.start(0);
        bench
    }

    fn start(&mut self, index: u8) {
        self.set_up(index.into());
        self.tell(Request::SetVringKick { index, fd: Some(event()) });
        self.tell(Request::SetVringEnable { index: index.into(), enable: true });
    }

    fn set_up(&mut self, index: u32) {
        self.tell(Request::SetVringNum(VringState { index, num: 64 }));
        self.tell(Request::SetVringBase(VringState { index, num: 0 }));
        self.tell(Request::SetVringAddr(addresses(index)));
    }

    /// Sends a request and lets workers answer until it is through.
    fn ask(&mut self, request: Request) -> Seen {
        let seen = self.say(request, false);
        self.through(seen)
    }

    /// The same, asking for an acknowledgement.
    fn ask_ack(&mut self, request: Request) -> Seen {
        let seen = self.say(request, true);
        self.through(seen)
    }

    /// Sends a request that is to be acknowledged with success.
    #[track_caller]
    fn tell(&mut self, request: Request) {
        let name = request.name();
        let seen = self.ask_ack(request);
        let fine = match &seen {
            Seen::Reply(Reply::Ack(value)) => *value == 0,
            Seen::Nothing => !self.session.acknowledges(),
            _ => false,
        };
        assert!(fine, "{name}: {seen:?}");
    }

    /// Sends a request; workers stay silent.
    fn say(&mut self, request: Request, need_reply: bool) -> Seen {
        let Bench { session, device, notes, .. } = self;
        seen(session.handle(device, request, need_reply, notes))
    }

    /// One worker answers.
    fn answer(&mut self) -> Option<Seen> {
        let (worker, answer) = self.notes.answers.pop_front()?;
        Some(seen(self.session.answered(&mut self.device, worker, answer)))
    }

    fn through(&mut self, mut seen: Seen) -> Seen {
        while matches!(seen, Seen::Waits) {
            let Some(next) = self.answer() else { return seen };
            seen = next;
        }
        seen
    }

    fn close(&mut self) {
        self.session.close(&mut self.device, &mut self.notes);
        while self.answer().is_some() {}
    }

    /// What workers were told since the last time.
    fn told(&mut self) -> Vec<Command> {
        self.notes.commands.drain(..).map(|(_, command)| command).collect()
    }
}

fn seen(result: Result<Action>) -> Seen {
    match result {
        Ok(Action::Reply { reply, .. }) => Seen::Reply(reply),
        Ok(Action::NoReply) => Seen::Nothing,
        Ok(Action::Wait) => Seen::Waits,
        Err(error) => Seen::Closed(error),
    }
}

fn event() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()
}

fn memfd(size: u64) -> OwnedFd {
    let fd = rustix::fs::memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&fd, size).unwrap();
    fd
}

fn region(guest_addr: u64, user_addr: u64, size: u64) -> (MemoryRegion, OwnedFd) {
    (MemoryRegion { guest_addr, size, user_addr, mmap_offset: 0 }, memfd(size))
}

fn addresses(index: u32) -> VringAddr {
    let at = USER + u64::from(index) * 0x4000;
    VringAddr {
        index,
        flags: 0,
        descriptor: at,
        used: at + 0x2000,
        available: at + 0x1000,
        log: 0x2000,
    }
}

/// A descriptor to send, and the means to see whether all copies of it were closed.
fn traced() -> (OwnedFd, OwnedFd) {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    (write, read)
}

fn is_closed(trace: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(trace, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap();
    fds[0].revents().contains(PollFlags::HUP)
}
