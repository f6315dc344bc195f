//! Why a machine was not started.

use std::io;

use super::outcome::Outcome;
use crate::bus::Overlap;
use crate::vcpu::crew::CrewError;

/// The result of what prepares a machine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a machine was not started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// KVM, or guest memory.
    #[error(transparent)]
    Hypervisor(#[from] hypervisor::Error),
    /// The kernel, the initrd, or the command line.
    #[error(transparent)]
    Boot(#[from] boot::Error),
    /// PCI.
    #[error(transparent)]
    Pci(#[from] virtio_pci::Error),
    /// vCPUs.
    #[error(transparent)]
    Crew(#[from] CrewError),
    /// The daemons' supervisor.
    #[error(transparent)]
    Supervisor(#[from] supervisor::Error),
    /// What COM1 is connected to.
    #[error(transparent)]
    Serial(#[from] crate::devices::serial::Error),
    /// Two devices in one place.
    #[error(transparent)]
    Overlap(#[from] Overlap),
    /// A device's back-end is not there, or is not what it should be.
    #[error(transparent)]
    Device(#[from] front_end::Error),
    /// A daemon of ours ended before the machine was started.
    #[error("the daemon of {device} {status}; its own message says why")]
    Daemon {
        /// The device's name.
        device: String,
        /// How it ended.
        status: String,
    },
    /// A signal came while back-ends were waited for.
    #[error("a signal came before the guest was started")]
    Cancelled,
    /// It was over before it had begun.
    #[error("{0}")]
    Ended(Outcome),
    /// The control socket, or one that a back-end is to connect to.
    #[error(transparent)]
    Socket(#[from] crate::control::Error),
    /// The process cannot be confined.
    #[error(transparent)]
    Sandbox(#[from] crate::sandbox::Error),
    /// The log.
    #[error(transparent)]
    Log(#[from] crate::logging::FilterError),
    /// The system refused something.
    #[error("{action}: {source}")]
    System {
        /// What was being done.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err` on a system call.
    pub(crate) fn system<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Error::System { action, source: error.into() }
    }
}
