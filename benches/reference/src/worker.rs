//! One wake of a queue's worker: take what is available, submit, publish what has finished.

use std::io;
use std::ops::Deref;
use std::os::fd::RawFd;

use vhost_user_backend::{VringRwLock, VringT};
use virtio_bindings::bindings::virtio_blk::{
    VIRTIO_BLK_ID_BYTES, VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP,
};
use virtio_queue::QueueT;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{
    Bytes, GuestAddress, GuestAddressSpace, GuestMemoryAtomic, GuestMemoryLoadGuard,
    GuestMemoryMmap,
};

use crate::request::{Operation, Request};
use crate::storage::{Engine, Medium};

/// Largest ring that a driver may set up.
pub(crate) const QUEUE_SIZE: u16 = 1024;

/// The state of one queue's worker thread.
pub(crate) struct Worker {
    engine: Option<Engine>,
    size: u64,
    memory: GuestMemoryAtomic<GuestMemoryMmap>,
    /// Scratch space for a chain's data descriptors.
    data: Vec<Descriptor>,
}

impl Worker {
    /// A worker for one queue of the medium.
    ///
    /// # Errors
    /// The engine's.
    pub(crate) fn new(medium: &Medium) -> io::Result<Self> {
        Ok(Self {
            engine: medium.engine(QUEUE_SIZE)?,
            size: medium.size(),
            memory: GuestMemoryAtomic::new(GuestMemoryMmap::new()),
            data: Vec::new(),
        })
    }

    /// Uses another memory table from the next wake on.
    pub(crate) fn set_memory(&mut self, memory: GuestMemoryAtomic<GuestMemoryMmap>) {
        self.memory = memory;
    }

    /// Readable when the engine has completed something.
    pub(crate) fn completion_fd(&self) -> Option<RawFd> {
        self.engine.as_ref().map(Engine::completion_fd)
    }

    /// Serves the queue until there is nothing left to take or to publish.
    ///
    /// # Errors
    /// A ring that cannot be read or written, a call that fails, a chain that makes no sense.
    pub(crate) fn wake(&mut self, vring: &VringRwLock) -> io::Result<()> {
        let memory = self.memory.memory();
        loop {
            vring.disable_notification().map_err(io::Error::other)?;
            let mut used = self.take_available(vring, &memory)?;
            if let Some(engine) = &mut self.engine {
                engine.submit()?;
                engine.clear_completion_fd();
            }
            used += self.publish_finished(vring)?;
            if used > 0 && vring.needs_notification().map_err(io::Error::other)? {
                vring.signal_used_queue()?;
            }
            if used == 0 && !vring.enable_notification().map_err(io::Error::other)? {
                return Ok(());
            }
        }
    }

    /// Starts every available request; returns how many were completed at once.
    fn take_available(
        &mut self,
        vring: &VringRwLock,
        memory: &GuestMemoryLoadGuard<GuestMemoryMmap>,
    ) -> io::Result<u32> {
        let mut state = vring.get_mut();
        let mut completed = 0;
        while let Some(chain) = state.get_queue_mut().pop_descriptor_chain(memory.deref()) {
            let request = Request::parse(chain, memory, &mut self.data)?;
            let Some((status, written)) = self.begin(&request, memory) else { continue };
            write_status(memory, request.status, status)?;
            state.add_used(request.head, written + 1).map_err(io::Error::other)?;
            completed += 1;
        }
        Ok(completed)
    }

    /// Starts one request; status and bytes written if it is complete already.
    fn begin(
        &mut self,
        request: &Request,
        memory: &GuestMemoryLoadGuard<GuestMemoryMmap>,
    ) -> Option<(u32, u32)> {
        match request.operation {
            Operation::Read(offset) | Operation::Write(offset) => {
                let end = offset.checked_add(request.bytes);
                if end.is_none_or(|end| end > self.size) {
                    return Some((VIRTIO_BLK_S_IOERR, 0));
                }
            }
            Operation::GetId => return Some(self.serial(memory)),
            Operation::Flush => {}
            Operation::Unsupported => return Some((VIRTIO_BLK_S_UNSUPP, 0)),
        }
        let Some(engine) = &mut self.engine else {
            let read = matches!(request.operation, Operation::Read(_));
            let written = if read { u32::try_from(request.bytes).unwrap_or(0) } else { 0 };
            return Some((VIRTIO_BLK_S_OK, written));
        };
        engine.start(request, &self.data, memory).err().map(|_| (VIRTIO_BLK_S_IOERR, 0))
    }

    /// Writes the serial number into the request's data.
    fn serial(&self, memory: &GuestMemoryMmap) -> (u32, u32) {
        let mut serial = [0; VIRTIO_BLK_ID_BYTES as usize];
        let name = b"reference-blk";
        serial.iter_mut().zip(name).for_each(|(to, from)| *to = *from);
        let place = self.data.first().filter(|data| data.len() >= VIRTIO_BLK_ID_BYTES);
        match place.map(|data| memory.write_slice(&serial, data.addr())) {
            Some(Ok(())) => (VIRTIO_BLK_S_OK, VIRTIO_BLK_ID_BYTES),
            _ => (VIRTIO_BLK_S_IOERR, 0),
        }
    }

    /// Puts everything that has finished on the used ring; returns how much that was.
    fn publish_finished(&mut self, vring: &VringRwLock) -> io::Result<u32> {
        let Some(engine) = &mut self.engine else { return Ok(0) };
        let mut state = vring.get_mut();
        let mut published = 0;
        while let Some(finished) = engine.finished() {
            let status = if finished.ok { VIRTIO_BLK_S_OK } else { VIRTIO_BLK_S_IOERR };
            write_status(&finished.memory, finished.status, status)?;
            state.add_used(finished.head, finished.written + 1).map_err(io::Error::other)?;
            published += 1;
        }
        Ok(published)
    }
}

fn write_status(memory: &GuestMemoryMmap, place: GuestAddress, status: u32) -> io::Result<()> {
    memory.write_obj(status.to_le_bytes()[0], place).map_err(io::Error::other)
}
