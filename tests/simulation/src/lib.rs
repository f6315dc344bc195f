//! A simulation of the whole system from one seed: driver, front-end, session, workers, rings, block
//! device, engine and disk.
//!
//! Driver and front-end are those of the crate `driver` and of this one; session, workers, rings and
//! device are the real ones, without sockets and threads; engine and disk are the framework's simulated
//! ones. A scheduler lets one thing happen after the other, in an order that the seed decides: requests,
//! kicks lost and repeated, turns of workers, messages, connections cut, rings stopped and moved, memory
//! plugged in and taken away, processes killed between any two stores into shared memory, power
//! losses. A model of the disk checks what each read finds and what survives a power loss;
//! the conformance observer looks on.
//!
//! A failing seed is replayed with its story told (`cargo xtask simulate --seed S`), and shrunk to the
//! steps that it takes ([`shrink`]).
//!
//! | module | what it is |
//! |---|---|
//! | `world`, `action`, `scenario` | everything there is; what can happen; what a seed decides first |
//! | `driving`, `races`, `guest`, `workload`, `hostile` | the driver |
//! | `front_end`, `plans`, `messages`, `requests`, `locals`, `cache` | the front-end |
//! | `turns`, `back_end`, `fleet`, `device`, `engine` | the back-end |
//! | `disasters` | what happens to all of them |
//! | `rest` | how a run ends |
//! | `model` | what the disk may hold |
//! | `small` | the other devices, with less around them |

mod action;
mod back_end;
mod cache;
mod device;
mod disasters;
mod driving;
mod engine;
mod failure;
mod fleet;
mod front_end;
mod guest;
mod hostile;
mod hunt;
mod locals;
mod messages;
mod model;
mod options;
mod outcome;
mod plans;
mod races;
mod requests;
mod rest;
mod scenario;
mod shrink;
mod small;
mod trace;
mod turns;
mod workload;
mod world;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub use failure::Failure;
pub use hunt::{Report, hunt};
pub use options::Options;
pub use outcome::{Counts, Outcome};
pub use shrink::shrink;
pub use small::DeviceKind;

use world::World;

/// Runs one seed.
pub fn run(seed: u64, options: &Options) -> Outcome {
    match options.device {
        DeviceKind::Block => block(seed, options),
        DeviceKind::Net => small::net(seed, options),
        DeviceKind::Console => small::console(seed, options),
        DeviceKind::Balloon => small::balloon(seed, options),
    }
}

/// Runs one seed of the block device, and everything around it.
fn block(seed: u64, options: &Options) -> Outcome {
    let mut world = match World::new(seed, options) {
        Ok(world) => world,
        Err(failure) => {
            let failure = Some((0, failure));
            return Outcome { seed, failure, trace: Vec::new(), counts: Counts::default() };
        }
    };
    let result = catch_unwind(AssertUnwindSafe(|| world.run(options)))
        .unwrap_or_else(|payload| Err(Failure::Panicked(message(&*payload))));
    let (trace, counts, step) = world.into_story();
    Outcome { seed, failure: result.err().map(|failure| (step, failure)), trace, counts }
}

/// What a panic says.
fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default()
}
