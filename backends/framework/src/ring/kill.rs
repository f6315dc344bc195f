//! Death at a chosen store, for tests and simulations (feature `simulation`): what a `kill -9`
//! leaves behind is all stores up to some one.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

thread_local! {
    static STORES_LEFT: Cell<Option<u32>> = const { Cell::new(None) };
}

/// What unwinds when the time has come.
struct Killed;

/// Called before each store into a ring or an in-flight region.
pub(super) fn point() {
    STORES_LEFT.with(|left| match left.get() {
        None => {}
        Some(0) => {
            left.set(None);
            resume_unwind(Box::new(Killed));
        }
        Some(n) => left.set(Some(n - 1)),
    });
}

/// Runs `steps`, and ends it before its `stores + 1`-th store. True: it was killed.
pub fn after(stores: u32, steps: impl FnOnce()) -> bool {
    STORES_LEFT.with(|left| left.set(Some(stores)));
    let outcome = catch_unwind(AssertUnwindSafe(steps));
    STORES_LEFT.with(|left| left.set(None));
    match outcome {
        Ok(()) => false,
        Err(payload) if payload.is::<Killed>() => true,
        Err(payload) => resume_unwind(payload),
    }
}
