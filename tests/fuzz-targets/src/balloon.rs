//! The balloon under lists of pages, reports and writes to its configuration space of any content: a
//! page becomes a hole only if the driver gave it, is told to the host, and has not taken it back.

use std::collections::BTreeSet;
use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use framework::device::ConfigWriter;
use framework::memory::{GuestAddress, Mapping, MemoryTable, Region, UserAddress};
use outrigger_balloon::balloon::Balloon;
use outrigger_balloon::config_write;
use outrigger_balloon::counts::Counts;
use outrigger_balloon::pages::{Run, merge, merge_runs, parse};
use outrigger_balloon::saved::Saved;
use virtio_spec::balloon::{MUST_TELL_HOST, PAGE_POISON, PAGE_SIZE};
use virtio_spec::features::{Negotiated, mask};

use crate::step::each;

/// The most steps of one input.
const STEPS: usize = 64;
/// First page and number of pages of each region: two that meet, one behind a hole.
const REGIONS: [(u64, u64); 3] = [(16, 16), (32, 8), (100, 4)];
/// What stands in a page that is no hole.
const FILL: [u8; 1] = [0x5a];

/// What the driver and the VMM do.
#[derive(Arbitrary, Debug)]
enum Action {
    /// A list of page numbers as it comes, most of them near memory.
    Inflate(Vec<u8>),
    InflateAny(Vec<u32>),
    Deflate(Vec<u8>),
    DeflateAny(Vec<u32>),
    /// Ranges of bytes.
    Report(Vec<(u32, u16)>),
    ReportAny(Vec<(u64, u64)>),
    WriteConfig {
        offset: u8,
        data: Vec<u8>,
        migration: bool,
    },
    Discard(bool),
    /// Another process goes on.
    Restart,
    /// Bytes as a saved state.
    Load(Vec<u8>),
}

/// One input.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok(bits) = u8::arbitrary(&mut input) else { return };
    let mut scene = Scene::new(bits);
    each(&mut input, STEPS, |action: &Action| {
        scene.act(action);
        scene.check();
    });
}

struct Scene {
    balloon: Balloon,
    memory: Arc<MemoryTable>,
    mappings: Vec<(u64, u64, Mapping)>,
    counts: Counts,
    /// Pages that may be holes now.
    may: BTreeSet<u64>,
    /// Pages that the driver has put in and not taken out.
    inside: BTreeSet<u64>,
}

impl Scene {
    fn new(bits: u8) -> Self {
        let (mut regions, mut mappings) = (Vec::new(), Vec::new());
        for (first, pages) in REGIONS {
            let (fd, mapping) = Mapping::memfd("fuzz", pages * PAGE_SIZE).unwrap();
            let at = first * PAGE_SIZE;
            let (guest, user) = (GuestAddress(at), UserAddress(at));
            regions.push(Region::map(guest, user, pages * PAGE_SIZE, fd, 0).unwrap());
            mappings.push((first, pages, mapping));
        }
        let memory = Arc::new(MemoryTable::new(regions).unwrap());
        let mut balloon = Balloon::new(0, None);
        balloon.begin(features(bits));
        balloon.use_memory(&memory);
        let (may, inside) = (BTreeSet::new(), BTreeSet::new());
        let scene = Scene { balloon, memory, mappings, counts: Counts::default(), may, inside };
        scene.fill();
        scene
    }

