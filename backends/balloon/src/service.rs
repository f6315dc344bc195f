//! The data side: one worker for all queues, and which queue does what.
//!
//! A kick of the inflate, deflate or reporting queue is a batch of chains: they are read, what they say
//! is done under one lock, what is in the balloon is kept, and only then they are completed. The
//! statistics queue works the other way round (virtio 1.4, 5.5.6.3): its one buffer is held, and given
//! back when somebody wants newer statistics.

use std::sync::Arc;
use std::time::Duration;

use framework::device::{Host, Service, Wake};
use framework::engine::Io;
use framework::ring::{Chain, Ring, Rings};

use crate::auto::Pilot;
use crate::balloon::{Balloon, Shared};
use crate::counts::Counts;
use crate::offer::Role;
use crate::pages::{PFN_LEN, Run, merge, merge_runs, parse};
use crate::statistics::{MOST_BYTES, Statistics};
use crate::timers::Timers;

/// The most chains of one batch.
const MOST_CHAINS: usize = 64;
/// The most page numbers that are read of one chain: a gibibyte of pages. A batch has no further
/// chains once it has so many.
const MOST_PAGES: usize = 1 << 18;
/// The most deferred pages that are given back in one go: 64 MiB.
const CATCH_UP: u64 = 1 << 14;
/// Where in the worker the inflate queue is.
const INFLATE: usize = 0;

/// The data side of a balloon.
#[derive(Debug)]
pub struct BalloonService {
    balloon: Shared,
    host: Host,
    counts: Arc<Counts>,
    pilot: Option<Pilot>,
    timers: Timers,
    /// The driver's statistics buffer, which is given back when newer ones are wanted.
    held: Option<(usize, Chain)>,
    batch: Vec<Chain>,
    bytes: Vec<u8>,
    pages: Vec<u32>,
    runs: Vec<Run>,
    /// Whether it was said that the balloon's state cannot be kept.
    complained: bool,
}

impl BalloonService {
    /// The data side of this balloon; a `pilot` sets its target.
    pub fn new(balloon: Shared, host: Host, counts: Arc<Counts>, pilot: Option<Pilot>) -> Self {
        BalloonService {
            balloon,
            host,
            counts,
            pilot,
            timers: Timers::default(),
            held: None,
            batch: Vec::with_capacity(MOST_CHAINS),
            bytes: Vec::new(),
            pages: Vec::new(),
            runs: Vec::new(),
            complained: false,
        }
    }

    /// A driver that begins anew has nothing in the balloon, and memory may be another.
    fn look_around(&mut self, rings: &mut Rings) {
        let Some(ring) = rings.get(INFLATE) else { return };
        let fresh = ring.take_fresh();
        let mut balloon = self.balloon.lock();
        balloon.use_memory(ring.memory());
        if fresh {
            balloon.begin_rings();
        }
    }

    fn serve(&mut self, rings: &mut Rings, queue: usize, now: Duration) {
        let Some(ring) = rings.get(queue) else { return };
        match Role::of(ring.queue(), ring.features()) {
            Some(Role::Inflate) => self.pages(ring, Balloon::inflate_batch),
            Some(Role::Deflate) => self.pages(ring, Balloon::deflate_batch),
            Some(Role::Reporting) => self.report(ring),
            Some(Role::Statistics) => self.statistics(ring, queue, now),
            None => {}
        }
    }

