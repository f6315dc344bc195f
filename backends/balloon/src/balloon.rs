//! What is in the balloon, and what both sides of the device know of it.
//!
//! # Theory of operation
//! A page that the driver puts in is given back at once, before the driver hears of it. If the VMM
//! forbids that (`discard off`), the page is noted as *deferred* and given back when it is allowed
//! again; only if the driver tells before it uses pages (MUST_TELL_HOST), for else nobody knows whose
//! the page is by then. A page that comes out is struck off before the driver hears of it. To forget a
//! page is always safe: it is not given back then. To remember one that the driver uses is not. Hence
//! rings in which nothing was used are a new driver's, and all is forgotten, even though the same driver's
//! look like that too when they have come round to where rings begin and are stopped and started just there.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use framework::memory::MemoryTable;
use virtio_spec::balloon::{Config, MUST_TELL_HOST, PAGE_POISON, PAGE_SIZE};
use virtio_spec::features::Negotiated;

use crate::counts::Counts;
use crate::give_back::{Hole, Identity, holes, in_memory, resident};
use crate::page_set::PageSet;
use crate::pages::Run;
use crate::statistics::Statistics;

/// The balloon, shared by the connection thread and the worker. Whoever forbids discards holds the
/// lock, and so does whoever makes holes: no hole is made after the command was answered.
#[derive(Clone, Debug)]
pub struct Shared(Arc<Mutex<Balloon>>);

impl Shared {
    /// Shares a balloon.
    pub fn new(balloon: Balloon) -> Self {
        Shared(Arc::new(Mutex::new(balloon)))
    }

    /// The balloon, for as long as the guard lives.
    pub fn lock(&self) -> MutexGuard<'_, Balloon> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The balloon.
#[derive(Debug)]
pub struct Balloon {
    /// What was negotiated.
    pub features: Negotiated,
    /// Pages that the user wanted in the balloon when this program was started.
    pub given: u32,
    /// Pages that the device wants in the balloon now (`num_pages`).
    pub target: u32,
    /// Pages that the driver says are in the balloon.
    pub actual: u32,
    /// What the driver fills free pages with.
    pub poison: u32,
    /// Whether memory may be given back.
    pub permitted: bool,
    /// Pages in the balloon.
    pub inside: PageSet,
    /// Those of them that are to be given back when it is permitted.
    pub deferred: PageSet,
    /// The guest's statistics.
    pub statistics: Statistics,
    /// How often statistics are asked for.
    pub polling: Option<Duration>,
    /// Somebody wants new statistics.
    pub refresh: bool,
    /// The driver is to be told of another target.
    pub announce: bool,
    memory: Weak<MemoryTable>,
    regions: Vec<Identity>,
    files: Vec<Weak<OwnedFd>>,
}

impl Balloon {
    /// An empty balloon, which is to have so many pages.
    pub fn new(target: u32, polling: Option<Duration>) -> Self {
        Balloon {
            features: Negotiated::NONE,
            given: target,
            target,
            actual: 0,
            poison: 0,
            permitted: true,
            inside: PageSet::default(),
            deferred: PageSet::default(),
            statistics: Statistics::default(),
            polling,
            refresh: false,
            announce: false,
            memory: Weak::new(),
            regions: Vec::new(),
            files: Vec::new(),
        }
    }

    /// Another driver begins: nothing is in the balloon.
    pub fn begin(&mut self, features: Negotiated) {
        self.features = features;
        (self.actual, self.poison) = (0, 0);
        self.inside.clear();
        self.deferred.clear();
        self.statistics = Statistics::default();
    }

    /// A driver begins with the rings: nothing is in the balloon, whatever was there before.
    pub fn begin_rings(&mut self) {
        self.actual = 0;
        self.inside.clear();
        self.deferred.clear();
        self.statistics = Statistics::default();
    }

    /// The configuration space (virtio 1.4, 5.5.4).
    pub fn config(&self) -> Config {
        Config {
            num_pages: self.target,
            actual: self.actual,
            free_page_hint_cmd_id: 0,
            poison_val: self.poison,
        }
    }

    /// Takes the fields out of a configuration space that are the driver's to write.
    pub fn take_config(&mut self, config: &Config) {
        self.actual = config.actual;
        if self.features.has(PAGE_POISON) {
            self.poison = config.poison_val;
        }
    }

    /// Guest memory is this now: what was in memory that is gone is forgotten.
    pub fn use_memory(&mut self, memory: &Arc<MemoryTable>) {
        if std::ptr::eq(self.memory.as_ptr(), Arc::as_ptr(memory)) {
            return;
        }
        self.memory = Arc::downgrade(memory);
        let regions: Vec<_> = memory.regions().iter().map(Identity::of).collect();
        let before = std::mem::replace(&mut self.regions, regions);
        // Of what a process before this one left it is not known which memory it was in: the driver
        // has not begun anew, so its memory is the same.
        if !before.is_empty() {
            let stay = |region: &&Identity| before.contains(region);
            let runs: Vec<Run> =
                self.regions.iter().filter(stay).filter_map(Identity::run).collect();
            self.inside.keep_only(runs.iter().copied());
            self.deferred.keep_only(runs);
        }
        let files = memory.regions().iter().filter_map(|region| region.file());
        self.files = files.map(|(file, _)| Arc::downgrade(file)).collect();
    }

