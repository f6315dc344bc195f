//! Rings with anything in them: nothing panics, every chain that is taken can be completed, and the
//! ring stops when nothing is in flight.

use arbitrary::{Arbitrary, Unstructured};

use crate::driver::Driver;
use crate::guest::{Guest, REGIONS};
use crate::stand::{Completion, Stand, Start};
use crate::step::{Shape, Step};
use framework::worker::InFlightArea;

/// The most steps of one input.
const STEPS: usize = 200;

/// A split ring.
pub fn split(data: &[u8]) {
    run(data, false);
}

/// A packed ring.
pub fn packed(data: &[u8]) {
    run(data, true);
}

fn run(data: &[u8], packed: bool) {
    let mut input = Unstructured::new(data);
    let Ok(shape) = Shape::arbitrary(&mut input) else { return };
    let Some(mut scene) = Scene::new(shape, packed, None) else { return };
    scene.play(&mut input);
}

/// A driver, a device, and the ring between them.
pub(crate) struct Scene {
    guest: Guest,
    driver: Driver,
    stand: Stand,
    start: Start,
    shape: Shape,
    taken: usize,
    completed: usize,
}

impl Scene {
    /// Starts a ring; None if that is refused.
    pub(crate) fn new(
        shape: Shape,
        packed: bool,
        in_flight: Option<(InFlightArea, u32)>,
    ) -> Option<Self> {
        let size = shape.size(packed);
        let fresh = if packed { 0x8000_8000 } else { 0 };
        let (area, base) = in_flight.map_or((None, fresh), |(area, base)| (Some(area), base));
        let start = Start { size, features: shape.features(packed), base, in_flight: area };
        let (guest, mut stand) = (Guest::new(), Stand::new());
        if !stand.start(&guest, &start) {
            return None;
        }
        let driver = Driver::new(size, start.features);
        Some(Scene { guest, driver, stand, start, shape, taken: 0, completed: 0 })
    }

    /// Plays the steps that are in the input, and ends the ring.
    pub(crate) fn play(&mut self, input: &mut Unstructured<'_>) {
        for n in 0..STEPS {
            let Ok(step) = Step::arbitrary(input) else { break };
            if self.shape.allows(&step, n) && !self.step(&step) {
                return;
            }
            if input.is_empty() {
                break;
            }
        }
        self.stop();
    }

    /// Does a step. False: the ring could not be started again.
    fn step(&mut self, step: &Step) -> bool {
        let Scene { guest, driver, stand, .. } = self;
        match step {
            Step::Turn { take } | Step::MoreTurns { take } => self.turn(Vec::new(), *take),
            Step::Complete { which, written } => self.complete(*which, *written),
            Step::CompleteAll => self.complete_all(),
            Step::Memory { without, release } => {
                let without = usize::from(*without) % (2 * REGIONS.len());
                stand.switch_memory(guest.table_without(without), *release);
            }
            Step::Enable(enabled) => stand.enable(*enabled),
            Step::Restart => return self.restart(),
            step => step.drive(driver, guest),
        }
        true
    }

    fn turn(&mut self, complete: Vec<Completion>, take: u8) {
        self.completed += complete.len();
        let seen = self.stand.turn(complete, take.into()).len();
        assert!(seen <= usize::from(self.start.size));
        self.taken += seen;
    }

    fn complete(&mut self, which: u8, written: u16) {
        let held = self.stand.held();
        if held > 0 {
            let which = usize::from(which) % held;
            self.turn(vec![Completion { which, written: written.into(), fill: which as u8 }], 0);
        }
    }

    fn complete_all(&mut self) {
        self.completed += self.stand.held();
        self.stand.complete_all();
    }

    fn stop(&mut self) -> u32 {
        self.completed += self.stand.held();
        let base = self.stand.stop();
        assert_eq!(self.taken, self.completed);
        base
    }

    fn restart(&mut self) -> bool {
        self.start.base = self.stop();
        self.stand.start(&self.guest, &self.start)
    }
}
