//! What the connection thread asks of a worker, and what it hears back.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use virtio_spec::features::Negotiated;

use crate::Error;
use crate::memory::{DirtyLog, Mapping, MemoryTable, UserAddress};
use crate::ring::Call;

/// Everything a ring needs to start, as the messages of the front-end gave it.
#[derive(Debug)]
pub struct RingSetup {
    /// The queue's index on the device.
    pub queue: u16,
    /// Number of descriptors.
    pub size: u16,
    /// What was negotiated: decides split or packed, event index, in-order.
    pub features: Negotiated,
    /// Where the descriptors are (packed: the ring itself).
    pub descriptors: UserAddress,
    /// Where the available ring is (packed: the driver's event suppression).
    pub driver: UserAddress,
    /// Where the used ring is (packed: the device's event suppression).
    pub device: UserAddress,
    /// SET_VRING_BASE as it came; see [`crate::ring`] for how far it is believed.
    pub base: u32,
    /// Guest memory.
    pub memory: Arc<MemoryTable>,
    /// The dirty log, when migrating.
    pub log: Option<Arc<DirtyLog>>,
    /// Guest address at which writes to the used ring are logged, when they are (VHOST_VRING_F_LOG).
    pub used_log: Option<u64>,
    /// The in-flight region, if the front-end has one.
    pub in_flight: Option<InFlightArea>,
    /// How the driver kicks. None: it does not, the ring is polled or kicked by message.
    pub kick: Option<Arc<OwnedFd>>,
    /// How the driver is called.
    pub call: Call,
    /// Where a failure of the ring is signalled.
    pub error: Option<Arc<OwnedFd>>,
    /// Whether the ring is enabled from the start.
    pub enabled: bool,
    /// Whether chains are taken even while it is disabled.
    pub serve_disabled: bool,
}

/// One queue's part of the in-flight region.
#[derive(Clone, Debug)]
pub struct InFlightArea {
    /// The whole region.
    pub mapping: Arc<Mapping>,
    /// Where this queue's part starts, bytes.
    pub offset: usize,
    /// How many descriptors it has room for.
    pub size: u16,
}

/// A command to a worker. Each is answered by exactly one [`Answer`] unless it says otherwise.
#[derive(Debug)]
#[expect(missing_docs, reason = "each variant's text names its fields")]
pub enum Command {
    /// Start a ring. Answer: [`Answer::Started`].
    Start(Box<RingSetup>),
    /// Stop a ring when what is in flight has ended. Answer: [`Answer::Stopped`], perhaps much
    /// later.
    Stop { queue: u16 },
    /// Enable or disable a ring. Answer: [`Answer::Done`].
    Enable { queue: u16, enabled: bool },
    /// Look for chains all the time: the driver does not kick. Answer: [`Answer::Done`].
    Poll { queue: u16 },
    /// A kick that came as a message. Answer: [`Answer::Done`].
    Kick { queue: u16 },
    /// Use this memory table from now on. Answer: [`Answer::Done`], at once, or with `release` when
    /// nothing of the former table is in use any more.
    Memory { table: Arc<MemoryTable>, release: bool },
    /// Log writes from now on, or no longer. Answer: [`Answer::Done`].
    Log(Option<Arc<DirtyLog>>),
    /// Where writes to this queue's used ring are logged. Answer: [`Answer::Done`].
    UsedLog { queue: u16, at: Option<u64> },
    /// Call the driver this way from now on. Answer: [`Answer::Done`].
    SetCall { queue: u16, call: Call },
    /// Signal failures here from now on. Answer: [`Answer::Done`].
    SetError { queue: u16, error: Option<Arc<OwnedFd>> },
    /// Take this kick instead. Answer: [`Answer::Done`].
    SetKick { queue: u16, kick: Option<Arc<OwnedFd>> },
    /// Hand [`crate::device::Wake::Nudge`] to the device. No answer.
    Nudge,
    /// End, once everything in flight has ended; rings that still run are stopped as by
    /// [`Command::Stop`], with no answer of their own. Answer: [`Answer::Ended`].
    Quit,
}

/// What a worker says.
#[derive(Debug)]
#[expect(missing_docs, reason = "each variant's text names its fields")]
pub enum Answer {
    /// A ring runs, or could not be started.
    Started { queue: u16, result: Result<(), Error> },
    /// A ring has stopped: what GET_VRING_BASE replies.
    Stopped { queue: u16, base: u32 },
    /// A command without a result of its own was carried out.
    Done,
    /// Not an answer: a ring has failed (its driver broke the rules), and nothing of it is served
    /// until it is started anew. In words, for the log and for `stats`.
    RingFailed { queue: u16, why: String },
    /// Not an answer: the connection cannot go on (guest memory vanished, the engine broke).
    Broken { why: String },
    /// Not an answer: the device wants its control side to look ([`crate::device::Host::ring`]).
    Rung,
    /// The worker has ended.
    Ended,
}
