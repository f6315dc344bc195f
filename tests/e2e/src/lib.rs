//! Real guests for end-to-end tests and the demo: fetched, booted, put to work, ended.
//!
//! ```text
//! kit ─▶ initrd ─▶ guest (uml | qemu) ─▶ console: results
//!  │                  ▲
//! apt, modules,    daemon: an outrigger back-end on a socket, with its control socket
//! tools
//! ```
//! A [`Kit`] is everything needed to boot one kind of guest. It is fetched as Debian packages into
//! `target/guests/` and unpacked there; nothing is installed on the system. A [`Guest`] boots with
//! an initrd made for its job, and reports on its console in lines `OUTRIGGER key=value`. Every
//! process started here ends with its owner.

mod apt;
mod balloon;
mod block;
mod console;
mod control;
mod cpio;
mod daemon;
mod error;
mod guest;
mod initrd;
mod job;
mod kit;
mod migration;
mod modules;
mod namespace;
mod net;
mod place;
mod process;
mod qemu;
mod require;
mod site;
mod terminal;
mod tools;
mod uml;
mod vm;
mod whole;

pub use apt::{PackageSet, Root, Suite};
pub use balloon::{BalloonScene, BalloonStage, GuestMemory};
pub use block::{FIRST, Report, Scene, Stage, make_image};
pub use console::Results;
pub use daemon::{Daemon, PROGRAMS, Plan, Programs};
pub use error::{Error, Result};
pub use guest::{Card, Disk, Guest, Setup};
pub use job::Job;
pub use kit::{DPDK, Kind, Kit, PEERS};
pub use migration::{Leg, Migration, Moving};
pub use namespace::Namespace;
pub use net::{NetReport, NetScene, NetStage};
pub use place::{Place, RunDir, target_dir, workspace_dir};
pub use process::{Process, command};
pub use require::{REQUIRE, require};
pub use site::{Contents, Ground, Running, Site};
pub use terminal::{Desk, Typist};
pub use vm::{Vm, VmSetup};
pub use whole::Whole;
