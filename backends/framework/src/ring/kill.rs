//! Something happens just before a chosen store into shared memory, for tests and simulations
//! (feature `simulation`): the process dies, which leaves behind all stores up to that one; or
//! somebody else uses the same memory in the meantime.
//!
//! A package that asks for the feature gives it to all that are built together with it, daemons too. So
//! the feature alone costs nothing: only a build with debug assertions, or a test, has such points.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

thread_local! {
    static PLAN: RefCell<Option<Plan>> = const { RefCell::new(None) };
}

/// What is going to happen.
struct Plan {
    stores_left: u32,
    event: Event,
}

enum Event {
    Death,
    Act(Box<dyn FnOnce()>),
}

/// What unwinds when the time has come.
struct Killed;

/// Whether this build has points at which it can be ended.
pub const ARMED: bool = cfg!(any(test, debug_assertions));

/// Called before each store into a ring or an in-flight region.
#[inline]
pub(super) fn point() {
    if ARMED {
        arrive();
    }
}

fn arrive() {
    let due = PLAN.with_borrow_mut(|plan| match plan {
        Some(Plan { stores_left: 0, .. }) => plan.take(),
        Some(plan) => {
            plan.stores_left -= 1;
            None
        }
        None => None,
    });
    match due.map(|plan| plan.event) {
        Some(Event::Death) => resume_unwind(Box::new(Killed)),
        Some(Event::Act(act)) => act(),
        None => {}
    }
}

/// Runs `steps`, and ends it before its `stores + 1`-th store. True: it was killed.
pub fn after(stores: u32, steps: impl FnOnce()) -> bool {
    run(Plan { stores_left: stores, event: Event::Death }, steps)
}

/// Runs `steps`, and `act` before its `stores + 1`-th store, or afterwards if there are fewer.
pub fn meanwhile(stores: u32, act: impl FnOnce() + 'static, steps: impl FnOnce()) {
    run(Plan { stores_left: stores, event: Event::Act(Box::new(act)) }, steps);
}

#[expect(clippy::assertions_on_constants, reason = "it depends on how this is built")]
fn run(plan: Plan, steps: impl FnOnce()) -> bool {
    assert!(ARMED, "nothing dies in a build without debug assertions: use `--profile simulation`");
    PLAN.set(Some(plan));
    let outcome = catch_unwind(AssertUnwindSafe(steps));
    let left = PLAN.take();
    match outcome {
        Ok(()) => {
            if let Some(Plan { event: Event::Act(act), .. }) = left {
                act();
            }
            false
        }
        Err(payload) if payload.is::<Killed>() => true,
        Err(payload) => resume_unwind(payload),
    }
}