    /// Bytes of guest memory that the host holds now; zero while no memory is shared.
    pub fn resident(&self) -> u64 {
        resident(self.files.iter().filter_map(Weak::upgrade))
    }

    /// Pages go into the balloon, and back to the host if that is permitted. The runs are sorted and
    /// do not overlap.
    pub fn inflate(&mut self, memory: &MemoryTable, runs: &[Run], counts: &Counts) {
        let mut found = Vec::new();
        for run in runs {
            let mut outside = 0;
            in_memory(memory, *run, &mut outside, |_, part| {
                counts.pages_inflated.add(self.inside.insert(part));
                if !self.permitted {
                    counts.forbidden_bytes.add(part.pages() * PAGE_SIZE);
                    if self.tells() {
                        self.deferred.insert(part);
                    }
                }
            });
            counts.pages_outside.add(outside);
        }
        if self.permitted {
            for run in runs {
                self.find(memory, *run, counts, &mut found);
            }
            punch(&found, counts);
        }
    }

    /// Pages come out of the balloon.
    pub fn deflate(&mut self, runs: &[Run], counts: &Counts) {
        for run in runs {
            let removed = self.inside.remove(*run);
            self.deferred.remove(*run);
            counts.pages_deflated.add(removed);
            counts.pages_not_inside.add(run.pages().saturating_sub(removed));
        }
    }

    /// The driver is about to use pages of which not all are known: none is given back any more.
    pub fn forget_deferred(&mut self) {
        self.deferred.clear();
    }

    /// Free pages were reported: they go back to the host, if that is permitted and the driver does
    /// not count on what is in them. They are nobody's again once the report is acknowledged, so that
    /// they are given back now or never.
    pub fn report(&mut self, memory: &MemoryTable, runs: &[Run], counts: &Counts) {
        let bytes = runs.iter().map(|run| run.pages()).sum::<u64>() * PAGE_SIZE;
        counts.reported_bytes.add(bytes);
        if !self.permitted {
            return counts.forbidden_bytes.add(bytes);
        }
        // A hole shows zeroes, hence no other poison may have been promised (virtio 1.4, 5.5.6.7).
        if self.features.has(PAGE_POISON) && self.poison != 0 {
            return counts.poisoned_bytes.add(bytes);
        }
        let mut found = Vec::new();
        for run in runs {
            let left_out = holes(memory, *run, |_| false, &mut found);
            counts.pages_outside.add(left_out.outside);
            counts.partial_bytes.add(left_out.partial);
        }
        punch(&found, counts);
    }

    /// Gives back some of what was deferred, `most` pages of it; says whether there is more.
    pub fn catch_up(&mut self, memory: &MemoryTable, most: u64, counts: &Counts) -> bool {
        if !self.permitted || self.deferred.is_empty() {
            return false;
        }
        let (mut left, mut runs) = (most, Vec::new());
        for run in self.deferred.runs() {
            let run = Run { end: run.end.min(run.start.saturating_add(left)), ..run };
            left -= run.pages();
            runs.push(run);
            if left == 0 {
                break;
            }
        }
        let mut found = Vec::new();
        for run in &runs {
            self.deferred.remove(*run);
            self.find(memory, *run, counts, &mut found);
        }
        punch(&found, counts);
        !self.deferred.is_empty()
    }

    /// Whether the driver tells before it uses pages of the balloon again.
    fn tells(&self) -> bool {
        self.features.has(MUST_TELL_HOST)
    }

    fn find(&self, memory: &MemoryTable, run: Run, counts: &Counts, found: &mut Vec<Hole>) {
        let unused = |run| self.tells() && self.inside.has_all(run);
        let left_out = holes(memory, run, unused, found);
        counts.partial_bytes.add(left_out.partial);
    }
}

/// Makes holes, and measures at the source what that has given back.
fn punch(holes: &[Hole], counts: &Counts) {
    if holes.is_empty() {
        return;
    }
    let mut files: Vec<&Arc<OwnedFd>> = holes.iter().map(|hole| &hole.file).collect();
    files.dedup_by(|one, other| Arc::ptr_eq(one, other));
    let before = resident(files.iter().copied());
    for hole in holes {
        match hole.punch() {
            Ok(()) => {
                counts.holes.add(1);
                counts.punched_bytes.add(hole.len);
            }
            Err(error) => {
                if counts.refused_holes.get() == 0 {
                    let (offset, len) = (hole.offset, hole.len);
                    tracing::warn!(%error, offset, len, "guest memory cannot be given back");
                }
                counts.refused_holes.add(1);
            }
        }
    }
    counts.returned_bytes.add(before.saturating_sub(resident(files)));
}
