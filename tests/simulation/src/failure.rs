//! What a simulation can find to be wrong.

/// Why a run failed: what the system under test did wrong, but for [`Failure::Simulator`].
#[derive(Clone, Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message names its fields")]
pub enum Failure {
    /// A read gave what was not there.
    #[error("request #{request} read {found} from sector {sector}, where {allowed} can be")]
    WrongData { request: u32, sector: u64, found: String, allowed: String },
    /// After everything has ended the disk does not hold what was written.
    #[error("in the end sector {sector} holds {found}, where {allowed} can be")]
    WrongDisk { sector: u64, found: String, allowed: String },
    /// A power loss took what a flush or a durable write had promised.
    #[error("after a power loss sector {sector} holds {found}, where {allowed} can be")]
    NotDurable { sector: u64, found: String, allowed: String },
    /// A request ended in a way for which there was no reason.
    #[error("request #{request}, {operation}, ended with status {status}")]
    Status { request: u32, operation: String, status: u8 },
    /// The wrong serial, or the wrong configuration.
    #[error("{what} is {found}, not {expected}")]
    Answer { what: &'static str, found: String, expected: String },
    /// The driver found that the device broke the rules; among others, that a request ended twice.
    #[error("ring {ring}: {error}")]
    Driver { ring: u16, error: String },
    /// A ring of a driver that breaks no rule failed.
    #[error("ring {ring} failed: {why}")]
    RingFailed { ring: u16, why: String },
    /// A ring in which a driver broke a rule did not fail.
    #[error("ring {ring} makes no sense, and the back-end has not noticed")]
    Unnoticed { ring: u16 },
    /// The session ended the connection of a front-end that breaks no rule.
    #[error("the connection ended at {during}: {error}")]
    Disconnected { during: String, error: String },
    /// A message was refused that is in order.
    #[error("{message} was refused")]
    Refused { message: String },
    /// An answer of the wrong kind, or where there should be none, or none where there should be one.
    #[error("{message} was answered with {reply}")]
    WrongReply { message: String, reply: String },
    /// A worker went to sleep while there was something to do.
    #[error(
        "worker {worker} went to sleep while a ring had chains for it, or a command was undone"
    )]
    Overslept { worker: u16 },
    /// REM_MEM_REG was answered too early.
    #[error("REM_MEM_REG was answered while request #{request} used the region")]
    StillInUse { request: u32 },
    /// Memory was written that the back-end had to leave alone.
    #[error("byte {offset:#x} of a region that was taken away has changed")]
    Touched { offset: usize },
    /// Something never came to its end.
    #[error("nothing moves any more, and {what}")]
    Hang { what: String },
    /// A request has ended, and the driver was never called for it.
    #[error("ring {ring} has used {requests:?}, and the driver was not called")]
    Uncalled { ring: u16, requests: Vec<u32> },
    /// The conformance observer saw a clause broken.
    #[error("{what}")]
    Violation { clause: String, what: String },
    /// The system under test panicked.
    #[error("panic: {0}")]
    Panicked(String),
    /// The simulator itself cannot go on: a mistake of its own, or no memory.
    #[error("the simulator: {0}")]
    Simulator(String),
}

impl Failure {
    /// Whether this is the same kind of failure: what shrinking keeps.
    pub fn is_like(&self, other: &Failure) -> bool {
        match (self, other) {
            (Failure::Violation { clause, .. }, Failure::Violation { clause: other, .. }) => {
                clause == other
            }
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

impl From<driver::Error> for Failure {
    fn from(error: driver::Error) -> Self {
        match error {
            driver::Error::Violation(violation) => Failure::Violation {
                clause: violation.clause.id.into(),
                what: violation.to_string(),
            },
            other => Failure::Simulator(other.to_string()),
        }
    }
}
