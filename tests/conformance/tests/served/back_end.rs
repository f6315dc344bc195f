//! A served block device, and its front-end.

use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use clap::Parser;
use driver::{
    BlockQueue, Deadline, Disk, FrontEnd, Layout, Memory, Negotiation, Operation, Queue,
    RingEvents, Watch,
};
use framework::sandbox::Sandbox;
use framework::server::{self, Daemon};
use outrigger_blk::device::BlockDevice;
use outrigger_blk::options::Options;
use rustix::io::{FdFlags, fcntl_setfd};
use tempfile::TempDir;
use virtio_spec::DeviceType;
use virtio_spec::block::{CONFIG_WCE, DISCARD, FLUSH, RO, SEG_MAX, WRITE_ZEROES};
use virtio_spec::features::{EVENT_IDX, INDIRECT_DESC, RING_PACKED, mask};

/// Sectors of the disk.
pub(crate) const SECTORS: u64 = 2048;

/// How long something that must not happen is given to happen.
pub(crate) const PAUSE: Duration = Duration::from_millis(30);

/// Features that a driver of block devices takes.
pub(crate) const USUAL: u64 = mask(FLUSH)
    | mask(CONFIG_WCE)
    | mask(DISCARD)
    | mask(WRITE_ZEROES)
    | mask(RO)
    | mask(SEG_MAX)
    | mask(EVENT_IDX)
    | mask(INDIRECT_DESC);

/// The kinds of rings, as features to take.
pub(crate) const BOTH: [u64; 2] = [USUAL, USUAL | mask(RING_PACKED)];

/// A back-end on a thread of its own, with one connection, and who is at the other end of that.
pub(crate) struct BackEnd {
    pub(crate) front_end: FrontEnd,
    pub(crate) memory: Memory,
    /// Where the image is.
    _directory: TempDir,
    server: JoinHandle<Result<(), framework::Error>>,
}

impl BackEnd {
    /// A back-end that offers packed rings too.
    pub(crate) fn start() -> Self {
        BackEnd::with(&["--packed"])
    }

    /// A back-end with these options, on a disk of 1 MiB whose every sector holds its number.
    pub(crate) fn with(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("disk.img");
        let bytes: Vec<u8> = (0..SECTORS).flat_map(|n| [n as u8; 512]).collect();
        std::fs::write(&image, bytes).unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = serve(&image, theirs, arguments);
        let memory = Memory::new(4 << 20).unwrap();
        let front_end = FrontEnd::new(ours, &memory).of_device(DeviceType::BLOCK);
        BackEnd { front_end, memory, _directory: directory, server }
    }

    /// Nobody watches: for drivers and front-ends that break the rules themselves.
    pub(crate) fn unwatched(mut self) -> Self {
        self.front_end = self.front_end.watched_by(Watch::none());
        self
    }

    /// Negotiates and shares memory, all but the rings.
    pub(crate) fn negotiated(mut self, wanted: u64) -> Self {
        self.front_end.negotiate(&Negotiation::new(wanted)).unwrap();
        self.front_end.share_memory().unwrap();
        self
    }

    /// A queue that the device does not know yet.
    pub(crate) fn queue(&self, size: u16) -> Queue {
        Queue::new(&self.memory, size, self.front_end.negotiated()).unwrap()
    }

    /// A queue with requests in it, which are not shown yet.
    pub(crate) fn block_queue(&self, size: u16) -> BlockQueue {
        BlockQueue::new(self.queue(size), &self.memory)
    }

    /// Starts ring `index`, as a disk.
    pub(crate) fn disk(&mut self, index: u8) -> Disk<RingEvents> {
        let queue = self.queue(64);
        let events = self.front_end.start_ring(index, &queue, queue.reaped_base()).unwrap();
        Disk::new(BlockQueue::new(queue, &self.memory), events)
    }

    /// The front-end leaves, and the back-end ends well.
    pub(crate) fn end(self) {
        drop(self.front_end);
        self.server.join().unwrap().unwrap();
    }
}

fn serve(
    image: &Path,
    socket: UnixStream,
    arguments: &[&str],
) -> JoinHandle<Result<(), framework::Error>> {
    // As if it had come through execve.
    fcntl_setfd(&socket, FdFlags::empty()).unwrap();
    let words = [
        "outrigger-blk".to_owned(),
        format!("--blk-file={}", image.display()),
        format!("--fd={}", socket.into_raw_fd()),
        "--num-queues=2".to_owned(),
        "--workers=1".to_owned(),
        "--sandbox=off".to_owned(),
        "--poll-us=0".to_owned(),
    ];
    let words = words.into_iter().chain(arguments.iter().map(|word| (*word).to_owned()));
    let options = Options::try_parse_from(words).unwrap();
    std::thread::spawn(move || {
        let device = BlockDevice::new(options.open().unwrap(), options.settings());
        let sandbox = Sandbox::new(options.common.sandbox);
        let config = serde_json::Value::Null;
        server::run(device, Daemon { name: "blk", options: &options.common, sandbox, config })
    })
}

/// A read of one sector.
pub(crate) fn read(sector: u64) -> Operation {
    Operation::Read { sector, len: 512 }
}

/// Puts a read into a queue and shows it; whether a kick is wanted does not matter.
pub(crate) fn submit_read(queue: &mut BlockQueue, sector: u64) {
    queue.submit(read(sector), &Layout::default()).unwrap();
    queue.publish();
}

/// Waits for a request, whatever the calls say.
pub(crate) fn wait_used(queue: &mut BlockQueue) {
    let deadline = Deadline::after(Deadline::DEFAULT);
    while queue.reap().unwrap().is_none() {
        assert!(!deadline.is_past(), "the device does not answer");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Gives the device time to do what it must not do.
pub(crate) fn pause() {
    std::thread::sleep(PAUSE);
}
