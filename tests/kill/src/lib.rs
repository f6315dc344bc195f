//! `kill -9` at random moments, and nothing lost.
//!
//! ```text
//! Series        what is killed, how, on which disk and rings; the catalogue is in `series`
//!   Campaign    lives of daemons, one after the other
//!     Life      ends a daemon at a random moment
//!     Client    the fake front-end: hands over the in-flight region, with stale bases
//!     Load      random requests that check each other
//!       Model   what each sector may hold
//!       Lane    one queue, as a block driver has it
//!     Disk      a file, or a slow disk where requests land after the death of who asked
//! GuestSeries   the same under QEMU, with a load in the guest
//! ```
//! What a failing series prints names its seed. The seed gives the requests and the pauses again;
//! the moment of a kill is the machine's.

mod campaign;
mod client;
mod disk;
mod error;
mod guest;
mod lane;
mod life;
mod load;
mod model;
mod sector;
mod series;
mod slow;
mod summary;
mod tally;
mod unlocked;

pub use campaign::Stage;
pub use error::{Error, Result};
pub use model::{Model, Sectors, Wrong};
pub use sector::{Found, SECTOR, inspect, stamp};
pub use series::{
    End, GUESTS, GuestSeries, KILLED, Medium, SLOW, Series, Shape, TERMINATED, kills,
};
pub use slow::{Delays, Landings, SlowDisk};
pub use summary::{Row, Summary};
pub use tally::Tally;
