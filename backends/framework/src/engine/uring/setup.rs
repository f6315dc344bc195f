//! Making io_urings that can do what this engine needs, and nothing else.

use std::io;

use io_uring::register::Restriction;
use io_uring::squeue::Flags;
use io_uring::{IoUring, opcode};

use crate::engine::Config;

/// `IORING_REGISTER_FILES_UPDATE`, the one thing that is registered after the ring has been enabled.
const REGISTER_FILES_UPDATE: u8 = 6;

/// Every operation that the engine ever submits.
const OPCODES: [u8; 10] = [
    opcode::Read::CODE,
    opcode::Readv::CODE,
    opcode::Write::CODE,
    opcode::Writev::CODE,
    opcode::Fsync::CODE,
    opcode::Fallocate::CODE,
    opcode::UringCmd16::CODE,
    opcode::PollAdd::CODE,
    opcode::PollRemove::CODE,
    opcode::AsyncCancel2::CODE,
];

/// Where things are in the table of registered files.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slots {
    queues: u16,
}

impl Slots {
    /// The connection thread's eventfd.
    pub(super) const COMMANDS: u32 = 0;
    /// The eventfd of the blocking pool.
    pub(super) const POOL: u32 = 1;
    /// The front-end's connection, which is only kept open.
    pub(super) const CONNECTION: u32 = 2;
    const FIRST_KICK: u32 = 3;

    pub(super) fn new(queues: u16) -> Self {
        Slots { queues }
    }

    /// The kick of a queue.
    pub(super) fn kick(self, queue: u16) -> u32 {
        Self::FIRST_KICK + u32::from(queue)
    }

    /// The device's file number `index`.
    pub(super) fn file(self, index: u16) -> u32 {
        self.kick(self.queues) + u32::from(index)
    }

    /// How many there are.
    pub(super) fn count(self) -> u32 {
        self.file(Config::MOST_FILES)
    }
}

/// An io_uring that was set aside for a worker before the process gave up the right to make any.
///
/// Its submissions and completions are handled by one thread alone and only when that asks for them
/// (SINGLE_ISSUER, DEFER_TASKRUN); TASKRUN_FLAG tells a thread that does not wait when to ask. It is
/// made disabled, with an empty table of files and its restrictions, and belongs to the thread that
/// enables it: the first on which a [`super::Uring`] uses it. It serves one engine after the other,
/// each of which leaves it as it was made.
pub struct ReservedRing {
    pub(super) ring: IoUring,
    state: State,
    queues: u16,
}

/// Where it is between its making and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Disabled,
    Clean,
    /// An engine uses it, or did and could not clean it.
    InUse,
}

impl ReservedRing {
    /// A ring for `queues` queues at most, and for `operations` in flight without detours.
    ///
    /// # Errors
    /// The kernel has no io_uring, forbids it, or has one that is too old (Linux 6.1 is the first).
    pub fn make(queues: u16, operations: u16, restricted: bool) -> io::Result<Self> {
        let operations = u32::from(operations);
        let watches = u32::from(queues) + 2;
        let mut builder = IoUring::builder();
        builder
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_clamp()
            .setup_r_disabled()
            // Multishot polls post as often as they like: room for several reports of each.
            .setup_cqsize(2 * operations.max(32) + 4 * watches)
            .dontfork();
        let ring = builder.build(operations.clamp(32, 1024))?;
        require_features(&ring)?;
        let submitter = ring.submitter();
        submitter.register_files_sparse(Slots::new(queues).count())?;
        if restricted {
            submitter.register_restrictions(&mut restrictions())?;
        }
        Ok(ReservedRing { ring, state: State::Disabled, queues })
    }

    /// Takes it into use on the calling thread.
    ///
    /// # Errors
    /// It belongs to another thread, has room for fewer queues, or was left with something in it.
    pub(super) fn begin(&mut self, queues: u16) -> io::Result<()> {
        if self.state == State::InUse || queues > self.queues {
            return Err(io::Error::other("the io_uring set aside for this worker does not fit"));
        }
        if self.state == State::Disabled {
            self.ring.submitter().register_enable_rings()?;
        }
        self.state = State::InUse;
        Ok(())
    }

    /// Tries an operation that no engine needs.
    #[cfg(test)]
    pub(crate) fn try_nop(&mut self) -> Result<(), rustix::io::Errno> {
        self.begin(self.queues).unwrap();
        let nop = opcode::Nop::new().build().flags(Flags::FIXED_FILE);
        super::queue::push_for_test(&mut self.ring, &nop);
        self.ring.submit_and_wait(1).unwrap();
        let result = self.ring.completion().next().unwrap().result();
        if result < 0 { Err(rustix::io::Errno::from_raw_os_error(-result)) } else { Ok(()) }
    }

    /// Notes that it is as it was made: no operation, no watch, no file.
    pub(super) fn end(&mut self) {
        self.state = State::Clean;
    }
}

/// Only these operations, only on registered files; and no more of `io_uring_register` than it takes
/// to change which files those are.
fn restrictions() -> Vec<Restriction> {
    let fixed = Flags::FIXED_FILE.bits();
    OPCODES
        .into_iter()
        .map(Restriction::sqe_op)
        .chain([
            Restriction::sqe_flags_allowed(fixed),
            Restriction::sqe_flags_required(fixed),
            Restriction::register_op(REGISTER_FILES_UPDATE),
        ])
        .collect()
}

fn require_features(ring: &IoUring) -> io::Result<()> {
    let params = ring.params();
    let features = [
        (params.is_feature_nodrop(), "may drop completions"),
        (params.is_feature_submit_stable(), "reads iovecs after submission"),
        (params.is_feature_ext_arg(), "cannot wait with a time limit"),
    ];
    match features.into_iter().find(|(present, _)| !present) {
        None => Ok(()),
        Some((_, lack)) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("this kernel's io_uring {lack}"),
        )),
    }
}
