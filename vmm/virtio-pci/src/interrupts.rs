//! From an event to a message: sources, the vectors that they are mapped to, and when a vector
//! delivers.
//!
//! A *source* is what the device signals: the configuration change, or the call of one queue. Its
//! eventfd never changes, nor does the interrupt line that it is connected to while its vector may
//! deliver (MSI-X enabled, neither it nor the function masked); the line sends the message of that
//! vector, without a detour. Otherwise the eventfd is disconnected and only counts; that count
//! is the pending bit. Connecting again delivers what has been counted, as one message.
//!
//! Lines belong to sources and not to vectors because several sources may share a vector, while a
//! line takes one eventfd.
//!
//! So there is no state in which an event could be lost between being noted and being delivered,
//! and masking needs no lock that a call would have to take.

use std::os::fd::AsFd;
use std::sync::Arc;

use hypervisor::{Gsi, Machine, Msi};

use crate::capability::MsixControl;
use crate::error::Error;
use crate::event::Event;
use crate::msix_table::MsixTable;

/// What an event without a vector is mapped to (virtio 1.4, 4.1.5.1.2).
pub(crate) const NO_VECTOR: u16 = 0xffff;

/// The source of configuration changes; queue `n` is source `n + 1`.
pub(crate) const CONFIG: usize = 0;

/// The source of a queue's calls.
pub(crate) fn queue_source(index: u16) -> usize {
    usize::from(index) + 1
}

/// The interrupts of one function.
pub(crate) struct Interrupts {
    machine: Arc<dyn Machine>,
    control: MsixControl,
    table: MsixTable,
    sources: Vec<Source>,
    complained: bool,
}

#[derive(Debug)]
struct Source {
    event: Arc<Event>,
    line: Gsi,
    /// The vector that it is mapped to, or none.
    vector: u16,
    /// The message that the line was last given.
    routed: Option<Msi>,
    /// The event is connected to the line.
    connected: bool,
}

impl Interrupts {
    /// Interrupts with as many vectors as sources, none of which is mapped.
    pub(crate) fn new(machine: Arc<dyn Machine>, events: Vec<Arc<Event>>) -> Result<Self, Error> {
        let vectors = events.len();
        let lines = machine
            .allocate_vectors(vectors)
            .map_err(|source| Error::Vectors { vectors, source })?;
        let source = |(event, line)| Source {
            event,
            line,
            vector: NO_VECTOR,
            routed: None,
            connected: false,
        };
        Ok(Self {
            machine,
            control: MsixControl::default(),
            table: MsixTable::new(u16::try_from(vectors).unwrap_or(u16::MAX)),
            sources: events.into_iter().zip(lines).map(source).collect(),
            complained: false,
        })
    }

    /// The switches of the whole function have changed.
    pub(crate) fn set_control(&mut self, control: MsixControl) {
        if self.control != control {
            self.control = control;
            self.settle();
        }
    }

    /// Whether the function signals by messages.
    pub(crate) fn enabled(&self) -> bool {
        self.control.enabled
    }

    /// Maps a source to a vector. A vector that does not exist is a failure, which shows as
    /// NO_VECTOR (virtio 1.4, 4.1.5.1.2.1).
    ///
    /// What happened while the source had no vector was not to be delivered, and is not now.
    pub(crate) fn map(&mut self, source: usize, vector: u16) {
        let exists = usize::from(vector) < self.table.len();
        if let Some(source) = self.sources.get_mut(source) {
            if source.vector == NO_VECTOR {
                source.event.take();
            }
            source.vector = if exists { vector } else { NO_VECTOR };
        }
        self.settle();
    }

    /// The vector of a source.
    pub(crate) fn vector(&self, source: usize) -> u16 {
        self.sources.get(source).map_or(NO_VECTOR, |source| source.vector)
    }

    /// Takes the vector from a source, and forgets what it signalled.
    pub(crate) fn forget(&mut self, source: usize) {
        self.map(source, NO_VECTOR);
        if let Some(source) = self.sources.get(source) {
            source.event.take();
        }
    }

    /// As [`Interrupts::forget`], for all of them.
    pub(crate) fn forget_all(&mut self) {
        for source in &mut self.sources {
            source.vector = NO_VECTOR;
        }
        self.settle();
        for source in &self.sources {
            source.event.take();
        }
    }

    /// The table and the switches as after power-on.
    pub(crate) fn reset(&mut self) {
        self.table = MsixTable::new(u16::try_from(self.table.len()).unwrap_or(u16::MAX));
        self.control = MsixControl::default();
        self.settle();
    }

    /// Reads the table.
    pub(crate) fn read_table(&self, offset: usize, into: &mut [u8]) {
        self.table.read(offset, into);
    }

    /// The guest writes the table.
    pub(crate) fn write_table(&mut self, offset: usize, bytes: &[u8]) {
        self.table.write(offset, bytes);
        self.settle();
    }

