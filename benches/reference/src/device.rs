//! The control side: features, configuration space, and which worker serves which event.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::{VhostUserBackend, VringEpollHandler, VringRwLock};
use virtio_bindings::bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_MQ, VIRTIO_BLK_F_SEG_MAX,
};
use virtio_bindings::bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::bindings::virtio_ring::{
    VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC,
};
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{
    EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier,
};

use crate::storage::Medium;
use crate::worker::{QUEUE_SIZE, Worker};

/// Segments of data per request, as much as a driver may use.
const SEG_MAX: u32 = 126;
/// Logical block size in bytes.
const BLOCK_SIZE: u32 = 512;

/// The block device with one worker per queue.
pub(crate) struct BlockDevice {
    workers: Vec<Mutex<Worker>>,
    size: u64,
}

impl BlockDevice {
    /// A device that serves `medium` with `queues` queues.
    ///
    /// # Errors
    /// A queue's engine that cannot be made.
    pub(crate) fn new(medium: &Medium, queues: u16) -> anyhow::Result<Self> {
        let workers = (0..queues)
            .map(|_| Worker::new(medium).map(Mutex::new))
            .collect::<io::Result<_>>()
            .context("cannot set up the io_uring of a queue")?;
        Ok(Self { workers, size: medium.size() })
    }

    /// Makes each worker thread wake when its engine has completed something.
    ///
    /// # Errors
    /// The operating system's, from epoll.
    pub(crate) fn listen_for_completions(
        &self,
        threads: &[Arc<VringEpollHandler<Arc<Self>>>],
    ) -> anyhow::Result<()> {
        // Event numbers up to the number of queues belong to the queues and the exit event.
        let event = self.workers.len() as u64 + 1;
        for (worker, thread) in self.workers.iter().zip(threads) {
            if let Some(fd) = lock(worker).completion_fd() {
                thread.register_listener(fd, EventSet::IN, event).context("cannot use epoll")?;
            }
        }
        Ok(())
    }

    /// The configuration space (virtio 1.4, 5.2.4), up to and with `num_queues`.
    fn config(&self) -> [u8; 60] {
        let mut config = [0; 60];
        let queues = u16::try_from(self.workers.len()).unwrap_or(u16::MAX);
        let mut put = |offset: usize, bytes: &[u8]| {
            config.iter_mut().skip(offset).zip(bytes).for_each(|(to, from)| *to = *from);
        };
        put(0, &(self.size / 512).to_le_bytes());
        put(12, &SEG_MAX.to_le_bytes());
        put(20, &BLOCK_SIZE.to_le_bytes());
        put(34, &queues.to_le_bytes());
        config
    }
}

impl VhostUserBackend for BlockDevice {
    type Bitmap = ();
    type Vring = VringRwLock;

    fn num_queues(&self) -> usize {
        self.workers.len()
    }

    fn max_queue_size(&self) -> usize {
        QUEUE_SIZE.into()
    }

    fn features(&self) -> u64 {
        [
            VIRTIO_F_VERSION_1,
            VIRTIO_RING_F_EVENT_IDX,
            VIRTIO_RING_F_INDIRECT_DESC,
            VIRTIO_BLK_F_SEG_MAX,
            VIRTIO_BLK_F_BLK_SIZE,
            VIRTIO_BLK_F_FLUSH,
            VIRTIO_BLK_F_MQ,
        ]
        .iter()
        .fold(VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits(), |bits, bit| bits | 1 << bit)
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS
    }

    // The rings themselves are told by the library.
    fn set_event_idx(&self, _enabled: bool) {}

    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        let config = self.config();
        config.iter().skip(offset as usize).take(size as usize).copied().collect()
    }

    fn update_memory(&self, memory: GuestMemoryAtomic<GuestMemoryMmap>) -> io::Result<()> {
        for worker in &self.workers {
            lock(worker).set_memory(memory.clone());
        }
        Ok(())
    }

    fn queues_per_thread(&self) -> Vec<u64> {
        (0..self.workers.len()).map(|queue| 1 << queue).collect()
    }

    fn exit_event(&self, _thread: usize) -> Option<(EventConsumer, EventNotifier)> {
        new_event_consumer_and_notifier(EventFlag::NONBLOCK).ok()
    }

    // A kick and a completion are served alike: whatever there is to do is done.
    fn handle_event(
        &self,
        _event: u16,
        _events: EventSet,
        vrings: &[VringRwLock],
        thread: usize,
    ) -> io::Result<()> {
        match (self.workers.get(thread), vrings.first()) {
            (Some(worker), Some(vring)) => lock(worker).wake(vring),
            _ => Ok(()),
        }
    }
}

fn lock(worker: &Mutex<Worker>) -> MutexGuard<'_, Worker> {
    worker.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_space_tells_sectors_and_queues() {
        let device = BlockDevice::new(&Medium::null(1 << 20), 3).unwrap();
        assert_eq!(device.get_config(0, 8), 2048u64.to_le_bytes());
        assert_eq!(device.get_config(34, 2), 3u16.to_le_bytes());
        assert_eq!(device.get_config(56, 8).len(), 4);
    }
}
