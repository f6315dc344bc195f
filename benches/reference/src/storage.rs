//! What is behind the device, and the io_uring that moves its data to and from guest memory.
#![expect(unsafe_code, reason = "io_uring takes raw pointers into guest memory")]

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use io_uring::{IoUring, opcode, squeue, types};
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryLoadGuard, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::request::{Operation, Request};
use virtio_queue::desc::split::Descriptor;

/// A served medium: an open file, or nothing at all.
pub(crate) struct Medium {
    file: Option<File>,
    size: u64,
}

impl Medium {
    /// Opens a file or block device for reading and writing.
    ///
    /// # Errors
    /// The operating system's, if it cannot be opened or its size found.
    pub(crate) fn open(path: &Path, direct: bool) -> io::Result<Self> {
        let flags = if direct { libc::O_DIRECT } else { 0 };
        let mut file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
        let size = file.seek(SeekFrom::End(0))?;
        Ok(Self { file: Some(file), size })
    }

    /// A medium of `size` bytes that moves no data.
    pub(crate) fn null(size: u64) -> Self {
        Self { file: None, size }
    }

    /// Size in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The engine of one queue of `queue_size` entries, or none for a medium without a file.
    ///
    /// # Errors
    /// The operating system's, if the io_uring or the file handle cannot be made.
    pub(crate) fn engine(&self, queue_size: u16) -> io::Result<Option<Engine>> {
        self.file.as_ref().map(|file| Engine::new(file.try_clone()?, queue_size)).transpose()
    }
}

/// A request between its submission and its completion.
#[derive(Default)]
struct InFlight {
    /// Segments in guest memory; the kernel reads the array until completion.
    segments: Vec<libc::iovec>,
    /// Keeps guest memory mapped until completion. `None`: the slot is free.
    memory: Option<GuestMemoryLoadGuard<GuestMemoryMmap>>,
    status: GuestAddress,
    /// What a success must have moved.
    bytes: u64,
    /// Bytes written into guest memory by a success, without the status byte.
    written: u32,
}

/// A finished request, to be put on the used ring.
pub(crate) struct Finished {
    pub(crate) head: u16,
    pub(crate) status: GuestAddress,
    pub(crate) ok: bool,
    pub(crate) written: u32,
    pub(crate) memory: GuestMemoryLoadGuard<GuestMemoryMmap>,
}

/// One queue's io_uring; requests are known by the head of their chain.
pub(crate) struct Engine {
    ring: IoUring,
    file: File,
    completed: EventFd,
    slots: Vec<InFlight>,
}

// SAFETY: the pointers in `slots` lead into guest memory that the slot itself keeps mapped, and
// only the kernel follows them; nothing is bound to the thread that made them.
unsafe impl Send for Engine {}

impl Engine {
    fn new(file: File, queue_size: u16) -> io::Result<Self> {
        let ring = IoUring::new(u32::from(queue_size))?;
        let completed = EventFd::new(EFD_NONBLOCK)?;
        ring.submitter().register_files(&[file.as_raw_fd()])?;
        ring.submitter().register_eventfd(completed.as_raw_fd())?;
        let slots = (0..queue_size).map(|_| InFlight::default()).collect();
        Ok(Self { ring, file, completed, slots })
    }

    /// Readable when something has completed.
    pub(crate) fn completion_fd(&self) -> RawFd {
        self.completed.as_raw_fd()
    }

    /// Forgets completions signalled so far, before they are looked for.
    pub(crate) fn clear_completion_fd(&self) {
        // Nothing to read is the ordinary case and no error.
        let _ = self.completed.read();
    }

    /// Prepares a read, write or flush; [`Engine::submit`] hands it to the kernel.
    ///
    /// # Errors
    /// Data outside guest memory, a chain that is in flight already, a full submission queue.
    pub(crate) fn start(
        &mut self,
        request: &Request,
        data: &[Descriptor],
        memory: &GuestMemoryLoadGuard<GuestMemoryMmap>,
    ) -> io::Result<()> {
        let slot = self
            .slots
            .get_mut(usize::from(request.head))
            .filter(|slot| slot.memory.is_none())
            .ok_or_else(|| io::Error::other("head out of range or in flight already"))?;
        resolve(memory, data, &mut slot.segments)?;
        let entry = entry(request.operation, &slot.segments)?.user_data(request.head.into());
        slot.status = request.status;
        slot.bytes = request.bytes;
        slot.written = match request.operation {
            Operation::Read(_) => u32::try_from(request.bytes).unwrap_or(u32::MAX),
            _ => 0,
        };
        slot.memory = Some(memory.clone());
        // SAFETY: the segments, and the guest memory they lead into, stay in the slot until the
        // completion with this user_data has been seen; the file is registered and open.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        pushed.map_err(|_| {
            slot.memory = None;
            io::Error::other("submission queue full")
        })
    }

    /// Hands what was started to the kernel.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) fn submit(&mut self) -> io::Result<()> {
        if self.ring.submission().is_empty() {
            return Ok(());
        }
        self.ring.submit().map(drop)
    }

    /// The next finished request, if one has finished.
    pub(crate) fn finished(&mut self) -> Option<Finished> {
        let completion = self.ring.completion().next()?;
        let head = u16::try_from(completion.user_data()).ok()?;
        let slot = self.slots.get_mut(usize::from(head))?;
        let memory = slot.memory.take()?;
        let ok = u64::try_from(completion.result()).is_ok_and(|moved| moved == slot.bytes);
        let written = if ok { slot.written } else { 0 };
        Some(Finished { head, status: slot.status, ok, written, memory })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Guest memory may be unmapped only after the kernel has finished with it.
        while self.slots.iter().any(|slot| slot.memory.is_some()) {
            if self.ring.submit_and_wait(1).is_err() {
                break;
            }
            while self.finished().is_some() {}
        }
        let _ = self.file.sync_data();
    }
}

/// Host addresses of a request's data.
fn resolve(
    memory: &GuestMemoryMmap,
    data: &[Descriptor],
    segments: &mut Vec<libc::iovec>,
) -> io::Result<()> {
    segments.clear();
    for descriptor in data {
        let slice = memory
            .get_slice(descriptor.addr(), descriptor.len() as usize)
            .map_err(io::Error::other)?;
        segments.push(libc::iovec {
            iov_base: slice.ptr_guard_mut().as_ptr().cast(),
            iov_len: slice.len(),
        });
    }
    Ok(())
}

/// The submission queue entry of an operation on the registered file.
fn entry(operation: Operation, segments: &[libc::iovec]) -> io::Result<squeue::Entry> {
    let file = types::Fixed(0);
    let count = u32::try_from(segments.len()).map_err(io::Error::other)?;
    let bytes = |segment: &libc::iovec| u32::try_from(segment.iov_len).map_err(io::Error::other);
    Ok(match (operation, segments) {
        (Operation::Read(offset), [one]) => {
            opcode::Read::new(file, one.iov_base.cast(), bytes(one)?).offset(offset).build()
        }
        (Operation::Read(offset), many) => {
            opcode::Readv::new(file, many.as_ptr(), count).offset(offset).build()
        }
        (Operation::Write(offset), [one]) => {
            opcode::Write::new(file, one.iov_base.cast(), bytes(one)?).offset(offset).build()
        }
        (Operation::Write(offset), many) => {
            opcode::Writev::new(file, many.as_ptr(), count).offset(offset).build()
        }
        _ => opcode::Fsync::new(file).flags(types::FsyncFlags::DATASYNC).build(),
    })
}
