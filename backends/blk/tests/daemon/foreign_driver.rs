//! A driver that none of us wrote: the crate `virtio-driver`, on the daemon's socket.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};

use memmap2::MmapMut;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tempfile::NamedTempFile;
use virtio_driver::{EventFd, VhostUser, VirtioBlkQueue, VirtioBlkTransport, VirtioFeatureFlags};

use crate::process::Daemon;

const DISK: u64 = 8 << 20;
const BLOCK: usize = 4096;
const DEPTH: usize = 32;

/// Memory that the driver shares with the daemon for its data.
fn shared_memory(len: usize) -> (OwnedFd, MmapMut) {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let fd = rustix::fs::memfd_create("foreign-driver", flags).unwrap();
    rustix::fs::ftruncate(&fd, len as u64).unwrap();
    let file = File::from(fd);
    // SAFETY: shared memory by design: the daemon writes it while we only look at it between
    // requests.
    let map = unsafe { MmapMut::map_mut(&file) }.unwrap();
    (file.into(), map)
}

/// Waits for a call, not for ever.
fn wait(call: &EventFd) {
    let mut fds = [PollFd::new(call, PollFlags::IN)];
    let limit = Timespec { tv_sec: 10, tv_nsec: 0 };
    assert_eq!(poll(&mut fds, Some(&limit)).unwrap(), 1, "no call came");
    call.read().unwrap();
}

/// Writes and reads every block of the disk in batches, and flushes, with these features.
fn writes_and_reads_back(features: VirtioFeatureFlags) {
    let image = NamedTempFile::new().unwrap();
    image.as_file().set_len(DISK).unwrap();
    let daemon = Daemon::start(["--blk-file".as_ref(), image.path().as_os_str()]);
    while !daemon.socket().exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let socket = daemon.socket();
    let wanted = features | VirtioFeatureFlags::VERSION_1;
    let transport = VhostUser::new(socket.to_str().unwrap(), wanted.bits()).unwrap();
    let mut transport: Box<VirtioBlkTransport> = Box::new(transport);
    assert_eq!(transport.get_features() & wanted.bits(), wanted.bits());
    let (fd, mut data) = shared_memory(BLOCK * DEPTH);
    let base = data.as_ptr() as usize;
    transport.map_mem_region(base, data.len(), fd.as_raw_fd(), 0).unwrap();
    let mut queues = VirtioBlkQueue::<usize>::setup_queues(transport.as_mut(), 1, 128).unwrap();
    let queue = &mut queues[0];
    let kick = transport.get_submission_notifier(0);
    let call = transport.get_completion_fd(0);

    let finish = |queue: &mut VirtioBlkQueue<usize>, mut expected: usize| {
        if queue.avail_notif_needed() {
            kick.notify().unwrap();
        }
        while expected > 0 {
            // It asks for a call, then looks once more, and only then waits.
            queue.set_used_notif_enabled(true);
            let before = expected;
            for completion in queue.completions() {
                assert_eq!(completion.ret, 0);
                expected -= 1;
            }
            if expected == before {
                wait(&call);
            }
        }
    };
    let stamp = |block: usize| (block as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    let blocks = DISK as usize / BLOCK;
    for first in (0..blocks).step_by(DEPTH) {
        for (index, buffer) in data.chunks_exact_mut(BLOCK).enumerate() {
            buffer.chunks_exact_mut(8).for_each(|word| word.copy_from_slice(&stamp(first + index)));
            queue.write(((first + index) * BLOCK) as u64, buffer, index).unwrap();
        }
        finish(queue, DEPTH);
    }
    queue.flush(0).unwrap();
    finish(queue, 1);
    for first in (0..blocks).step_by(DEPTH).rev() {
        data.fill(0);
        for (index, buffer) in data.chunks_exact_mut(BLOCK).enumerate() {
            queue.read(((first + index) * BLOCK) as u64, buffer, index).unwrap();
        }
        finish(queue, DEPTH);
        for (index, buffer) in data.chunks_exact(BLOCK).enumerate() {
            assert!(buffer.chunks_exact(8).all(|word| word == stamp(first + index)));
        }
    }
}

#[test]
fn a_foreign_driver_reads_what_it_wrote() {
    writes_and_reads_back(VirtioFeatureFlags::empty());
}

#[test]
fn a_foreign_driver_reads_what_it_wrote_with_event_index() {
    writes_and_reads_back(VirtioFeatureFlags::RING_EVENT_IDX);
}

#[test]
fn a_foreign_driver_reads_what_it_wrote_with_indirect_tables() {
    let both = VirtioFeatureFlags::RING_EVENT_IDX | VirtioFeatureFlags::RING_INDIRECT_DESC;
    writes_and_reads_back(both);
}