    fn act(&mut self, action: &Action) {
        self.may.clear();
        match action {
            Action::Inflate(bytes) => self.inflate(&near(bytes)),
            Action::InflateAny(list) => self.inflate(&any(list)),
            Action::Deflate(bytes) => self.deflate(&near(bytes)),
            Action::DeflateAny(list) => self.deflate(&any(list)),
            Action::Report(ranges) => {
                self.report(
                    ranges.iter().map(|(at, len)| (u64::from(*at) % (120 << 12), (*len).into())),
                );
            }
            Action::ReportAny(ranges) => self.report(ranges.iter().copied()),
            Action::WriteConfig { offset, data, migration } => {
                let by = if *migration { ConfigWriter::Migration } else { ConfigWriter::Driver };
                config_write::apply(&mut self.balloon, usize::from(*offset % 20), data, by);
            }
            Action::Discard(permitted) => {
                self.balloon.permitted = *permitted;
                self.may.clone_from(&self.inside);
                while self.balloon.catch_up(&self.memory, 3, &self.counts) {}
            }
            Action::Restart => {
                let bytes = self.balloon.to_bytes();
                self.balloon = Balloon::new(0, None);
                self.balloon.restore(Saved::from_bytes(&bytes).unwrap());
                self.balloon.use_memory(&self.memory);
                assert_eq!(self.balloon.to_bytes(), bytes);
            }
            Action::Load(bytes) => {
                if let Ok(saved) = Saved::from_bytes(bytes) {
                    Balloon::new(0, None).restore(saved);
                }
            }
        }
    }

    fn inflate(&mut self, list: &[u8]) {
        let runs = runs(list);
        for page in in_memory(&runs) {
            self.inside.insert(page);
            self.may.insert(page);
        }
        self.balloon.inflate(&self.memory, &runs, &self.counts);
    }

    fn deflate(&mut self, list: &[u8]) {
        let runs = runs(list);
        for page in in_memory(&runs) {
            self.inside.remove(&page);
        }
        self.balloon.deflate(&runs, &self.counts);
    }

    fn report(&mut self, ranges: impl Iterator<Item = (u64, u64)>) {
        let inside = ranges.filter_map(|(at, len)| Run::inside(at, at.saturating_add(len)));
        let mut runs: Vec<Run> = inside.collect();
        merge_runs(&mut runs);
        let poisoned = self.balloon.features.has(PAGE_POISON) && self.balloon.poison != 0;
        if self.balloon.permitted && !poisoned {
            self.may.extend(in_memory(&runs));
        }
        self.balloon.report(&self.memory, &runs, &self.counts);
    }

    /// Looks for holes where none may be, and fills those that are there.
    fn check(&self) {
        for (first, pages, mapping) in &self.mappings {
            for page in 0..*pages {
                let mut byte = [0];
                mapping.read((page * PAGE_SIZE) as usize, &mut byte);
                let allowed = self.may.contains(&(first + page));
                assert!(byte == FILL || allowed, "page {} is a hole", first + page);
            }
        }
        assert_eq!(self.balloon.inside.len(), self.inside.len() as u64);
        assert!(self.balloon.deferred.len() <= self.balloon.inside.len());
        self.fill();
    }

    fn fill(&self) {
        for (_, pages, mapping) in &self.mappings {
            for page in 0..*pages {
                mapping.write((page * PAGE_SIZE) as usize, &FILL);
            }
        }
    }
}

fn features(bits: u8) -> Negotiated {
    let bit = |n: u8, feature| if bits >> n & 1 == 1 { mask(feature) } else { 0 };
    Negotiated::assume(bit(0, MUST_TELL_HOST) | bit(1, PAGE_POISON))
}

/// A list of pages that are in memory or near it.
fn near(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| u32::from(byte % 120).to_le_bytes()).collect()
}

fn any(list: &[u32]) -> Vec<u8> {
    list.iter().flat_map(|page| page.to_le_bytes()).collect()
}

fn runs(list: &[u8]) -> Vec<Run> {
    let (mut pages, mut runs) = (Vec::new(), Vec::new());
    parse(list, &mut pages);
    merge(&mut pages, &mut runs);
    runs
}

fn in_memory(runs: &[Run]) -> Vec<u64> {
    let all = REGIONS.iter().flat_map(|(first, pages)| *first..first + pages);
    all.filter(|page| runs.iter().any(|run| run.start <= *page && *page < run.end)).collect()
}
