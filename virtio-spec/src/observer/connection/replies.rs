//! The answers that a back-end owes, in the order of the requests.

use super::super::clause::vhost_user::*;
use super::super::violation::Findings;
use super::rules::{Answer, number};
use crate::vhost_user::{
    ConfigHeader, FrontendRequest, Inflight, MessageFlags, VERSION, VringState,
};
use std::collections::VecDeque;

/// Bit of the answer to SET_DEVICE_STATE_FD: no descriptor comes with it.
const NO_FD: u64 = 1 << 8;
/// Bits of that answer that tell an error.
const ERROR_MASK: u64 = 0xff;

/// A request whose answer has not come.
#[derive(Debug, Clone)]
pub(super) struct Owed {
    /// Number of the request on this connection.
    pub(super) serial: u64,
    pub(super) request: FrontendRequest,
    pub(super) answer: Answer,
    /// The answer is an acknowledgement that was asked for.
    pub(super) is_ack: bool,
    /// The request's payload, against which the answer is judged.
    pub(super) payload: Vec<u8>,
}

/// An answer as it came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Came<'a> {
    pub(super) request: u32,
    pub(super) flags: MessageFlags,
    pub(super) payload: &'a [u8],
    pub(super) fds: usize,
}

/// All answers that are owed.
#[derive(Debug, Default)]
pub(super) struct Replies(VecDeque<Owed>);

impl Replies {
    pub(super) fn owe(&mut self, owed: Owed) {
        self.0.push_back(owed);
    }

    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    /// Judges an answer; returns the request that it answers.
    pub(super) fn came(&mut self, came: Came<'_>, findings: &mut Findings) -> Option<Owed> {
        let Some(owed) = self.0.pop_front() else {
            findings.breach(&REPLY_UNASKED, format!("an answer to request {} came", came.request));
            return None;
        };
        findings.check(came.request == owed.request.number(), &REPLY_REQUEST, || {
            format!("{} was answered with request {}", owed.request.name(), came.request)
        });
        let flags = came.flags.version() == VERSION && came.flags.is_reply();
        findings.check(flags, &REPLY_FLAGS, || format!("flags are {:#x}", came.flags.bits()));
        owed.judge(came, findings);
        Some(owed)
    }

    pub(super) fn quiesce(&mut self, findings: &mut Findings) {
        for owed in self.0.drain(..) {
            let clause = if owed.is_ack { &ACK_DUE } else { &REPLY_DUE };
            findings.breach(clause, format!("{} was not answered", owed.request.name()));
        }
    }
}

impl Owed {
    fn judge(&self, came: Came<'_>, findings: &mut Findings) {
        match self.answer {
            Answer::Config => self.judge_config(came, findings),
            Answer::Base => self.judge_base(came, findings),
            Answer::DeviceState => self.judge_device_state(came, findings),
            _ => {}
        }
        let len = came.payload.len();
        let size_fits = match self.answer {
            Answer::None | Answer::Number | Answer::DeviceState => len == size_of::<u64>(),
            Answer::LogBase => [0, size_of::<u64>(), crate::vhost_user::Log::SIZE].contains(&len),
            Answer::Base => len == VringState::SIZE,
            // A packed structure is answered with a packed one.
            Answer::Inflight => len == Inflight::SIZE || len == self.payload.len(),
            Answer::Config | Answer::Other => true,
        };
        findings.check(size_fits, &REPLY_SIZE, || {
            format!("{} was answered with {len} bytes", self.request.name())
        });
        let fds_fit = match self.answer {
            Answer::Inflight => {
                let region = Inflight::from_payload(came.payload);
                came.fds == usize::from(region.is_some_and(|region| region.mmap_size != 0))
            }
            Answer::DeviceState => {
                let absent = number(came.payload).is_some_and(|value| value & NO_FD != 0);
                came.fds == usize::from(!absent)
            }
            Answer::Other => true,
            _ => came.fds == 0,
        };
        findings.check(fds_fit, &REPLY_FDS, || {
            format!("{} was answered with {} descriptors", self.request.name(), came.fds)
        });
    }

    fn judge_config(&self, came: Came<'_>, findings: &mut Findings) {
        let Some(asked) = ConfigHeader::from_prefix(&self.payload) else { return };
        let whole = ConfigHeader::SIZE + asked.size as usize;
        let fits = came.payload.is_empty() || came.payload.len() == whole;
        findings.check(fits, &CONFIG_REPLY_SIZE, || {
            format!("{whole} bytes were asked for, {} came", came.payload.len())
        });
        if let Some(header) = ConfigHeader::from_prefix(came.payload) {
            let same = (header.offset, header.size) == (asked.offset, asked.size);
            findings.check(same, &CONFIG_REPLY_RANGE, || format!("{asked:?} got {header:?}"));
        }
    }

    fn judge_base(&self, came: Came<'_>, findings: &mut Findings) {
        let asked = VringState::from_prefix(&self.payload);
        if let Some((asked, base)) = asked.zip(VringState::from_prefix(came.payload)) {
            findings.check(asked.index == base.index, &BASE_INDEX, || {
                format!("ring {} was asked for, ring {} answered", asked.index, base.index)
            });
        }
    }

    fn judge_device_state(&self, came: Came<'_>, findings: &mut Findings) {
        let failed = number(came.payload).is_some_and(|value| value & ERROR_MASK != 0);
        findings.check(!(failed && came.fds > 0), &DEVICE_STATE_REPLY, || {
            "an error came with a descriptor".to_owned()
        });
    }
}
