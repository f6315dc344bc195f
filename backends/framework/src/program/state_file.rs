//! Keeping a device's state where `kill -9` does not reach it.
//!
//! Theory of operation. The state lives in one file that is opened at the start (`--state-path`,
//! `--state-fd`, or a memfd in the service manager's fd store), so that nothing need be opened,
//! created or renamed once the sandbox is closed. The file has two slots with a [`Blob`] each, written
//! in turn: the blob with the higher sequence number counts, and the other slot is the one that is
//! overwritten next. A process killed in the middle of a write leaves a slot whose checksum is wrong,
//! and the other one as it was. Nothing is synced to a disk: the page cache outlives the process, and
//! a machine that loses its power loses the guest as well.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::{FileExt, OpenOptionsExt},
    },
    path::Path,
    thread,
    time::Duration,
};

use rustix::{
    fs::{FlockOperation, MemfdFlags, OFlags, SealFlags, fcntl_add_seals, flock, memfd_create},
    io::Errno,
};

use super::{
    inherited::{self, ListenFds},
    notify::Notifier,
    options::CommonOptions,
    state::{Blob, BlobError, HEADER_SIZE, PAYLOAD_MAX},
};
use crate::error::{Error, Result};

/// The name of the memfd in the service manager's fd store.
const STORE_NAME: &str = "outrigger-state";
/// A blob at its longest, on page boundaries.
const SLOT_SIZE: usize = (HEADER_SIZE + PAYLOAD_MAX).next_multiple_of(4096);
/// How long a predecessor that was just killed may keep its lock.
const LOCK_TRIES: u32 = 50;
const LOCK_INTERVAL: Duration = Duration::from_millis(10);
const FILE_SIZE: u64 = 2 * SLOT_SIZE as u64;

/// The file with the state of one device.
#[derive(Debug)]
pub struct StateFile {
    file: File,
    /// For messages: the path, or what stands for it.
    place: String,
    device: u32,
    /// The newest blob, if there is one.
    newest: Option<Blob>,
}

impl StateFile {
    /// Opens the state of a daemon's further device: the first one's path with a dot and its number.
    ///
    /// # Errors
    /// [`Error::StateOfSeveral`] with `--state-fd`; else as [`StateFile::open`].
    pub fn open_further(
        options: &CommonOptions,
        number: usize,
        device: u32,
    ) -> Result<Option<Self>> {
        if options.state_fd.is_some() {
            return Err(Error::StateOfSeveral);
        }
        let Some(path) = &options.state_path else { return Ok(None) };
        let mut path = path.clone().into_os_string();
        path.push(format!(".{number}"));
        Self::at_path(path.as_ref(), device).map(Some)
    }

    /// Opens what the command line names, else what the service manager kept, else, under a service
    /// manager, a new memfd that is given to it; `None` without any of them.
    ///
    /// # Errors
    /// [`Error::State`] if the file is something else or another daemon's, [`Error::StateBlob`] if its
    /// state is another device's or a newer program's, [`Error::StateIo`], [`Error::InheritedFd`].
    pub fn open(
        options: &CommonOptions,
        passed: &mut ListenFds,
        manager: &Notifier,
        device: u32,
    ) -> Result<Option<Self>> {
        if let Some(path) = &options.state_path {
            return Self::at_path(path, device).map(Some);
        }
        if let Some(fd) = options.state_fd {
            let file = File::from(inherited::claim(fd)?);
            return Self::in_file(file, format!("file descriptor {fd}"), device).map(Some);
        }
        let place = "the service manager's fd store";
        if let Some(fd) = passed.take(STORE_NAME) {
            return Self::in_file(fd.into(), place.to_owned(), device).map(Some);
        }
        if !manager.is_active() {
            return Ok(None);
        }
        let failed = |errno| io_error("create a memfd for", place, io::Error::from(errno));
        let state = Self::in_file(new_memfd().map_err(failed)?, place.to_owned(), device)?;
        manager.store_fd(STORE_NAME, state.as_fd());
        Ok(Some(state))
    }

