//! A worker owns rings, the data side of a device, and an engine. Nobody else touches them.

mod command;
mod local;
mod polling;
mod seat;
mod thread;
mod turn;

pub use command::{Answer, Command, InFlightArea, RingSetup};
pub use local::LocalWorkers;
pub use polling::PollWindow;
pub use seat::Seat;
pub use thread::{ThreadSettings, WorkerThread};
pub use turn::{Flow, Worker};
