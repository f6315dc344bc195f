//! Rings against others: the same driver, the same steps, and after each turn the same chains seen,
//! the same bytes in guest memory (used ring and event suppression among them) and the same calls.
//!
//! Split rings run against `virtio-queue`. Where it is more lenient, and rightly treated otherwise
//! here, [`chain`] says what is right: to `virtio-queue` a malformed chain is a shorter one, indirect
//! tables need no negotiation, any number of chains may be in flight; here the ring fails. It also
//! does not look at the flag by which a driver wants no calls.
//!
//! Packed rings, which it does not have, run against a model that is as plain as can be.

mod chain;
mod packed;
mod split;

use arbitrary::{Arbitrary, Unstructured};

use crate::driver::Driver;
use crate::guest::Guest;
use crate::stand::{Completion, Seen, Stand, Start};
use crate::step::{Shape, Step};

/// The most steps of one input.
const STEPS: usize = 200;

/// What has to happen in a turn.
#[derive(Debug, Default, PartialEq, Eq)]
struct Turn {
    taken: Vec<Seen>,
    /// Whether the driver is called; None: either will do.
    called: Option<bool>,
    /// Whether the ring fails.
    failed: bool,
    /// Whether there was nothing to do, so that the worker asked for kicks and slept.
    slept: bool,
    /// A buffer lies in the device's own area, where the two write in another order: virtio-queue
    /// shows each used chain by itself, and a worker all of a turn.
    incomparable: bool,
}

/// Another implementation of the device's side.
trait Reference {
    /// A turn that begins with guest memory as it is there.
    fn turn(&mut self, guest: &Guest, complete: &[Completion], take: usize) -> Turn;

    /// Its guest memory after the turn.
    fn image(&self) -> Vec<u8>;
}

/// A split ring against `virtio-queue`.
pub fn split(data: &[u8]) {
    run(data, false);
}

/// A packed ring against a model.
pub fn packed(data: &[u8]) {
    run(data, true);
}

fn run(data: &[u8], packed: bool) {
    let mut input = Unstructured::new(data);
    let Ok(shape) = Shape::arbitrary(&mut input) else { return };
    let shape = shape.in_any_order();
    let (size, features) = (shape.size(packed), shape.features(packed));
    let reference: Box<dyn Reference> = if packed {
        Box::new(packed::Model::new(size, features))
    } else {
        Box::new(split::Oracle::new(size, features))
    };
    let (guest, driver, mut stand) = (Guest::new(), Driver::new(size, features), Stand::new());
    let base = if packed { 0x8000_8000 } else { 0 };
    assert!(stand.start(&guest, &Start { size, features, base, in_flight: None }));
    let mut pair = Pair { guest, driver, stand, reference };
    for n in 0..STEPS {
        let Ok(step) = Step::arbitrary(&mut input) else { break };
        if shape.allows(&step, n) && !pair.step(&step) || input.is_empty() {
            break;
        }
    }
    pair.stand.stop();
}

/// The ring and what it is held against.
struct Pair {
    guest: Guest,
    driver: Driver,
    stand: Stand,
    reference: Box<dyn Reference>,
}

impl Pair {
    /// Does a step in both. False: the ring has failed, in both.
    fn step(&mut self, step: &Step) -> bool {
        let held = self.stand.held();
        match step {
            Step::Turn { take } | Step::MoreTurns { take } => self.turn(&[], take % 8),
            Step::Complete { which, written } if held > 0 => {
                let which = usize::from(*which) % held;
                let written = (*written).into();
                self.turn(&[Completion { which, written, fill: which as u8 }], 0)
            }
            Step::CompleteAll => {
                let completion = |n| Completion { which: 0, written: n, fill: n as u8 };
                let all: Vec<_> = (0..held as u32).map(completion).collect();
                self.turn(&all, 0)
            }
            step => {
                step.drive(&mut self.driver, &self.guest);
                true
            }
        }
    }

    fn turn(&mut self, complete: &[Completion], more: u8) -> bool {
        // A device that takes nothing is left alone until something happens; this one takes.
        let take = usize::from(more) + 1;
        let right = self.reference.turn(&self.guest, complete, take);
        let before = self.stand.calls();
        let taken = self.stand.turn(complete.to_vec(), take);
        assert_eq!(self.stand.has_failed(), right.failed, "{right:?}");
        if right.failed || right.incomparable {
            return false;
        }
        assert_eq!(taken, right.taken);
        if let Some(called) = right.called {
            assert_eq!(self.stand.calls() - before, u64::from(called));
        }
        assert_eq!(self.stand.slept(), right.slept);
        assert!(self.guest.image() == self.reference.image(), "guest memory differs");
        true
    }
}
