//! Debian packages, fetched with a private apt configuration and never installed.
//!
//! The machine's own package system is only read: its sources say which mirror to ask and which
//! proxies to use. Lists, archives and unpacked files are under `target/guests/`, so nothing needs
//! root, nothing is upgraded or removed, and a suite newer than the machine's can be used beside it.

mod mirror;
mod progress;
mod root;
mod suite;

pub use root::{PackageSet, Root};
pub use suite::Suite;
