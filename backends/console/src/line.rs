//! A port's host side: where peers come from, who is there, and what waits for them.

use framework::engine::Direction;
use rustix::io::Errno;
use serde_json::{Value, json};

use crate::backend::{Backend, LogFile, Opened, Peer};
use crate::backlog::Backlog;
use crate::counts::Counts;
use crate::port_spec::{Overflow, PortSpec};
use crate::readers::Reader;

/// A port's host side. It outlives the rings: a front-end may come and go.
#[derive(Debug)]
pub struct Line {
    /// What was asked for, in a few words.
    pub place: String,
    /// Where peers come from.
    pub backend: Backend,
    /// The one for whom output waits.
    pub peer: Option<Peer>,
    /// Who reads along.
    pub readers: Vec<Reader>,
    /// A file that gets all output.
    pub record: Option<LogFile>,
    /// What nobody has read yet, and the latest of what was.
    pub backlog: Backlog,
    /// What happens to output that nobody takes.
    pub overflow: Overflow,
    /// Bytes by fate.
    pub counts: Counts,
    /// Whether the guest makes a console of it.
    pub is_console: bool,
    keeps_log: bool,
    /// How many may be attached; more than one read along, and output waits for none of them.
    most: usize,
}

impl Line {
    /// A line with the settings of `spec`; `default` is what happens to its output if the
    /// user has not said so.
    pub fn new(spec: &PortSpec, default: Overflow, opened: Opened) -> Self {
        let log = usize::try_from(spec.log).unwrap_or(0) << 10;
        let keeps_log = log > 0;
        let Opened { backend, peer, record } = opened;
        // Whoever comes to one that needs nobody is not to hold it up.
        let is_sink = matches!(backend, Backend::Sink);
        let default = if is_sink { Overflow::DropOldest } else { default };
        let mut line = Line {
            place: spec.backend.describe(),
            backend,
            peer: None,
            readers: Vec::new(),
            record,
            backlog: Backlog::new(log.max(Backlog::LEAST), keeps_log),
            overflow: spec.overflow(default),
            counts: Counts::default(),
            is_console: false,
            keeps_log,
            most: spec.readers.into(),
        };
        if let Some(peer) = peer {
            line.attach(peer);
        }
        line
    }

    /// Whether somebody is there who does more than look on.
    pub fn is_attached(&self) -> bool {
        self.peer.is_some() || self.companions() > 0
    }

    fn companions(&self) -> usize {
        self.readers.iter().filter(|reader| !reader.looks_on).count()
    }

    /// Whether one more may come.
    pub fn has_room(&self) -> bool {
        if self.most > 1 { self.companions() < self.most } else { self.peer.is_none() }
    }

    /// Somebody has come.
    pub fn attach(&mut self, peer: Peer) {
        if self.most > 1 {
            return self.join(peer, false);
        }
        self.counts.attached += 1;
        if self.keeps_log {
            self.backlog.rewind();
        }
        self.peer = Some(peer);
    }

    /// Somebody reads along from now on.
    pub fn join(&mut self, peer: Peer, looks_on: bool) {
        self.counts.attached += 1;
        self.readers.push(Reader::new(peer, looks_on, &mut self.backlog));
        if !looks_on {
            // What waited for somebody has found one.
            self.backlog.settle();
        }
    }

    /// One who reads along has left.
    pub fn leave(&mut self, index: usize) {
        if index < self.readers.len() {
            self.readers.remove(index);
            self.counts.detached += 1;
        }
        if self.readers.is_empty() {
            self.backlog.unfollow();
        }
    }

    /// Whoever is attached has left, or is sent away; who looks on stays.
    pub fn detach(&mut self) {
        let before = self.readers.len() + usize::from(self.peer.is_some());
        self.peer = None;
        self.readers.retain(|reader| reader.looks_on);
        self.counts.detached += (before - self.readers.len()) as u64;
        if self.goes_past() {
            self.counts.discarded += self.backlog.settle() as u64;
        }
        if self.readers.is_empty() {
            self.backlog.unfollow();
        }
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

    /// Whether the guest may write: somebody reads, nobody need to, or what nobody reads is dropped in
    /// the end.
    pub fn is_open(&self) -> bool {
        self.is_attached() || self.goes_past() || self.overflow == Overflow::DropOldest
    }

    /// Whether output waits for nobody, unless there is a peer: others read along, or nobody need to.
    pub fn goes_past(&self) -> bool {
        matches!(self.backend, Backend::Sink) || self.companions() > 0
    }

    /// Whether output that is not kept for the peer goes anywhere else.
    pub fn is_copied(&self) -> bool {
        self.record.is_some() || self.backlog.keeps_delivered()
    }

    /// Output that is kept for whoever is to have it.
    pub fn keep(&mut self, bytes: &[u8]) {
        self.write_down(bytes);
        self.backlog.push(bytes);
        self.pass_on();
    }

    /// Output that the peer has already, or that needs none.
    pub fn pass(&mut self, bytes: &[u8]) {
        self.write_down(bytes);
        self.backlog.record(bytes);
        self.pass_on();
    }

    /// Gives those who read along what is new, so that only who is slow misses any of it.
    fn pass_on(&mut self) {
        for reader in &mut self.readers {
            reader.give(&self.backlog, &mut self.counts.to_readers);
        }
    }

    fn write_down(&mut self, bytes: &[u8]) {
        if let Some(file) = &mut self.record {
            let lost = file.append(bytes);
            self.counts.lost += lost;
            self.counts.recorded += bytes.len() as u64 - lost;
        }
    }

    /// Bytes that the file does not get, for want of time.
    pub fn lose(&mut self, count: usize) {
        if let Some(file) = self.record.as_mut().filter(|_| count > 0) {
            file.skip(count as u64);
            self.counts.lost += count as u64;
        }
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

    /// Whose screen counts: that of the one who came last.
    pub fn screen_of(&self) -> Option<&Peer> {
        let companion = self.readers.iter().rev().find(|reader| !reader.looks_on);
        companion.map(|reader| &reader.peer).or(self.peer.as_ref())
    }

    /// What `stats` and `ports` show of it.
    pub fn describe(&self) -> Value {
        json!({
            "backend": self.place,
            "terminal": self.backend.path(),
            "attached": self.is_attached(),
            "readers": self.readers.len(),
            "overflow": self.overflow,
            "waiting_bytes": self.backlog.pending(),
            "dropped_bytes": self.backlog.dropped(),
            "counts": self.counts,
        })
    }
}
