//! What is measured: the consoles, and what is done with each.

use std::fmt;

use clap::ValueEnum;
use serde::Serialize;

/// A console, and the guest that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Console {
    /// outrigger-console, in User Mode Linux.
    UmlOutrigger,
    /// That of User Mode Linux itself.
    UmlOwn,
    /// outrigger-console, in QEMU's generic vhost-user device.
    QemuOutrigger,
    /// QEMU's virtio-serial.
    QemuVirtioSerial,
    /// The crate vhost-device-console, in QEMU's generic vhost-user device.
    QemuCrate,
}

/// What is done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Load {
    /// A stream from the guest's terminal.
    TerminalToHost,
    /// A stream to the guest's terminal.
    TerminalToGuest,
    /// Keys, each sent back by the guest.
    Keys,
    /// A stream from a port that is no console.
    PortToHost,
    /// A stream to such a port.
    PortToGuest,
    /// Bytes at once from a driver that counts used elements.
    BurstToHost,
    /// Bytes at once to such a driver.
    BurstToGuest,
}

/// One of them with one of those.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Cell {
    pub(super) console: Console,
    pub(super) load: Load,
}

impl Console {
    /// Whether its guest is User Mode Linux.
    pub(super) const fn is_in_uml(self) -> bool {
        matches!(self, Self::UmlOutrigger | Self::UmlOwn)
    }

    /// Whether it has a port that is no console.
    pub(super) const fn has_port(self) -> bool {
        matches!(self, Self::UmlOutrigger | Self::QemuOutrigger | Self::QemuVirtioSerial)
    }

    /// Whether a back-end of its own serves it, with a driver of its own to count with: ours in one of
    /// the guests.
    pub(super) const fn has_back_end(self) -> bool {
        matches!(self, Self::QemuOutrigger | Self::QemuCrate)
    }

    /// What is done with it in a guest.
    pub(super) fn loads(self) -> Vec<Load> {
        // The crate hands the buffer of several bytes over once for each of them, which breaks the
        // queue of a driver that looks.
        let stream = (self != Self::QemuCrate).then_some(Load::TerminalToGuest);
        let mut loads = vec![Load::TerminalToHost, Load::Keys];
        loads.extend(stream);
        if self.has_port() {
            loads.extend([Load::PortToHost, Load::PortToGuest]);
        }
        loads
    }

    /// Ours in the same guest.
    pub(super) const fn ours(self) -> Self {
        if self.is_in_uml() { Self::UmlOutrigger } else { Self::QemuOutrigger }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::UmlOutrigger => "User Mode Linux, outrigger-console",
            Self::UmlOwn => "User Mode Linux, its own console",
            Self::QemuOutrigger => "QEMU, outrigger-console",
            Self::QemuVirtioSerial => "QEMU, its virtio-serial",
            Self::QemuCrate => "QEMU, vhost-device-console",
        }
    }
}

impl Load {
    /// Whether it is a stream, whose rate counts.
    pub(super) const fn is_stream(self) -> bool {
        !matches!(self, Self::Keys | Self::BurstToHost | Self::BurstToGuest)
    }

    /// Whether its bytes go to the host.
    pub(super) const fn is_to_host(self) -> bool {
        matches!(self, Self::TerminalToHost | Self::PortToHost | Self::BurstToHost)
    }

    /// Whether it goes through a port that is no console.
    pub(super) const fn is_port(self) -> bool {
        matches!(self, Self::PortToHost | Self::PortToGuest)
    }

    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::TerminalToHost => "terminal, to the host",
            Self::TerminalToGuest => "terminal, to the guest",
            Self::Keys => "keys echoed",
            Self::PortToHost => "port, to the host",
            Self::PortToGuest => "port, to the guest",
            Self::BurstToHost => "burst to the host",
            Self::BurstToGuest => "burst to the guest",
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.console.title(), self.load.title())
    }
}
