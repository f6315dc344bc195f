//! A daemon on a thread of its own, and the guests of its front-ends.

use std::collections::VecDeque;
use std::os::fd::{AsFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use clap::Parser;
use driver::{
    Buffer, Deadline, FrontEnd, Memory, Negotiation, Notifier, Placement, Queue, RingEvents,
};
use framework::program::options::CommonOptions;
use framework::sandbox::Sandbox;
use framework::server::{self, Daemon};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use serde_json::Value;
use virtio_spec::features::{RING_PACKED, mask};

use crate::device::Echo;

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(20);

#[derive(Debug, Parser)]
struct Options {
    #[command(flatten)]
    common: CommonOptions,
}

/// A daemon.
pub(crate) struct Served {
    pub(crate) holds: Arc<AtomicUsize>,
    /// How it ended: with which error, if with one.
    end: Receiver<Option<String>>,
}

fn serve(arguments: &[String]) -> Served {
    let device = Echo::default();
    let holds = Arc::clone(&device.holds);
    let (tell, end) = channel();
    let all = ["hostile", "--sandbox=off", "--poll-us=0", "--packed"].map(String::from);
    let options = Options::parse_from(all.iter().chain(arguments)).common;
    std::thread::spawn(move || {
        let sandbox = Sandbox::new(options.sandbox);
        let daemon = Daemon { name: "hostile", options: &options, sandbox, config: Value::Null };
        let outcome = server::run(device, daemon);
        // Nobody may be waiting for it.
        let _ = tell.send(outcome.err().map(|error| error.to_string()));
    });
    Served { holds, end }
}

/// A daemon with this one connection, at whose end it ends.
pub(crate) fn with_connection() -> (Served, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    // As a parent process leaves it to its child.
    rustix::io::fcntl_setfd(&theirs, rustix::io::FdFlags::empty()).unwrap();
    (serve(&[format!("--fd={}", theirs.into_raw_fd())]), ours)
}

/// A daemon that listens, until the test's process ends.
pub(crate) fn listening(directory: &Path) -> (Served, PathBuf) {
    let path = directory.join("socket");
    (serve(&[format!("--socket-path={}", path.display())]), path)
}

impl Served {
    /// Waits for its end, which is to be a good one, with nothing held any more.
    pub(crate) fn assert_ends(&self) {
        assert_eq!(self.end.recv_timeout(LIMIT), Ok(None), "the daemon hangs, or has failed");
        assert_eq!(self.holds.load(SeqCst), 0);
    }
}

/// A guest with one queue.
pub(crate) struct Guest {
    pub(crate) memory: Memory,
    pub(crate) queue: Queue,
    pub(crate) events: RingEvents,
    /// What was sent and may not have been read yet.
    sent: VecDeque<Buffer>,
}

impl Guest {
    pub(crate) fn new(memory: &Memory, queue: Queue, events: RingEvents) -> Self {
        Guest { memory: memory.clone(), queue, events, sent: VecDeque::new() }
    }

    /// Agrees on features, shares memory, and starts ring 0.
    pub(crate) fn start(front_end: &mut FrontEnd, memory: &Memory, wanted: u64) -> Self {
        front_end.negotiate(&Negotiation::new(wanted)).unwrap();
        front_end.share_memory().unwrap();
        let queue = Queue::new(memory, 16, front_end.negotiated()).unwrap();
        let events = front_end.start_ring(0, &queue, queue.reaped_base()).unwrap();
        Guest::new(memory, queue, events)
    }

    /// Makes a chain available, without a kick; what is echoed goes to the buffer returned.
    pub(crate) fn submit(&mut self, text: &[u8]) -> Buffer {
        let out = self.memory.alloc_with(text).unwrap();
        let back = self.memory.alloc(text.len()).unwrap();
        self.queue.add(&[out.readable(), back.writable()], Placement::Direct).unwrap();
        self.queue.publish();
        self.sent.push_back(out);
        back
    }

    /// Waits for one chain to be used, looking itself as well: calls may go nowhere.
    pub(crate) fn wait_used(&mut self) {
        let deadline = Deadline::after(LIMIT);
        while self.queue.reap().unwrap().is_none() {
            assert!(!deadline.is_past(), "the chain is never used");
            self.events.wait(Deadline::after(Duration::from_millis(1))).unwrap();
        }
        self.sent.pop_front();
    }

    /// Sends a text and has it back.
    pub(crate) fn echoes(&mut self, text: &[u8]) {
        let back = self.submit(text);
        self.events.kick().unwrap();
        self.wait_used();
        assert_eq!(back.to_vec(), text);
    }
}

/// A descriptor to be given away, and what tells that it was closed.
pub(crate) fn traced() -> (OwnedFd, OwnedFd) {
    let (trace, given) = std::io::pipe().unwrap();
    (given.into(), trace.into())
}

/// Waits until the other end of what was given away is closed.
pub(crate) fn assert_closed(trace: impl AsFd) {
    let mut fds = [PollFd::new(&trace, PollFlags::empty())];
    let limit = Timespec::try_from(LIMIT).unwrap();
    assert_eq!(poll(&mut fds, Some(&limit)), Ok(1), "a descriptor was kept");
}

pub(crate) fn memory() -> Memory {
    Memory::new(1 << 20).unwrap()
}

/// The wanted bits of a split and of a packed ring.
pub(crate) fn kinds() -> [u64; 2] {
    [0, mask(RING_PACKED)]
}

pub(crate) fn event() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC).unwrap()
}
