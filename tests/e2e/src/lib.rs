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
mod balloon_vm;
mod block;
mod console;
mod control;
mod cpio;
mod daemon;
mod error;
mod firmware;
mod frames;
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
mod receiver;
mod require;
mod screen;
mod site;
mod stream;
mod terminal;
mod testpmd;
mod tools;
mod uml;
mod visit;
mod vm;
mod whole;

pub use apt::{PackageSet, Root, Suite};
pub use balloon::{BalloonScene, BalloonStage, GuestEvents, GuestMemory};
pub use balloon_vm::{Ballooned, Moment};
pub use block::{FIRST, Report, Scene, Stage, feature_names, make_image};
pub use console::Results;
pub use daemon::{Daemon, PROGRAMS, Plan, Programs};
pub use error::{Error, Result};
pub use firmware::{Firmware, FirmwareStage};
pub use frames::{numbered, read_pcap, write_pcap};
pub use guest::{Card, Disk, Generic, Guest, Setup};
pub use job::Job;
pub use kit::{DPDK, Kind, Kit, PEERS};
pub use migration::{Leg, Migration, Moving};
pub use namespace::Namespace;
pub use net::{NetReport, NetScene, NetStage};
pub use place::{Place, RunDir, target_dir, workspace_dir};
pub use process::{Process, command};
pub use receiver::{Receiver, Seen};
pub use require::{REQUIRE, packages, require};
pub use screen::{Screen, TERMINAL};
pub use site::{Contents, Ground, Running, Site};
pub use stream::{Server, Stream, StreamScene, StreamStage};
pub use terminal::{ConsoleScene, Desk, Typist};
pub use testpmd::{RingPath, Session, Testpmd, last_figures};
pub use vm::{Vm, VmSetup};
pub use whole::Whole;
