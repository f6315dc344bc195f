//! The device's files, and how each of them is best served.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::engine::path::Way;
use crate::engine::tag::WatchId;
use crate::engine::{Config, Direction, FileIndex};

/// One of the device's files.
#[derive(Debug)]
pub(super) struct File {
    pub(super) fd: Arc<OwnedFd>,
    /// Where it is registered.
    pub(super) slot: u32,
    /// Whether reads, writes and syncs are carried out on the spot.
    pub(super) at_once: bool,
    /// Whether its reads and writes go to a disk, which works on some while others are submitted.
    pub(super) on_disk: bool,
    /// Whether it goes through the page cache, where what may have to wait is done by threads.
    pub(super) is_buffered: bool,
    /// Whether it is a block device, where discarding is not a matter of fallocate.
    pub(super) is_block_device: bool,
    /// Whether the ring takes the block layer's discard command for it. Until it is known: no.
    pub(super) discards_in_ring: bool,
    /// Whether zeroes can be written by deallocating. False once it has been refused.
    pub(super) unmaps_zeroes: bool,
    /// Whether a stream is to be told with each operation not to wait. One that does not know the
    /// flag goes by its O_NONBLOCK; one that does would be waited for in spite of it.
    pub(super) says_nowait: bool,
    /// Its watches are known by this.
    pub(super) id: WatchId,
    watched: [bool; 2],
}

/// The files of a worker, each at its index.
#[derive(Debug, Default)]
pub(super) struct Files {
    places: Vec<Option<File>>,
    latest: u32,
}

impl Files {
    #[inline]
    pub(super) fn get(&self, index: FileIndex) -> Option<&File> {
        self.places.get(usize::from(index.0))?.as_ref()
    }

    pub(super) fn get_mut(&mut self, index: FileIndex) -> Option<&mut File> {
        self.places.get_mut(usize::from(index.0))?.as_mut()
    }

    /// The first index that is free. None: there is no room.
    pub(super) fn free(&self) -> Option<u16> {
        let hole = self.places.iter().position(Option::is_none);
        let index = u16::try_from(hole.unwrap_or(self.places.len())).ok()?;
        (index < Config::MOST_FILES).then_some(index)
    }

    /// Whether any of them goes through the page cache.
    pub(super) fn any_buffered(&self) -> bool {
        self.places.iter().flatten().any(|file| file.is_buffered)
    }

    /// Puts a file in a place that is free.
    pub(super) fn put(&mut self, index: u16, mut file: File) {
        file.id = WatchId { queue: index, generation: self.latest }.next();
        self.latest = file.id.generation;
        let place = usize::from(index);
        if self.places.len() <= place {
            self.places.resize_with(place + 1, || None);
        }
        if let Some(free) = self.places.get_mut(place) {
            *free = Some(file);
        }
    }

    pub(super) fn take(&mut self, index: FileIndex) -> Option<File> {
        self.places.get_mut(usize::from(index.0))?.take()
    }

    /// A watch has reported: which file it was on, if that is still there.
    pub(super) fn ready(&mut self, id: WatchId, direction: Direction) -> Option<FileIndex> {
        let index = FileIndex(id.queue);
        let file = self.get_mut(index).filter(|file| file.id == id)?;
        *file.watch_mut(direction) = false;
        Some(index)
    }
}

impl File {
    pub(super) fn new(fd: Arc<OwnedFd>, slot: u32) -> Self {
        let kind = rustix::fs::fstat(&fd).map(|stat| FileType::from_raw_mode(stat.st_mode));
        let way = Way::to(&fd);
        File {
            slot,
            at_once: way == Way::AtOnce,
            on_disk: way == Way::Later,
            is_buffered: way == Way::TryRead
                && matches!(kind, Ok(FileType::RegularFile | FileType::BlockDevice)),
            is_block_device: kind == Ok(FileType::BlockDevice),
            discards_in_ring: false,
            unmaps_zeroes: true,
            says_nowait: true,
            id: WatchId { queue: 0, generation: 0 },
            watched: [false; 2],
            fd,
        }
    }

    /// Whether it is watched for this.
    pub(super) fn watch_mut(&mut self, direction: Direction) -> &mut bool {
        let [readable, writable] = &mut self.watched;
        match direction {
            Direction::Readable => readable,
            Direction::Writable => writable,
        }
    }

    /// Takes note of how the kernel answered a discard of no bytes: it refuses the range, unless it
    /// does not know the command, or the device cannot discard at all.
    pub(super) fn discard_probed(&mut self, result: Result<u32, Errno>) {
        self.discards_in_ring = result == Err(Errno::INVAL);
    }
}
