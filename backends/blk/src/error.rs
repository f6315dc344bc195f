//! What can go wrong in `outrigger-blk` outside the data path. Each message says what to do next.

use std::io;
use std::path::PathBuf;

/// An error of the block back-end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing has the image's name.
    #[error(
        "there is no image {path:?}: check the name, or create an empty disk with \
         `truncate -s 10G FILE`"
    )]
    Missing {
        /// The path that was asked for.
        path: PathBuf,
    },
    /// The image's name is a directory's, a socket's, a terminal's and so on.
    #[error(
        "the image {path:?} is a {found}: name a regular file or a block device that holds the \
         raw contents of the disk"
    )]
    NotAnImage {
        /// The path that was asked for.
        path: PathBuf,
        /// What it is instead.
        found: &'static str,
    },
    /// This user may not read the image.
    #[error(
        "no permission to open the image {path:?}: give this user access to it and to the \
         directories above it"
    )]
    NoPermission {
        /// The path that was asked for.
        path: PathBuf,
    },
    /// The image can be read, but not written.
    #[error("the image {path:?} cannot be written: add --read-only, or make it writable")]
    NotWritable {
        /// The path that was asked for.
        path: PathBuf,
    },
    /// The image has no bytes.
    #[error(
        "the image {path:?} is empty: give it a size, for instance with `truncate -s 10G FILE`"
    )]
    Empty {
        /// The path that was asked for.
        path: PathBuf,
    },
    /// The image's size is not a whole number of blocks.
    #[error(
        "the image {path:?} has {bytes} bytes, which is not a multiple of its block size of \
         {block_size}: extend it with `truncate -s %{block_size} FILE`"
    )]
    OddSize {
        /// The path that was asked for.
        path: PathBuf,
        /// Its size in bytes.
        bytes: u64,
        /// The size of a logical block in bytes.
        block_size: u32,
    },
    /// The size of a null device is not a whole number of blocks.
    #[error("--null {bytes} is not a multiple of the block size of {block_size} bytes")]
    OddNull {
        /// The size that was asked for, bytes.
        bytes: u64,
        /// The size of a logical block in bytes.
        block_size: u32,
    },
    /// O_DIRECT is not to be had.
    #[error(
        "the file system of {path:?} does no direct I/O: use --cache=writeback or \
         --cache=writethrough instead of --cache=none"
    )]
    NoDirectIo {
        /// The path that was asked for.
        path: PathBuf,
    },
    /// The blocks that were asked for are smaller than the medium takes.
    #[error(
        "--logical-block-size={asked} is less than {path:?} takes with this cache mode: \
         use {needed}, or leave the option out"
    )]
    BlockSizeTooSmall {
        /// The path that was asked for.
        path: PathBuf,
        /// The size that was asked for, bytes.
        asked: u32,
        /// The smallest that can be served, bytes.
        needed: u32,
    },
    /// The kernel refused something about the image.
    #[error("cannot {action} the image {path:?}: {source}")]
    Image {
        /// What was tried.
        action: &'static str,
        /// The path that was asked for.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A command that only an image with a size of its own understands.
    #[error("a null device has no file whose size could change: start it anew with another --null")]
    NullHasNoSize,
    /// Somebody wrote to a field of the config space that cannot be written.
    #[error(
        "a write of {length} bytes at offset {offset} of the config space was refused: a driver \
         may only write `writeback`, with 0 or 1, after negotiating CONFIG_WCE"
    )]
    ConfigWrite {
        /// Where the write began, bytes.
        offset: usize,
        /// Its length, bytes.
        length: usize,
    },
    /// A migration brought a disk that is larger than the one here.
    #[error(
        "the disk that is migrated here has {theirs} sectors, and the image {path:?} only {ours}: \
         give the destination the same image, or one of at least that size"
    )]
    ImageTooSmall {
        /// The image here.
        path: PathBuf,
        /// Sectors of the source's disk.
        theirs: u64,
        /// Sectors of the image here.
        ours: u64,
    },
    /// The saved state is not one of a block device.
    #[error("the saved state is not a block device's (version {version:?}): remove it")]
    State {
        /// Its first byte.
        version: Option<u8>,
    },
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;
