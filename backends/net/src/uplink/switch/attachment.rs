//! A queue pair at a port of a switch, as its worker has it.

use framework::engine::{Direction, FileIndex, Io};
use framework::ring::{Chain, Ring};

use std::sync::Arc;

use super::delivery::Waiting;
use super::outlet::{Mail, Outlet, Share};
use super::parcel::Parcel;
use super::{Port, Routes};
use crate::counts::Counts;
use crate::deliver::Fate;
use crate::transmit::{Checked, check, next};
use crate::view::View;

/// The bell is the worker's first file.
const BELL: FileIndex = FileIndex(0);

/// A queue pair at a port.
#[derive(Debug)]
pub(crate) struct Attachment {
    port: Port,
    pair: u16,
    outlet: Arc<Outlet>,
    mail: Mail,
    /// How many frames of the first share are dealt with.
    done: usize,
    waiting: Waiting,
    /// Parcels that others read, and their chains.
    outside: Vec<(u64, Vec<Chain>)>,
    sent: u64,
    routes: Routes,
    open: bool,
}

/// What is sent at once.
struct Batch {
    parcel: Parcel,
    chains: Vec<Chain>,
    bytes: usize,
}

impl Attachment {
    /// Takes this pair's place at a port. None: there is no such place.
    pub(crate) fn new(port: Port, pair: u16) -> Option<Self> {
        let outlet = Arc::clone(port.outlet(pair)?);
        Some(Attachment {
            port,
            pair,
            outlet,
            mail: Mail::default(),
            done: 0,
            waiting: Waiting::default(),
            outside: Vec::new(),
            sent: 0,
            routes: Routes::default(),
            open: false,
        })
    }

    /// The bell was rung.
    pub(crate) fn heard(&self) {
        self.outlet.heard();
    }

    /// Hands what the guest transmits to other ports.
    pub(crate) fn transmit(&mut self, ring: &mut Ring, view: &View, counts: &Counts) {
        let mut batch = self.batch();
        for _ in 0..view.budget.transmit {
            let Some(chain) = next(ring) else { break };
            let Checked::Good(header, length) = check(ring, &chain, view) else {
                counts.tx_malformed.add(1);
                ring.complete(chain, 0);
                continue;
            };
            let mut place = ring.hold(&chain, batch.parcel.held());
            if place.is_none() || batch.parcel.is_full() {
                // The guest's memory has just been replaced, or there is no more room.
                self.send(std::mem::replace(&mut batch, self.batch()), counts);
                place = ring.hold(&chain, batch.parcel.held());
            }
            batch.parcel.add(header, length, place.unwrap_or_default());
            batch.chains.push(chain);
            batch.bytes += length;
        }
        ring.stats().bytes_read.add(self.send(batch, counts));
        self.complete(ring);
    }

    fn batch(&self) -> Batch {
        let home = Some((Arc::clone(&self.outlet), self.sent));
        Batch { parcel: Parcel::new(home), chains: Vec::new(), bytes: 0 }
    }

    /// Sends a batch; says how many bytes.
    fn send(&mut self, Batch { parcel, chains, bytes }: Batch, counts: &Counts) -> u64 {
        let frames = chains.len();
        self.outside.push((self.sent, chains));
        self.sent = self.sent.wrapping_add(1);
        let (held_back, their_bytes) = self.port.send(parcel, self.pair, &mut self.routes);
        counts.tx_frames.add((frames - held_back) as u64);
        counts.tx_bytes.add((bytes - their_bytes) as u64);
        counts.tx_dropped.add(held_back as u64);
        bytes as u64
    }

    /// Completes the chains that nobody reads any more.
    pub(crate) fn complete(&mut self, ring: &mut Ring) {
        self.outlet.take(&mut self.mail);
        for number in self.mail.returned.drain(..) {
            let index = self.outside.iter().position(|(outside, _)| *outside == number);
            let chains = index.map(|index| self.outside.swap_remove(index).1);
            chains.into_iter().flatten().for_each(|chain| ring.complete(chain, 0));
        }
    }

    /// Gives the guest what other ports have sent.
    pub(crate) fn receive(&mut self, ring: &mut Ring, view: &View, counts: &Counts) {
        if !self.open {
            self.open = true;
            self.outlet.set_open(true);
        }
        self.outlet.take(&mut self.mail);
        let budget = view.budget.receive;
        let mut given = self.waiting.give_waiting(budget, ring, view, counts);
        while let Some(Share { parcel, frames }) = self.mail.shares.front() {
            let left = frames.get(self.done..).unwrap_or_default();
            for frame in left.iter().filter_map(|number| parcel.frame(*number)) {
                if given >= budget {
                    return;
                }
                match self.waiting.give(&frame, ring, view, counts) {
                    Fate::NoRoom => return self.set_aside(),
                    Fate::Given => given += 1,
                    Fate::Dropped => {}
                }
                self.done += 1;
            }
            self.next_share();
        }
    }

    fn next_share(&mut self) {
        self.mail.shares.pop_front();
        self.done = 0;
    }

    /// The guest takes nothing now: copies aside what there is, as far as there is room, so that
    /// senders get their memory back.
    pub(crate) fn set_aside(&mut self) {
        self.outlet.take(&mut self.mail);
        while let Some(Share { parcel, frames }) = self.mail.shares.front() {
            let left = frames.get(self.done..).unwrap_or_default();
            let frames = left.iter().filter_map(|number| parcel.frame(*number));
            let lost = frames.filter(|frame| !self.waiting.push(frame)).count();
            self.outlet.overflow(lost);
            self.next_share();
        }
    }

    /// There is no guest to take anything: frames for it are dropped.
    pub(crate) fn close(&mut self) {
        if std::mem::take(&mut self.open) {
            self.outlet.set_open(false);
        }
        self.outlet.take(&mut self.mail);
        self.mail.shares.clear();
        self.done = 0;
        self.waiting.clear();
    }

    /// The worker is about to sleep: the bell is to wake it.
    pub(crate) fn rest<I: Io>(&self, io: &mut I) {
        // What is left of a budget is for the next turn.
        if !self.mail.shares.is_empty() || !self.outlet.sleep() {
            self.outlet.ring();
        }
        io.watch(BELL, Direction::Readable);
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.close();
        if self.pair == 0 {
            self.port.switch.forwarding().table.forget(self.port.number);
        }
    }
}
