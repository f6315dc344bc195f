//! A network of its own for the host's side of a guest's card.

use std::process::Command;

use crate::error::{Error, Result, output_of};
use crate::process;

/// The interface in it that the back-end serves.
const TAP: &str = "tap0";
/// The host's addresses on it (blocks for documentation and for private use).
const ADDRESSES: [&str; 2] = ["192.0.2.1/24", "fd00::1/64"];

/// A network namespace with a tap interface that is up and has addresses. Removed when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one; `name` tells it from others of this process.
    ///
    /// # Errors
    /// [`Error::Missing`] where this user may not make one, or there is no `ip`.
    pub fn create(name: &str) -> Result<Self> {
        let name = format!("outrigger-{}-{name}", std::process::id());
        output_of(Command::new("ip").args(["netns", "add", &name])).map_err(|error| {
            Error::Missing {
                what: format!("a network namespace ({error})"),
                how: "be root, and have the package iproute2".into(),
            }
        })?;
        let namespace = Self { name };
        namespace.ip("link set lo up")?;
        namespace.ip(&format!("tuntap add {TAP} mode tap vnet_hdr"))?;
        for address in ADDRESSES {
            // A kernel without IPv6 has no second one.
            let nodad = if address.contains(':') { " nodad" } else { "" };
            let added = namespace.ip(&format!("addr add {address} dev {TAP}{nodad}"));
            if nodad.is_empty() {
                added?;
            }
        }
        namespace.ip(&format!("link set {TAP} up"))?;
        Ok(namespace)
    }

    /// Its name for `ip netns`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The interface that the back-end serves.
    #[must_use]
    pub const fn tap(&self) -> &'static str {
        TAP
    }

    /// A program inside it, for [`process::Process::start`].
    #[must_use]
    pub fn command(&self, program: &std::path::Path) -> Command {
        let mut command = process::command("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    fn ip(&self, arguments: &str) -> Result<()> {
        let mut command = Command::new("ip");
        command.args(["-n", &self.name]).args(arguments.split_whitespace());
        output_of(&mut command).map(drop)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // What is left of it goes with the machine.
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}
