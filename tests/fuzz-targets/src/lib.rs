//! What is fuzzed: functions that take bytes, make an input of them, and panic when something does
//! not hold that must hold whatever the input is.
//!
//! They run under libFuzzer with the address sanitizer (`cargo xtask fuzz`; `tests/fuzz` holds
//! nothing but the entry points and the corpora), and with a fixed number of inputs on the stable
//! toolchain, as an ordinary test of this crate. Those that make no system calls run under Miri too.
//!
//! | module | what it is |
//! |---|---|
//! | [`ring`], [`in_flight`] | rings and in-flight regions with anything in them |
//! | [`differential`] | split rings against `virtio-queue`, packed ones against a model |
//! | [`block`] | the block device under chains of any content |
//! | [`net`] | headers of packets and commands of the network card |
//! | [`balloon`] | the balloon under lists of pages, reports and config writes |
//! | [`balloon_rings`] | the balloon behind its rings, under chains of any shape |
//! | [`messages`] | sequences of vhost-user messages, with descriptors |
//! | [`decode`] | bytes as vhost-user messages |
//! | [`console`] | the table of the console's ports |
//! | [`control`] | bytes as lines of the control socket |
//! | [`net_stream`] | bytes as the stream of a network card's peer |
//! | [`config`] | accesses to the configuration space |
//! | [`front_end`] | a back-end's answers to the VMM's front-end |
//! | [`pci_common`], [`pci_config`] | a guest's accesses to the registers of virtio-pci, and to PCI configuration space |
//! | `guest`, `driver`, `stand`, `step` | what they have in common: memory, a driver without scruples, a worker stepped by hand, its steps |
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a target panics when it meets what must not be, and its own numbers are small"
)]

pub mod balloon;
pub mod balloon_rings;
pub mod block;
pub mod config;
pub mod console;
pub mod control;
pub mod decode;
pub mod differential;
mod driver;
pub mod front_end;
mod guest;
pub mod in_flight;
pub mod messages;
pub mod net;
pub mod net_stream;
pub mod pci_common;
pub mod pci_config;
pub mod ring;
mod stand;
mod step;

/// A target: its name, and what runs one input.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name, that of its entry point and of its corpus too.
    pub name: &'static str,
    /// Runs one input; panics when something is wrong.
    pub run: fn(&[u8]),
    /// Whether it makes no system calls, so that Miri can run it.
    pub pure: bool,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "ring_split", run: ring::split, pure: true },
    Target { name: "ring_packed", run: ring::packed, pure: true },
    Target { name: "in_flight", run: in_flight::run, pure: true },
    Target { name: "differential_split", run: differential::split, pure: false },
    Target { name: "differential_packed", run: differential::packed, pure: true },
    Target { name: "block", run: block::run, pure: true },
    Target { name: "console", run: console::run, pure: true },
    Target { name: "net_headers", run: net::headers, pure: true },
    Target { name: "net_commands", run: net::commands, pure: true },
    Target { name: "balloon", run: balloon::run, pure: false },
    Target { name: "balloon_rings", run: balloon_rings::run, pure: false },
    Target { name: "messages", run: messages::run, pure: false },
    Target { name: "decode", run: decode::run, pure: false },
    Target { name: "control", run: control::run, pure: true },
    Target { name: "config", run: config::run, pure: false },
    Target { name: "front_end", run: front_end::run, pure: false },
    Target { name: "net_stream", run: net_stream::run, pure: false },
    Target { name: "pci_common", run: pci_common::run, pure: false },
    Target { name: "pci_config", run: pci_config::run, pure: false },
];
