//! What can go wrong on stage.

use hypervisor::Failure;

/// The one error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// KVM refuses.
    #[error(transparent)]
    Hypervisor(#[from] hypervisor::Error),
    /// The bus cannot be made.
    #[error(transparent)]
    Bus(#[from] virtio_pci::Error),
    /// The guest's program is not what a linker makes.
    #[error("the guest's program cannot be loaded: {0}")]
    Image(&'static str),
    /// The guest does not fit into its memory.
    #[error("the guest's memory: {0}")]
    Memory(#[from] vm_memory::GuestMemoryError),
    /// KVM has given the guest up.
    #[error("the guest cannot go on: {0}")]
    Failed(Box<Failure>),
    /// The guest stopped in a way that it has no reason to.
    #[error("the guest stopped with {exit}; so far it said:\n{said}")]
    Stopped {
        /// The exit.
        exit: String,
        /// What it had said.
        said: String,
    },
    /// The guest found something wrong.
    #[error("the guest ended with status {status}; it said:\n{said}")]
    Status {
        /// Its exit status.
        status: u8,
        /// What it had said.
        said: String,
    },
}

/// The result of everything here.
pub type Result<T, E = Error> = std::result::Result<T, E>;
