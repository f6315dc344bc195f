//! Requests that have begun and not ended.
//!
//! A request is made of steps, each of them one operation: a transfer that came out short has a
//! second one, a discard of three ranges has three. `start` begins the next step, `ended` takes its
//! result and says whether that was the last; `run` does both for as long as steps end at once. No
//! step waits.

use framework::engine::{Io, Op, Submitted, Token};
use framework::ring::{Chain, Ring};
use rustix::io::Errno;
use virtio_spec::block::Status;

use crate::disk::{Disk, MAIN};
use crate::erase::Erase;
use crate::transfer::Transfer;

/// How often one request may be interrupted, or find the kernel busy, and try again.
const MAX_TRIES: u8 = 16;

/// The most steps of one request in one go.
const MAX_STEPS: usize = 32;

/// A chain with an operation under way, or waiting for a buffer.
#[derive(Debug)]
#[must_use = "its chain would never be completed"]
pub(crate) struct Pending {
    pub(crate) chain: Chain,
    work: Work,
    tries: u8,
}

/// What is being done for a request.
#[derive(Debug)]
pub(crate) enum Work {
    /// Nothing more: so many bytes were written to the guest already.
    Answered(u32),
    /// Reading or writing.
    Transfer(Transfer),
    /// Making writes durable.
    Flush,
    /// Discarding, zeroing, erasing.
    Erase(Erase),
}

/// What became of a step's beginning.
#[derive(Debug)]
pub(crate) enum Started {
    /// It has ended already.
    Now(Result<u32, Errno>),
    /// Its completion follows.
    Later,
    /// It needs a buffer, and all are lent.
    NoBuffer,
    /// There is nothing more to do.
    Finished(Status),
}

/// Why a request does not go on now.
#[derive(Debug)]
pub(crate) enum Pause {
    /// It is done.
    Finished(Status),
    /// A completion follows.
    Operation,
    /// All buffers are lent.
    NoBuffer,
    /// It had many steps in a row: it is others' turn.
    Turn,
}

impl From<Submitted> for Started {
    fn from(submitted: Submitted) -> Self {
        match submitted {
            Submitted::Now(result) => Started::Now(result),
            Submitted::Later => Started::Later,
        }
    }
}

/// What a step does its work with.
pub(crate) struct Tools<'a, I> {
    pub(crate) disk: &'a Disk,
    pub(crate) ring: &'a mut Ring,
    pub(crate) io: &'a mut I,
    pub(crate) token: Token,
}

impl Pending {
    pub(crate) fn new(chain: Chain, work: Work) -> Self {
        Pending { chain, work, tries: 0 }
    }

    /// Goes on for as long as steps end at once.
    #[inline]
    pub(crate) fn run<I: Io>(&mut self, tools: &mut Tools<'_, I>) -> Pause {
        for _ in 0..MAX_STEPS {
            let status = match self.start(tools) {
                Started::Later => return Pause::Operation,
                Started::NoBuffer => return Pause::NoBuffer,
                Started::Now(result) => self.ended(tools, result),
                Started::Finished(status) => Some(status),
            };
            if let Some(status) = status {
                return Pause::Finished(status);
            }
        }
        Pause::Turn
    }

    /// Begins the next step.
    #[inline]
    fn start<I: Io>(&mut self, tools: &mut Tools<'_, I>) -> Started {
        match &mut self.work {
            Work::Transfer(transfer) => transfer.start(tools, &self.chain),
            Work::Flush => tools.io.submit(&Op::Sync { file: MAIN }, tools.token).into(),
            Work::Erase(erase) => erase.start(tools),
            Work::Answered(_) => Started::Finished(Status::Ok),
        }
    }

    /// A step has ended with `result`; gives the request's status if it was the last.
    pub(crate) fn ended<I: Io>(
        &mut self,
        tools: &mut Tools<'_, I>,
        result: Result<u32, Errno>,
    ) -> Option<Status> {
        let result = match result {
            Err(Errno::INTR | Errno::AGAIN) if self.tries < MAX_TRIES => {
                self.tries += 1;
                self.give_back(tools.io);
                return None;
            }
            other => other,
        };
        match &mut self.work {
            Work::Transfer(transfer) => transfer.ended(tools, &self.chain, result),
            Work::Erase(erase) => erase.ended(tools, result),
            Work::Flush | Work::Answered(_) => Some(match result {
                Ok(_) => Status::Ok,
                Err(errno) => {
                    tools.disk.complain("flush", 0, errno);
                    Status::IoErr
                }
            }),
        }
    }

    /// Gives back the buffer that the last step was lent, if it was.
    pub(crate) fn give_back<I: Io>(&mut self, io: &mut I) {
        let buffer = match &mut self.work {
            Work::Transfer(transfer) => transfer.buffer.take(),
            Work::Erase(erase) => erase.buffer.take(),
            Work::Flush | Work::Answered(_) => None,
        };
        if let Some(buffer) = buffer {
            io.bounce().give_back(buffer);
        }
    }

    /// The chain to complete, and what was done for it.
    pub(crate) fn into_parts(self) -> (Chain, Work) {
        (self.chain, self.work)
    }
}
