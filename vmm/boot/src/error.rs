//! What can be wrong with a kernel, an initrd or a command line.

use std::io;
use std::path::PathBuf;

/// Why the guest cannot be booted, in words for the person who started it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be opened or read.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Not a regular file.
    #[error("{path} is not a regular file; copy what it provides to one and name that", path = path.display())]
    NotRegular {
        /// What was named.
        path: PathBuf,
    },
    /// An empty file.
    #[error("{path} is empty; it may be an unfinished copy", path = path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Not a kernel.
    #[error("{path} is no kernel: {what}. {advice}", path = path.display())]
    NotAKernel {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// A kernel that cannot be booted this way.
    #[error("the kernel {path} cannot be booted: {what}. {advice}", path = path.display())]
    Kernel {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
        /// What to do.
        advice: &'static str,
    },
    /// Too little RAM.
    #[error(
        "{what} {path} needs RAM up to {needed} MiB, and the machine has {have} MiB below the PCI \
         hole; give it at least {needed} MiB",
        path = path.display()
    )]
    Memory {
        /// "the kernel" or "the initrd".
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// MiB needed, counted from 0.
        needed: u64,
        /// MiB there are.
        have: u64,
    },
    /// The initrd does not fit below the kernel's limit.
    #[error(
        "the initrd {path} ({size} bytes) does not fit between the end of the kernel ({floor:#x}) and \
         the highest address the kernel takes it at ({ceiling:#x}); use a smaller one",
        path = path.display()
    )]
    InitrdTooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// First address it may have.
        floor: u64,
        /// End of the room for it.
        ceiling: u64,
    },
    /// A command line that is too long.
    #[error(
        "the kernel command line has {length} bytes, and this kernel takes {limit}; shorten it"
    )]
    CommandLineTooLong {
        /// Its length in bytes.
        length: usize,
        /// What the kernel takes.
        limit: usize,
    },
    /// A command line with a zero byte or a line break.
    #[error(
        "the kernel command line has a control character at byte {at}; it must be one line of text"
    )]
    CommandLineControl {
        /// Offset of the character.
        at: usize,
    },
    /// RAM does not begin at 0 or is too small for the tables.
    #[error(
        "the machine's {have} MiB of RAM below the PCI hole are too few for its tables; give it more"
    )]
    TooLittleRam {
        /// MiB there are.
        have: u64,
    },
    /// A file cannot be copied to guest memory.
    #[error(
        "cannot load {path} at {address:#x}: {source}. It must not change while it is loaded",
        path = path.display()
    )]
    Load {
        /// The file.
        path: PathBuf,
        /// Where it was to go.
        address: u64,
        /// Why it failed.
        source: vm_memory::GuestMemoryError,
    },
    /// Guest memory cannot be written.
    #[error("cannot write {what} to guest memory at {address:#x}: {source}")]
    Write {
        /// What was to be written.
        what: &'static str,
        /// Where.
        address: u64,
        /// Why it failed.
        source: vm_memory::GuestMemoryError,
    },
}
