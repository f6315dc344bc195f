//! Opening an image, with an error in words for each way in which that fails.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::block_queue::QueueLimits;
use super::{Abilities, Alignment, BlockSizes, Image, Medium, SECTOR, check_size, size_of_file};
use crate::error::{Error, Result};

/// What stands between the device and the medium.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Cache {
    /// Direct I/O: the host's page cache is not used; the driver flushes the disk's own cache
    None,
    /// The host's page cache; what the driver flushes is durable
    #[default]
    Writeback,
    /// The host's page cache; each write is durable before it is complete
    Writethrough,
}

/// What the user asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choice {
    /// Never write.
    pub read_only: bool,
    /// Page cache or direct I/O.
    pub cache: Cache,
    /// A logical block size other than the medium's own, bytes, a power of two.
    pub logical_block_size: Option<u32>,
    /// Whether the image may lose space that the driver gives up.
    pub discard: bool,
}

impl Image {
    /// Opens a raw file or a block device.
    ///
    /// # Errors
    /// When it is not there, is neither of the two, may not be opened, or cannot be served as asked.
    pub fn open(path: &Path, choice: &Choice) -> Result<Self> {
        let medium = medium_of(path)?;
        let file = open_file(path, choice.read_only, choice.cache)?;
        let stat = rustix::fs::fstat(&file).map_err(|e| refused("examine", path, e))?;
        let queue = (medium == Medium::BlockDevice).then(|| QueueLimits::of(&stat));
        let native = native_sizes(medium, &file, &stat, queue.as_ref());
        let direct = match choice.cache {
            Cache::None => Some(Alignment::of(&file, native.logical, path)?),
            Cache::Writeback | Cache::Writethrough => None,
        };
        let needed = direct.map_or(native.logical, |direct| direct.offset.max(native.logical));
        let sizes = choose_sizes(path, native, needed, choice.logical_block_size)?;
        let bytes = size_of_file(&file, path)?;
        check_size(path, bytes, sizes.logical)?;

        let abilities = Abilities::find(medium, &file, bytes, queue.as_ref(), choice);
        let mut files = vec![Arc::new(file)];
        if direct.is_some() {
            files.push(Arc::new(open_file(path, choice.read_only, Cache::Writeback)?));
        }
        Ok(Image {
            path: path.into(),
            medium,
            files,
            bytes,
            read_only: choice.read_only,
            sizes,
            direct,
            abilities,
        })
    }

    /// A device of `bytes` bytes with nothing behind it, for measuring.
    ///
    /// # Errors
    /// When that is not a whole number of blocks.
    pub fn null(bytes: u64, choice: &Choice) -> Result<Self> {
        let logical = choice.logical_block_size.unwrap_or(SECTOR);
        if bytes == 0 || !bytes.is_multiple_of(logical.into()) {
            return Err(Error::OddNull { bytes, block_size: logical });
        }
        Ok(Image {
            path: "null".into(),
            medium: Medium::Null,
            files: Vec::new(),
            bytes,
            read_only: choice.read_only,
            sizes: BlockSizes { logical, physical: logical, minimum_io: logical, optimal_io: 0 },
            direct: None,
            abilities: Abilities::of_null(logical, choice),
        })
    }
}

/// Looks before opening: opening a FIFO or a tape has effects of its own.
fn medium_of(path: &Path) -> Result<Medium> {
    let stat = rustix::fs::stat(path).map_err(|e| refused("examine", path, e))?;
    let found = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => return Ok(Medium::File),
        FileType::BlockDevice => return Ok(Medium::BlockDevice),
        FileType::Directory => "directory",
        FileType::CharacterDevice => "character device",
        FileType::Fifo => "FIFO",
        FileType::Socket => "socket",
        _ => "file of an unknown kind",
    };
    Err(Error::NotAnImage { path: path.into(), found })
}

fn open_file(path: &Path, read_only: bool, cache: Cache) -> Result<OwnedFd> {
    let access = if read_only { OFlags::RDONLY } else { OFlags::RDWR };
    let direct = if cache == Cache::None { OFlags::DIRECT } else { OFlags::empty() };
    let open = |flags| rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty());
    open(access | direct).map_err(|errno| match errno {
        Errno::INVAL if !direct.is_empty() => Error::NoDirectIo { path: path.into() },
        Errno::ROFS | Errno::TXTBSY if !read_only => Error::NotWritable { path: path.into() },
        Errno::ACCESS | Errno::PERM if !read_only && open(OFlags::RDONLY).is_ok() => {
            Error::NotWritable { path: path.into() }
        }
        other => refused("open", path, other),
    })
}

fn native_sizes(
    medium: Medium,
    file: &OwnedFd,
    stat: &Stat,
    queue: Option<&QueueLimits>,
) -> BlockSizes {
    if medium == Medium::BlockDevice {
        let logical = rustix::fs::ioctl_blksszget(file).unwrap_or(SECTOR).max(SECTOR);
        let physical = rustix::fs::ioctl_blkpbszget(file).unwrap_or(logical).max(logical);
        let (minimum_io, optimal_io) =
            queue.map_or((physical, 0), |q| (q.minimum_io_size, q.optimal_io_size));
        return BlockSizes { logical, physical, minimum_io: minimum_io.max(logical), optimal_io };
    }
    let physical = u32::try_from(stat.st_blksize).ok().filter(|n| n.is_power_of_two());
    let physical = physical.unwrap_or(4096).clamp(SECTOR, 4096);
    BlockSizes { logical: SECTOR, physical, minimum_io: physical, optimal_io: 0 }
}

/// The sizes that the device shows: `needed` is the smallest block that goes without a detour.
fn choose_sizes(
    path: &Path,
    native: BlockSizes,
    needed: u32,
    asked: Option<u32>,
) -> Result<BlockSizes> {
    let logical = asked.unwrap_or(needed);
    if logical < needed {
        return Err(Error::BlockSizeTooSmall { path: path.into(), asked: logical, needed });
    }
    Ok(BlockSizes {
        logical,
        physical: native.physical.max(logical),
        minimum_io: native.minimum_io.max(logical),
        optimal_io: native.optimal_io,
    })
}

fn refused(action: &'static str, path: &Path, errno: Errno) -> Error {
    let path = path.into();
    match errno {
        Errno::NOENT | Errno::NOTDIR | Errno::NXIO | Errno::NODEV => Error::Missing { path },
        Errno::ACCESS | Errno::PERM => Error::NoPermission { path },
        other => Error::Image { action, path, source: other.into() },
    }
}
