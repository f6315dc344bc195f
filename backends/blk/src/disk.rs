//! What the control side and the workers know of the disk together.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use framework::engine::FileIndex;
use framework::memory::Segment;
use framework::program::rate_limit::{self, RateLimit};
use rustix::io::Errno;
use virtio_spec::block::{CONFIG_WCE, FLUSH};
use virtio_spec::features::Negotiated;

use crate::erase::Method;
use crate::image::{Alignment, Image, Medium};

/// The file that I/O is done on, and that carries the lock.
pub const MAIN: FileIndex = FileIndex(0);
/// Beside a direct [`MAIN`]: takes requests of less than the medium's blocks, through the page
/// cache. virtio counts in sectors of 512 bytes whatever `blk_size` says (virtio 1.4, 5.2.5).
///
/// It carries no lock, and needs none: an engine gives up its files together, when the last
/// operation on any of them has ended.
pub const BUFFERED: FileIndex = FileIndex(1);

/// How the bytes of a request get to the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Straight between guest memory and this file.
    Straight(FileIndex),
    /// Through a lent buffer: direct I/O does not take this memory.
    Bounced,
}

/// What is known of a disk when it is opened, and stays.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// What it lies on.
    pub medium: Medium,
    /// Its size then, bytes.
    pub bytes: u64,
    /// Whether it may not be written.
    pub read_only: bool,
    /// The size of a logical block, bytes.
    pub block_size: u32,
    /// What direct I/O on [`MAIN`] demands; None where it goes through the page cache.
    pub direct: Option<Alignment>,
    /// Whether zeroing may give up space.
    pub unmap: bool,
}

impl From<&Image> for Facts {
    fn from(image: &Image) -> Self {
        Facts {
            medium: image.medium(),
            bytes: image.bytes(),
            read_only: image.is_read_only(),
            block_size: image.sizes().logical,
            direct: image.direct(),
            unmap: image.abilities().unmap,
        }
    }
}

/// The facts, and a few things that change while workers run. The latter are single values that
/// nothing else depends on, so relaxed order is enough: a request that is being served while one
/// changes may see the old value or the new.
#[derive(Debug)]
pub struct Disk {
    facts: Facts,
    bytes: AtomicU64,
    durable: AtomicBool,
    refused_unmap: AtomicBool,
    refused_zero: AtomicBool,
    complaints: RateLimit,
}

impl Disk {
    /// A disk of which these are the facts. Writes are durable until [`Disk::set_cache_mode`] says
    /// otherwise.
    pub fn new(facts: Facts) -> Self {
        Disk {
            facts,
            bytes: AtomicU64::new(facts.bytes),
            durable: AtomicBool::new(true),
            refused_unmap: AtomicBool::new(false),
            refused_zero: AtomicBool::new(false),
            complaints: RateLimit::new(4, Duration::from_secs(10)),
        }
    }

    /// What it lies on.
    pub fn medium(&self) -> Medium {
        self.facts.medium
    }

    /// Whether it may not be written.
    pub fn is_read_only(&self) -> bool {
        self.facts.read_only
    }

    /// The size of a logical block, bytes.
    pub fn block_size(&self) -> u32 {
        self.facts.block_size
    }

    /// The size of the disk as it is now, bytes.
    #[inline]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// The disk has grown or shrunk.
    pub fn set_bytes(&self, bytes: u64) {
        self.bytes.store(bytes, Relaxed);
    }

    /// Whether each write must be durable before it is complete.
    #[inline]
    pub fn is_durable(&self) -> bool {
        self.durable.load(Relaxed)
    }

    /// The cache mode has changed, or what was negotiated.
    ///
    /// virtio 1.4, 5.2.6.2: a write is stable once complete when `writeback` is 0, or when the
    /// driver can neither flush nor see the cache mode.
    pub fn set_cache_mode(&self, writeback: bool, features: Negotiated) {
        let manages_cache = features.has(FLUSH) || features.has(CONFIG_WCE);
        self.durable.store(!writeback || !manages_cache, Relaxed);
    }

    /// How a request for `len` bytes at `offset`, with its data in `segments`, gets there.
    #[inline]
    pub fn route(&self, offset: u64, len: u64, segments: &[Segment]) -> Route {
        match self.facts.direct {
            None => Route::Straight(MAIN),
            Some(direct) if !direct.takes_range(offset, len) => Route::Straight(BUFFERED),
            Some(direct) if direct.takes_memory(segments) => Route::Straight(MAIN),
            Some(_) => Route::Bounced,
        }
    }

    /// The file that takes `len` bytes at `offset` from an aligned buffer.
    pub fn file_for(&self, offset: u64, len: u64) -> FileIndex {
        match self.facts.direct {
            Some(direct) if !direct.takes_range(offset, len) => BUFFERED,
            _ => MAIN,
        }
    }

    /// Whether a range may be zeroed in this way: it is possible, and was not refused so far.
    pub(crate) fn may(&self, method: Method) -> bool {
        match method {
            Method::Unmap => self.facts.unmap && !self.refused_unmap.load(Relaxed),
            Method::Zero => !self.refused_zero.load(Relaxed),
            Method::Write | Method::Discard | Method::SecureErase => true,
        }
    }

    /// The medium does not do this: it is not asked again.
    pub(crate) fn refused(&self, method: Method) {
        match method {
            Method::Unmap => self.refused_unmap.store(true, Relaxed),
            Method::Zero => self.refused_zero.store(true, Relaxed),
            Method::Write | Method::Discard | Method::SecureErase => {}
        }
    }

    /// Logs that an operation failed, at a limited rate.
    #[cold]
    pub fn complain(&self, action: &str, offset: u64, errno: Errno) {
        if let Some(suppressed) = self.complaints.admit(rate_limit::now()) {
            let advice = match errno {
                Errno::NOSPC | Errno::DQUOT => "; make room where the image lies",
                _ => "",
            };
            tracing::error!(offset, suppressed, "cannot {action} the image: {errno}{advice}");
        }
    }
}
