//! A port's host side: where peers come from, who is there, and what waits for them.

use framework::engine::Direction;
use framework::program::rate_limit::{self, RateLimit};
use rustix::io::Errno;
use serde_json::{Value, json};

use crate::backend::{Backend, Peer};
use crate::backlog::Backlog;
use crate::counts::Counts;
use crate::port_spec::{Overflow, PortSpec};

/// A port's host side. It outlives the rings: a front-end may come and go.
#[derive(Debug)]
pub struct Line {
    /// What was asked for, in a few words.
    pub place: String,
    /// Where peers come from.
    pub backend: Backend,
    /// Who is there.
    pub peer: Option<Peer>,
    /// What nobody has read yet, and the latest of what was.
    pub backlog: Backlog,
    /// What happens to output that nobody takes.
    pub overflow: Overflow,
    /// Bytes by fate.
    pub counts: Counts,
    /// Whether output is kept for whoever attaches later.
    pub keeps_log: bool,
}

impl Line {
    /// A line with the settings of `spec`; `default` is what happens to its output if the
    /// user has not said so.
    pub fn new(spec: &PortSpec, default: Overflow, backend: Backend, peer: Option<Peer>) -> Self {
        let log = usize::try_from(spec.log).unwrap_or(0) << 10;
        let keeps_log = log > 0;
        let mut line = Line {
            place: spec.backend.describe(),
            backend,
            peer: None,
            backlog: Backlog::new(log.max(Backlog::LEAST), keeps_log),
            overflow: spec.overflow.unwrap_or(default),
            counts: Counts::default(),
            keeps_log,
        };
        if let Some(peer) = peer {
            line.attach(peer);
        }
        line
    }

    /// A line on which nobody is, until somebody is brought.
    pub fn waiting(overflow: Overflow) -> Self {
        Line {
            place: "waiting".to_owned(),
            backend: Backend::Fixed,
            peer: None,
            backlog: Backlog::new(Backlog::LEAST, false),
            overflow,
            counts: Counts::default(),
            keeps_log: false,
        }
    }

    /// Somebody has come.
    pub fn attach(&mut self, peer: Peer) {
        self.counts.attached += 1;
        if self.keeps_log {
            self.backlog.rewind();
        }
        self.peer = Some(peer);
    }

    /// Whoever is there has left, or is sent away.
    pub fn detach(&mut self) {
        self.peer = None;
    }

    /// Reading or writing has come to an end. True: so has the peer; else it goes on with the other.
    pub fn ended(&mut self, direction: Direction) -> bool {
        let Some(peer) = self.peer.as_mut().filter(|peer| !peer.ends_with_input) else {
            return true;
        };
        match direction {
            Direction::Readable => peer.input = None,
            Direction::Writable => peer.output = None,
        }
        false
    }

    /// Whether the guest may write: somebody reads, or what nobody reads is dropped in the end.
    pub fn is_open(&self) -> bool {
        self.peer.is_some() || self.overflow == Overflow::DropOldest
    }

    /// Gives the peer what waits for it.
    ///
    /// # Errors
    /// [`Errno::AGAIN`] when it takes no more now; anything else when it is gone.
    pub fn flush(&mut self) -> Result<(), Errno> {
        let Some(peer) = &self.peer else { return Ok(()) };
        while self.backlog.is_pending() {
            let written = peer.write(self.backlog.next_part())?;
            if written == 0 {
                return Err(Errno::AGAIN);
            }
            self.backlog.advance(written);
            self.counts.to_host += written as u64;
        }
        Ok(())
    }

    /// What `stats` and `ports` show of it.
    pub fn describe(&self) -> Value {
        json!({
            "backend": self.place,
            "terminal": self.backend.path(),
            "attached": self.peer.is_some(),
            "overflow": self.overflow,
            "waiting_bytes": self.backlog.pending(),
            "dropped_bytes": self.backlog.dropped(),
            "counts": self.counts,
        })
    }
}

impl Line {
    /// A file takes no more: what was for it is lost, and the guest goes on.
    pub(crate) fn give_up(&mut self, errno: Errno) {
        static REPORTS: RateLimit = RateLimit::new(1, std::time::Duration::from_secs(60));
        if let Some(suppressed) = REPORTS.admit(rate_limit::now()) {
            tracing::warn!(%errno, suppressed, backend = self.place, "output is lost");
        }
        self.counts.lost += self.backlog.pending() as u64;
        while self.backlog.is_pending() {
            let length = self.backlog.next_part().len();
            self.backlog.advance(length);
        }
    }
}