    /// Opens or creates the file at a path, for this process alone.
    pub(crate) fn at_path(path: &Path, device: u32) -> Result<Self> {
        let place = format!("{path:?}");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(path)
            .map_err(|source| io_error("open", &place, source))?;
        for _ in 0..LOCK_TRIES {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Self::in_file(file, place, device),
                Err(Errno::WOULDBLOCK) => thread::sleep(LOCK_INTERVAL),
                Err(errno) => return Err(io_error("lock", &place, errno.into())),
            }
        }
        Err(Error::State {
            place,
            reason: "another back-end uses it; give each one a file of its own",
        })
    }

    fn in_file(file: File, place: String, device: u32) -> Result<Self> {
        let foreign = Error::State {
            place: place.clone(),
            reason: "it is not a state file and will not be overwritten; \
                     name another file, or one that does not exist",
        };
        let found = file.metadata().map_err(|source| io_error("look at", &place, source))?;
        match found.len() {
            _ if !found.is_file() => return Err(foreign),
            0 => file
                .set_len(FILE_SIZE)
                .map_err(|source| io_error("make room for", &place, source))?,
            FILE_SIZE => {}
            _ => return Err(foreign),
        }
        let mut state = Self { file, place, device, newest: None };
        state.newest = state.read_newest()?;
        Ok(state)
    }

    /// The version and the bytes that the device saved last; `None` if it has not saved any.
    #[must_use]
    pub fn saved(&self) -> Option<(u16, &[u8])> {
        self.newest.as_ref().map(|blob| (blob.version, blob.payload.as_slice()))
    }

    /// Saves the device's state: from the return of this function on it survives the process. State that
    /// is saved already is not written again.
    ///
    /// # Errors
    /// [`Error::StateBlob`] if it is too long, [`Error::StateIo`] if the system refuses.
    pub fn save(&mut self, version: u16, payload: &[u8]) -> Result<()> {
        if self.saved() == Some((version, payload)) {
            return Ok(());
        }
        let sequence = self.newest.as_ref().map_or(0, |blob| blob.sequence).wrapping_add(1);
        let blob = Blob { device: self.device, version, sequence, payload: payload.to_vec() };
        let bytes = blob.encode()?;
        self.file
            .write_all_at(&bytes, slot_offset(sequence))
            .map_err(|source| io_error("write", &self.place, source))?;
        self.newest = Some(blob);
        Ok(())
    }

    /// The valid blob with the higher sequence number.
    fn read_newest(&self) -> Result<Option<Blob>> {
        let mut newest: Option<Blob> = None;
        for slot in 0..2 {
            let mut bytes = vec![0; SLOT_SIZE];
            self.file
                .read_exact_at(&mut bytes, slot_offset(slot))
                .map_err(|source| io_error("read", &self.place, source))?;
            match Blob::decode_prefix(&bytes) {
                Ok((blob, _)) => {
                    let blob = blob.of_device(self.device)?;
                    if newest.as_ref().is_none_or(|other| blob.sequence > other.sequence) {
                        newest = Some(blob);
                    }
                }
                // Never written, or its writer was killed; with a version of 0, after the first bytes.
                Err(BlobError::Version(0)) => {}
                Err(error @ BlobError::Version(_)) => return Err(error.into()),
                Err(_) => {}
            }
        }
        Ok(newest)
    }
}

impl AsFd for StateFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Blobs are written to the two slots in turn.
fn slot_offset(sequence: u64) -> u64 {
    (sequence % 2) * SLOT_SIZE as u64
}

/// A memfd of the right size, which nobody can cut short.
fn new_memfd() -> rustix::io::Result<File> {
    let fd = memfd_create(STORE_NAME, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::fs::ftruncate(&fd, FILE_SIZE)?;
    fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW)?;
    Ok(fd.into())
}

fn io_error(action: &'static str, place: &str, source: io::Error) -> Error {
    Error::StateIo { action, place: place.to_owned(), source }
}

#[cfg(test)]
#[path = "state_file_test.rs"]
mod tests;
