//! A libblkio connection with one queue and memory for its buffers.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use blkio::{Blkio, Blkioq};

use super::client::{Spec, Target};

/// Descriptors that libblkio's driver needs per request: header, data, status.
const DESCRIPTORS: u16 = 3;
/// How long a back-end may take from making its socket to listening on it.
const PATIENCE: Duration = Duration::from_secs(5);

/// An open device.
pub(crate) struct Connection {
    pub(crate) queue: Blkioq,
    /// Address of the buffers, which lie behind each other.
    pub(crate) buffers: usize,
    /// The same memory as a file, to look at and to fill it.
    pub(crate) memory: File,
    length: usize,
    // Keeps the connection; the queue must go first.
    _device: Blkio,
}

impl Connection {
    /// Connects as `spec` says and maps one buffer per request in flight.
    ///
    /// # Errors
    /// libblkio's, and a device that is smaller than the medium.
    pub(crate) fn open(spec: &Spec) -> Result<Self> {
        let mut device = match &spec.target {
            Target::Socket(path) => {
                let path = path.to_str().context("the socket path is not UTF-8")?;
                let mut device = retry(|| virtio(path))?;
                let ring = (spec.depth * DESCRIPTORS).next_power_of_two().max(256);
                device.set_i32("queue-size", ring.into())?;
                device
            }
            Target::File { path, direct } => {
                let mut device = Blkio::new("io_uring")?;
                device.set_str("path", path.to_str().context("the path is not UTF-8")?)?;
                device.set_bool("direct", *direct)?;
                device.connect()?;
                device.set_i32("num-entries", i32::from(spec.depth.max(128)))?;
                device
            }
        };
        let capacity = device.get_u64("capacity")?;
        ensure!(capacity >= spec.size, "the device has {capacity} bytes, not {}", spec.size);
        let mut queues = device.start().context("the device does not start")?.queues;
        let queue = queues.pop().context("libblkio made no queue")?;
        let length = usize::from(spec.depth) * spec.operation.block_size() as usize;
        let region = device.alloc_mem_region(length).context("no memory for the buffers")?;
        device.map_mem_region(&region).context("the back-end does not take the buffers")?;
        let memory = OpenOptions::new()
            .read(true)
            .write(true)
            .open(format!("/proc/self/fd/{}", region.fd))
            .context("cannot open the buffers")?;
        Ok(Self { queue, buffers: region.addr, memory, length, _device: device })
    }

    /// Fills all buffers with random bytes, for writing.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) fn fill_buffers(&self) -> Result<()> {
        let mut bytes = vec![0; self.length];
        fastrand::fill(&mut bytes);
        Ok(self.memory.write_all_at(&bytes, 0)?)
    }
}

fn virtio(path: &str) -> blkio::Result<Blkio> {
    let mut device = Blkio::new("virtio-blk-vhost-user")?;
    device.set_str("path", path)?;
    device.connect()?;
    Ok(device)
}

/// A socket exists before it is listened on; until then it refuses.
fn retry(connect: impl Fn() -> blkio::Result<Blkio>) -> Result<Blkio> {
    let end = Instant::now() + PATIENCE;
    loop {
        match connect() {
            Ok(device) => return Ok(device),
            Err(error) if Instant::now() > end => {
                return Err(error).context("cannot connect to the back-end");
            }
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}
