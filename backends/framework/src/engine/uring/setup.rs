//! Making an io_uring that can do what this engine needs, and nothing else.

use std::io;

use io_uring::register::Restriction;
use io_uring::squeue::Flags;
use io_uring::{IoUring, opcode};

use crate::engine::Config;

/// `IORING_REGISTER_FILES_UPDATE`, the one thing that is registered after the ring has been enabled.
const REGISTER_FILES_UPDATE: u8 = 6;

/// Every operation that the engine ever submits.
const OPCODES: [u8; 9] = [
    opcode::Read::CODE,
    opcode::Readv::CODE,
    opcode::Write::CODE,
    opcode::Writev::CODE,
    opcode::Fsync::CODE,
    opcode::Fallocate::CODE,
    opcode::UringCmd16::CODE,
    opcode::PollAdd::CODE,
    opcode::PollRemove::CODE,
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
    const FIRST_KICK: u32 = 2;

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

/// An io_uring of the calling thread, enabled, with an empty table of files.
///
/// Its submissions and completions are handled by this thread alone and only when it asks for them
/// (SINGLE_ISSUER, DEFER_TASKRUN); TASKRUN_FLAG tells a thread that does not wait when to ask.
///
/// # Errors
/// The kernel has no io_uring, forbids it, or has one that is too old (Linux 6.1 is the first).
pub(super) fn make(config: &Config) -> io::Result<IoUring> {
    let operations = u32::from(config.operations);
    let watches = u32::from(config.queues) + 2;
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
    submitter.register_files_sparse(Slots::new(config.queues).count())?;
    if config.restricted {
        submitter.register_restrictions(&mut restrictions())?;
    }
    submitter.register_enable_rings()?;
    Ok(ring)
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
