//! Writing down what crosses the card, for a look at it with Wireshark or tcpdump.
//!
//! Workers copy the beginning of each frame and hand it over; a thread of its own writes it, so that a
//! slow disk holds up nobody. What it has no time for, and what the file has no room for, is counted
//! and not written. The file is opened at the start, and is all that the thread can reach.
//!
//! - `pcapng.rs` is the format.

pub mod pcapng;

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use framework::memory::Segment;
use serde_json::{Value, json};

use crate::error::Error;
pub use pcapng::Direction;

/// How many frames wait for being written at most.
const WAITING: usize = 1024;
/// After so long without a frame, what was written is to be seen in the file.
const FLUSH: Duration = Duration::from_millis(100);

/// A capture. It begins with [`Capture::start`], and ends when it is dropped.
#[derive(Debug)]
pub struct Capture {
    snap: usize,
    limit: u64,
    /// Until the capture starts.
    file: Mutex<Option<File>>,
    writer: Mutex<Option<Running>>,
    counts: Arc<Counted>,
}

/// The thread that writes, and the way to it.
#[derive(Debug)]
struct Running {
    packets: SyncSender<Vec<u8>>,
    thread: JoinHandle<()>,
}

/// What became of frames.
#[derive(Debug, Default)]
struct Counted {
    written: AtomicU64,
    missed: AtomicU64,
    bytes: AtomicU64,
}

impl Capture {
    /// A capture to a file that is made, or emptied: at most `snap` bytes of each frame, and at most
    /// `limit` bytes in all.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn create(path: &Path, snap: usize, limit: u64) -> Result<Self, Error> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
        let file = file.map_err(|source| Error::Capture { path: path.to_owned(), source })?;
        Ok(Capture {
            snap,
            limit,
            file: Mutex::new(Some(file)),
            writer: Mutex::default(),
            counts: Arc::default(),
        })
    }

    /// Starts the thread that writes. To be called once the process is confined.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(&self) -> io::Result<()> {
        let Some(file) = self.file.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return Ok(());
        };
        let (packets, receiver) = sync_channel(WAITING);
        let (counts, limit) = (Arc::clone(&self.counts), self.limit);
        let head = pcapng::head("net", u32::try_from(self.snap).unwrap_or(u32::MAX));
        let writer = Writer { file: BufWriter::with_capacity(1 << 16, file), limit, counts };
        let thread = std::thread::Builder::new().name("capture".into());
        let thread = thread.spawn(move || writer.run(&head, &receiver))?;
        let running = Some(Running { packets, thread });
        *self.writer.lock().unwrap_or_else(PoisonError::into_inner) = running;
        Ok(())
    }

    /// A frame that lies in these segments, behind `skip` other bytes.
    #[cold]
    pub(crate) fn frame<'a>(
        &self,
        direction: Direction,
        segments: impl IntoIterator<Item = &'a Segment>,
        skip: usize,
        length: usize,
    ) {
        let mut bytes = vec![0; length.min(self.snap)];
        let (mut skip, mut done) = (skip, 0);
        for segment in segments {
            let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) else { break };
            done += segment.read(skip, rest);
            skip = skip.saturating_sub(segment.len());
        }
        let time = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let packet = pcapng::packet(direction, time, &bytes, length);
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = writer.as_ref().is_some_and(|running| running.packets.try_send(packet).is_ok());
        if !sent {
            self.counts.missed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What `stats` shows.
    pub fn to_json(&self) -> Value {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counted { written, missed, bytes } = &*self.counts;
        json!({ "frames": get(written), "missed": get(missed), "bytes": get(bytes) })
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Running { packets, thread }) = writer {
            drop(packets);
            // It has said what was wrong, if anything was.
            let _ = thread.join();
        }
    }
}

struct Writer {
    file: BufWriter<File>,
    limit: u64,
    counts: Arc<Counted>,
}

impl Writer {
    fn run(mut self, head: &[u8], packets: &Receiver<Vec<u8>>) {
        if let Err(error) = self.write_all(head, packets) {
            tracing::error!(%error, "the capture ends: its file cannot be written");
        }
        let _ = self.file.flush();
    }

    fn write_all(&mut self, head: &[u8], packets: &Receiver<Vec<u8>>) -> io::Result<()> {
        self.write(head)?;
        self.file.flush()?;
        while let Some(packet) = self.next(packets)? {
            if self.counts.bytes.load(Ordering::Relaxed) + packet.len() as u64 > self.limit {
                tracing::info!(limit = self.limit, "the capture ends: its file is full");
                break;
            }
            self.write(&packet)?;
            self.counts.written.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The next packet. When none comes for a while, what there is goes to the file, and then the wait
    /// costs nothing. None: it was the last one.
    fn next(&mut self, packets: &Receiver<Vec<u8>>) -> io::Result<Option<Vec<u8>>> {
        match packets.recv_timeout(FLUSH) {
            Ok(packet) => Ok(Some(packet)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => {
                self.file.flush()?;
                Ok(packets.recv().ok())
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.counts.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.file.write_all(bytes)
    }
}
