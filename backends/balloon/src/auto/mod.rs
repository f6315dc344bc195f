//! `--auto`: the balloon's size as the host's memory pressure and the guest's statistics have it.
//!
//! | module | what it is |
//! |---|---|
//! | [`controller`] | decides, from what is seen and from nothing else |
//! | [`pressure`] | reads the host's memory pressure |
//! | [`pilot`] | looks, asks the controller, says in the log what it decides and why |

pub mod controller;
pub mod pilot;
pub mod pressure;

pub use controller::Policy;
pub use pilot::Pilot;
pub use pressure::Pressure;