    /// Reads the pending bits: one for each vector, in words of 64 (PCI 3.0, 6.8.2.10).
    pub(crate) fn read_pending(&self, offset: usize, into: &mut [u8]) {
        let mut bits = vec![0_u8; self.table.len().div_ceil(64) * 8];
        for source in self.waiting() {
            if let Some(byte) = bits.get_mut(usize::from(source.vector / 8)) {
                *byte |= 1 << (source.vector % 8);
            }
        }
        into.fill(0);
        for (to, &from) in into.iter_mut().zip(bits.iter().skip(offset)) {
            *to = from;
        }
    }

    /// Takes what the queues have signalled while there are no messages (virtio 1.4, 4.1.4.5).
    pub(crate) fn take_calls(&self) -> bool {
        self.calls().filter(|source| source.event.take()).count() > 0
    }

    /// Whether a queue has signalled something that was not taken.
    pub(crate) fn has_calls(&self) -> bool {
        self.calls().any(|source| source.event.is_signalled())
    }

    fn calls(&self) -> impl Iterator<Item = &Source> {
        self.sources.iter().skip(CONFIG + 1)
    }

    /// Sources whose vector is masked and has something to deliver.
    fn waiting(&self) -> impl Iterator<Item = &Source> {
        self.sources.iter().filter(|source| {
            source.vector != NO_VECTOR && !source.connected && source.event.is_signalled()
        })
    }

    /// Makes the connections what registers and table now ask for: first nothing is connected
    /// that should not be, then the lines get their messages, then the rest is connected.
    fn settle(&mut self) {
        for at in 0..self.sources.len() {
            self.disconnect_if_muted(at);
        }
        self.route();
        let due: Vec<usize> = (0..self.sources.len()).filter(|&at| self.is_due(at)).collect();
        self.merge_pending(&due);
        for at in due {
            self.connect(at);
        }
    }

    /// A vector has one pending bit, however many sources are mapped to it: of those that are about
    /// to be connected, one keeps what it has to say. None of them speaks before that is done, so
    /// the message comes after everything that it stands for.
    fn merge_pending(&self, due: &[usize]) {
        let mut spoken_for = vec![false; self.table.len()];
        for source in due.iter().filter_map(|&at| self.sources.get(at)) {
            match spoken_for.get_mut(usize::from(source.vector)) {
                Some(true) => {
                    source.event.take();
                }
                Some(spoken_for) => *spoken_for = source.event.is_signalled(),
                None => {}
            }
        }
    }

    /// Whether a source's events are to be delivered as they come.
    fn delivers(&self, source: &Source) -> bool {
        let on = self.control.enabled && !self.control.masked;
        on && source.vector != NO_VECTOR && !self.table.is_masked(source.vector)
    }

    /// Whether a source is to be connected and is not.
    fn is_due(&self, at: usize) -> bool {
        self.sources.get(at).is_some_and(|source| !source.connected && self.delivers(source))
    }

    fn disconnect_if_muted(&mut self, at: usize) {
        let muted = |source: &&Source| source.connected && !self.delivers(source);
        let Some(source) = self.sources.get(at).filter(muted) else { return };
        let outcome = self.machine.disconnect_call(source.line, source.event.as_fd());
        self.set_connected(at, false);
        self.complain("disconnecting an interrupt", outcome);
    }

    fn connect(&mut self, at: usize) {
        let Some(source) = self.sources.get(at) else { return };
        let outcome = self.machine.connect_call(source.line, source.event.as_fd());
        self.set_connected(at, outcome.is_ok());
        self.complain("connecting an interrupt", outcome);
    }

    fn set_connected(&mut self, at: usize, connected: bool) {
        if let Some(source) = self.sources.get_mut(at) {
            source.connected = connected;
        }
    }

    /// Gives the lines that are in use, or about to be, the messages of their vectors: all in one
    /// call, which is expensive.
    fn route(&mut self) {
        let mut changes = Vec::new();
        for at in 0..self.sources.len() {
            let delivers = |source: &&Source| self.delivers(source);
            let Some(source) = self.sources.get(at).filter(delivers) else { continue };
            let message = self.table.message(source.vector);
            if message != source.routed {
                changes.push((source.line, message));
                if let Some(source) = self.sources.get_mut(at) {
                    source.routed = message;
                }
            }
        }
        if !changes.is_empty() {
            let outcome = self.machine.route_all(&changes);
            self.complain("routing interrupts", outcome);
        }
    }

    /// Says once that the hypervisor refused something: a guest can make it happen again.
    fn complain(&mut self, what: &str, outcome: hypervisor::Result<()>) {
        if let Err(error) = outcome
            && !self.complained
        {
            self.complained = true;
            tracing::warn!(%error, "{what} failed; the device may go unheard");
        }
    }
}
