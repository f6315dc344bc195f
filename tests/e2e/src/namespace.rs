//! A network of its own for the host's side of a guest's card.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

use rustix::thread::LinkNameSpaceType;

use crate::error::{Error, Result, output_of};
use crate::kit::Kit;
use crate::process;

/// The interface in it that the back-end serves.
const TAP: &str = "tap0";
/// The host's addresses on it (blocks for documentation and for private use).
const ADDRESSES: [&str; 2] = ["192.0.2.1/24", "fd00::1/64"];

/// The ends of a link to another host (a block for documentation).
const NEAR: &str = "203.0.113.1";
const FAR: &str = "203.0.113.2";

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
        let namespace = Self::empty(name)?;
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

    /// Makes one without any interface but its own loopback.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn empty(name: &str) -> Result<Self> {
        let name = format!("outrigger-{}-{name}", std::process::id());
        output_of(Command::new("ip").args(["netns", "add", &name])).map_err(|error| {
            Error::Missing {
                what: format!("a network namespace ({error})"),
                how: "be root, and have the package iproute2".into(),
            }
        })?;
        let namespace = Self { name };
        namespace.ip("link set lo up")?;
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
    pub fn command(&self, program: &Path) -> Command {
        self.inside(&Command::new(program))
    }

    /// A command inside it, for [`process::Process::start`].
    #[must_use]
    pub fn inside(&self, command: &Command) -> Command {
        inside(&self.name, command)
    }

    /// Moves the calling thread into it, for ever; what the thread opens stays there.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn enter(&self) -> Result<()> {
        let path = Path::new("/run/netns").join(&self.name);
        let file = File::open(&path).map_err(Error::file("open", &path))?;
        let kind = Some(LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(file.as_fd(), kind)
            .map_err(|error| Error::file("enter", &path)(error.into()))
    }

    /// Connects it with a namespace of another host, `far`, that has this address on a link without
    /// offloads, and has packets forwarded to it; what is sent to it has to be complete.
    ///
    /// # Errors
    /// When a step fails, or `ethtool` does.
    pub fn connect(&self, far: &Self, kit: &Kit) -> Result<()> {
        self.ip(&format!("link add near type veth peer name far netns {}", far.name))?;
        for (end, link, address) in [(self, "near", NEAR), (far, "far", FAR)] {
            end.ip(&format!("addr add {address}/24 dev {link}"))?;
            end.ip(&format!("link set {link} up"))?;
            let mut ethtool = end.inside(&kit.network().command("sbin/ethtool")?);
            ethtool.args(["-K", link, "tx", "off", "tso", "off", "gso", "off"]);
            output_of(&mut ethtool)?;
        }
        far.ip(&format!("route add default via {NEAR}"))?;
        let forward = "echo 1 > /proc/sys/net/ipv4/ip_forward";
        output_of(self.inside(&Command::new("sh")).args(["-c", forward])).map(drop)
    }

    /// What is in a file of the kernel's on an interface: `statistics/rx_bytes`.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn interface(&self, interface: &str, file: &str) -> Result<String> {
        let path = format!("/sys/class/net/{interface}/{file}");
        Ok(output_of(self.inside(&Command::new("cat")).arg(path))?.trim().to_owned())
    }

    /// Runs `ip` inside it, with arguments that hold no spaces.
    ///
    /// # Errors
    /// When it fails.
    pub fn ip(&self, arguments: &str) -> Result<()> {
        let mut command = Command::new("ip");
        command.args(["-n", &self.name]).args(arguments.split_whitespace());
        output_of(&mut command).map(drop)
    }
}

/// A command as it is, but in the network namespace of this name.
pub(crate) fn inside(namespace: &str, command: &Command) -> Command {
    let mut inner = process::command("ip");
    inner.args(["netns", "exec", namespace]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        // Nothing is taken out of the environment here.
        inner.envs(value.map(|value| (name, value)));
    }
    inner
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // What is left of it goes with the machine.
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}
