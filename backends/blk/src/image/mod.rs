//! The image: a raw file, a block device of the host, or nothing at all. Knows files, not virtio.
//!
//! All that can only be found out with the file system at hand is found out when the image is
//! opened: later the process is confined. The format is never guessed: the image is the disk.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::SeekFrom;

use crate::error::{Error, Result};

mod abilities;
mod alignment;
mod block_queue;
mod described;
mod lock;
mod open;
mod secure_erase;

pub use abilities::Abilities;
pub use alignment::Alignment;
pub use described::Description;
pub use lock::Locked;
pub use open::{Cache, Choice};

/// The unit of sizes and positions in virtio, and the smallest logical block, bytes.
pub const SECTOR: u32 = 512;

/// What kind of thing the image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// A regular file.
    File,
    /// A block device of the host.
    BlockDevice,
    /// Nothing: requests end at once, and what a read gives is not defined.
    Null,
}

/// Sizes that the medium has or likes, all in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSizes {
    /// The smallest request that needs no detour.
    pub logical: u32,
    /// What the medium writes at once.
    pub physical: u32,
    /// The smallest request that it likes.
    pub minimum_io: u32,
    /// The request that it likes best; 0: none in particular.
    pub optimal_io: u32,
}

/// An opened image.
#[derive(Debug)]
pub struct Image {
    path: PathBuf,
    medium: Medium,
    /// The description all I/O goes through and, with direct I/O, a buffered one beside it.
    files: Vec<Arc<OwnedFd>>,
    bytes: u64,
    read_only: bool,
    sizes: BlockSizes,
    direct: Option<Alignment>,
    abilities: Abilities,
}

impl Image {
    /// The name it was opened by; `null` for none.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it is.
    pub fn medium(&self) -> Medium {
        self.medium
    }

    /// The files to do I/O on: [`crate::disk::MAIN`] first, then [`crate::disk::BUFFERED`] where
    /// there is direct I/O. None for [`Medium::Null`].
    pub fn files(&self) -> &[Arc<OwnedFd>] {
        &self.files
    }

    /// The size when it was opened, bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether it was opened for reading only.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Sizes of its blocks.
    pub fn sizes(&self) -> BlockSizes {
        self.sizes
    }

    /// What direct I/O demands; None where I/O goes through the page cache.
    pub fn direct(&self) -> Option<Alignment> {
        self.direct
    }

    /// What it can do besides reading and writing.
    pub fn abilities(&self) -> Abilities {
        self.abilities
    }

    /// The size as it is now, bytes: somebody may have changed it.
    ///
    /// # Errors
    /// When it cannot be found out, or cannot be served: it must be a whole number of blocks, and
    /// at least one.
    pub fn read_size(&self) -> Result<u64> {
        let Some(file) = self.files.first() else { return Err(Error::NullHasNoSize) };
        let bytes = size_of_file(file, &self.path)?;
        check_size(&self.path, bytes, self.sizes.logical)?;
        Ok(bytes)
    }

    /// Tries to take the lock that keeps other back-ends from the image: exclusive, or shared for
    /// an image that is only read. Never waits.
    ///
    /// # Errors
    /// When there are no locks where the image lies.
    pub fn try_lock(&self) -> Result<Locked> {
        let Some(file) = self.files.first() else { return Ok(Locked::Yes) };
        lock::try_lock(file, self.read_only).map_err(|source| self.error("lock", source))
    }

    /// Gives the lock back.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn unlock(&self) -> Result<()> {
        let Some(file) = self.files.first() else { return Ok(()) };
        lock::unlock(file).map_err(|source| self.error("unlock", source))
    }

    fn error(&self, action: &'static str, source: std::io::Error) -> Error {
        Error::Image { action, path: self.path.clone(), source }
    }
}

/// The size of a regular file or a block device, bytes.
fn size_of_file(file: &OwnedFd, path: &Path) -> Result<u64> {
    // No operation uses the file's position, so moving it disturbs nothing.
    rustix::fs::seek(file, SeekFrom::End(0)).map_err(|source| Error::Image {
        action: "find out the size of",
        path: path.into(),
        source: source.into(),
    })
}

fn check_size(path: &Path, bytes: u64, block_size: u32) -> Result<()> {
    match bytes {
        0 => Err(Error::Empty { path: path.into() }),
        n if n.is_multiple_of(block_size.into()) => Ok(()),
        _ => Err(Error::OddSize { path: path.into(), bytes, block_size }),
    }
}
