//! The machine: what it is made of, its life, and the thread that watches over it.
//!
//! | module | what it is |
//! |---|---|
//! | [`lifecycle`] | states, events, steps; no I/O |
//! | [`outcome`] | how it ended: last words and exit status |
//! | [`assembly`] | puts a machine together |
//! | [`body`] | a machine that is put together, and how it is taken down |
//! | [`fixed`], [`back_ends`], [`ram`], [`guest`] | what it consists of |
//! | [`loading`] | the guest gets into memory meanwhile |
//! | [`exits`] | who answers when the guest leaves its CPU |
//! | [`desk`] | decisions become actions |
//! | [`watch`] | the main thread's loop |
//! | `requests` | what the control socket can ask for |
//! | [`relay`] | commands for daemons, and their answers |
//! | [`visitors`] | whom it attends to besides: serial input, the control socket |
//! | [`mailbox`] | what other threads have to tell the main one |
//! | [`signals`] | SIGTERM and SIGINT as something to read |
//! | [`window`] | SIGWINCH, passed on to the console that has our terminal |

pub mod assembly;
pub mod back_ends;
pub mod body;
pub mod desk;
mod error;
pub mod exits;
pub mod fixed;
pub mod guest;
pub mod lifecycle;
pub mod loading;
pub mod mailbox;
pub mod outcome;
pub mod ram;
pub mod relay;
mod requests;
pub mod signals;
pub mod visitors;
pub mod watch;
pub mod window;

pub use error::{Error, Result};