    /// A batch of lists of pages.
    fn pages(&mut self, ring: &mut Ring, apply: impl Fn(&mut Balloon, &Batch<'_>, &Counts)) {
        self.pages.clear();
        self.runs.clear();
        let mut whole = true;
        while self.batch.len() < MOST_CHAINS && self.pages.len() < MOST_PAGES {
            let Some(chain) = ring.take() else { break };
            whole &= self.read_list(ring, &chain);
            self.batch.push(chain);
        }
        self.counts.pages_repeated.add(merge(&mut self.pages, &mut self.runs));
        let mut balloon = self.balloon.lock();
        let batch = Batch { memory: ring.memory(), runs: &self.runs, whole };
        apply(&mut balloon, &batch, &self.counts);
        let kept = self.host.keep(|| balloon.to_bytes());
        drop(balloon);
        self.note_kept(kept);
        for chain in self.batch.drain(..) {
            ring.complete(chain, 0);
        }
    }

    /// Reads a list of page numbers. False: it is too long, and only its beginning was read.
    fn read_list(&mut self, ring: &Ring, chain: &Chain) -> bool {
        let length = ring.readable_len(chain);
        let most = MOST_PAGES * PFN_LEN;
        if !length.is_multiple_of(PFN_LEN) {
            self.counts.lists_malformed.add(1);
        }
        if length > most {
            self.counts.lists_too_long.add(1);
        }
        self.bytes.resize(length.min(most), 0);
        ring.read(chain, 0, &mut self.bytes);
        parse(&self.bytes, &mut self.pages);
        length <= most
    }

    /// A batch of reports: what they name is where their buffers are (virtio 1.4, 5.5.6.7).
    fn report(&mut self, ring: &mut Ring) {
        while self.batch.len() < MOST_CHAINS {
            let Some(chain) = ring.take() else { break };
            self.counts.reports.add(1);
            self.runs.clear();
            for segment in 0..ring.writable(&chain).len() {
                if let Some((start, len)) = ring.writable_place(&chain, segment) {
                    self.runs.extend(Run::inside(start.0, start.0.saturating_add(len)));
                }
            }
            merge_runs(&mut self.runs);
            if let Some(memory) = ring.memory_of(&chain) {
                self.balloon.lock().report(memory, &self.runs, &self.counts);
            }
            self.batch.push(chain);
        }
        for chain in self.batch.drain(..) {
            ring.complete(chain, 0);
        }
    }

    /// Takes the driver's buffer, and holds it. A driver that has several (it must not) has to wait.
    fn statistics(&mut self, ring: &mut Ring, queue: usize, now: Duration) {
        if self.held.is_some() {
            return;
        }
        let Some(chain) = ring.take() else { return };
        self.bytes.resize(ring.readable_len(&chain).min(MOST_BYTES), 0);
        ring.read(&chain, 0, &mut self.bytes);
        self.balloon.lock().statistics = Statistics::read(&self.bytes, now);
        self.counts.statistics.add(1);
        self.held = Some((queue, chain));
    }

    /// Has the driver send newer statistics.
    fn ask_for_statistics(&mut self, rings: &mut Rings) {
        if let Some((queue, chain)) = self.held.take()
            && let Some(ring) = rings.get(queue)
        {
            ring.complete(chain, 0);
        }
    }

    /// A buffer in memory that was replaced keeps that memory from being let go: it is given back.
    fn leave_former_memory(&mut self, rings: &mut Rings) {
        if let Some((queue, chain)) = &self.held
            && let Some(ring) = rings.get(*queue)
            && ring.memory_of(chain).is_none_or(|memory| !Arc::ptr_eq(memory, ring.memory()))
        {
            self.ask_for_statistics(rings);
        }
    }

    /// Gives back some of what was deferred; says whether there is more.
    fn catch_up(&mut self, rings: &mut Rings) -> bool {
        let Some(ring) = rings.get(INFLATE) else { return false };
        let mut balloon = self.balloon.lock();
        let before = balloon.deferred.len();
        let more = balloon.catch_up(ring.memory(), CATCH_UP, &self.counts);
        if balloon.deferred.len() == before {
            return more;
        }
        let kept = self.host.keep(|| balloon.to_bytes());
        drop(balloon);
        self.note_kept(kept);
        more
    }

    /// Lets the pilot look, and follows it.
    fn steer(&mut self, now: Duration) {
        let Some(pilot) = &mut self.pilot else { return };
        let mut balloon = self.balloon.lock();
        if let Some(target) = pilot.look(&balloon, now) {
            balloon.target = target;
            balloon.announce = true;
            drop(balloon);
            self.host.ring();
        }
    }

    fn note_kept(&mut self, kept: framework::Result<()>) {
        if let Err(error) = kept {
            self.counts.unkept.add(1);
            if !std::mem::replace(&mut self.complained, true) {
                tracing::error!(%error, "what is in the balloon is not kept");
            }
        }
    }

    /// What the control side has left, or the time has brought.
    fn go_on(&mut self, rings: &mut Rings, now: Duration) {
        let (refresh, polling) = {
            let mut balloon = self.balloon.lock();
            (std::mem::take(&mut balloon.refresh), balloon.polling)
        };
        let looks = self.timers.look_is_due(now, self.pilot.as_ref().map(Pilot::period));
        if looks {
            self.steer(now);
        }
        if self.timers.poll_is_due(now, polling) | refresh | looks {
            self.ask_for_statistics(rings);
        }
        let more = self.catch_up(rings);
        self.timers.go_on_at(more.then_some(now));
    }
}

/// What a batch of lists says.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Guest memory.
    pub memory: &'a framework::memory::MemoryTable,
    /// The pages.
    pub runs: &'a [Run],
    /// Whether these are all pages that the lists name.
    pub whole: bool,
}

impl Balloon {
    fn inflate_batch(&mut self, batch: &Batch<'_>, counts: &Counts) {
        self.inflate(batch.memory, batch.runs, counts);
    }

    fn deflate_batch(&mut self, batch: &Batch<'_>, counts: &Counts) {
        self.deflate(batch.runs, counts);
        if !batch.whole {
            self.forget_deferred();
        }
    }
}

impl Service for BalloonService {
    fn service<I: Io>(&mut self, rings: &mut Rings, io: &mut I, wake: Wake) {
        self.look_around(rings);
        let now = io.now();
        match wake {
            Wake::Kick(queue) => self.serve(rings, queue, now),
            Wake::Timer => self.timers.rang(),
            // It would wait for ever.
            Wake::Stop(queue) if self.held.as_ref().is_some_and(|(held, _)| *held == queue) => {
                self.ask_for_statistics(rings);
            }
            Wake::Nudge | Wake::Ready(..) | Wake::Done(_) | Wake::Stop(_) => {}
        }
        self.leave_former_memory(rings);
        self.go_on(rings, now);
        self.timers.arm(io);
    }
}
