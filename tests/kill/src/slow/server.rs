//! The two threads of the slow disk.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{Read, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Delays;
use super::journal::Journal;
use super::protocol::{self, Ask, REQUEST_SIZE};
use crate::error::{Error, Result};

type Shared = Arc<Mutex<Journal>>;

/// A request that lands later.
#[derive(Debug)]
struct Later {
    due: Instant,
    unique: u64,
    ask: Ask,
}

/// Starts both threads. They end when the file system is unmounted.
pub(super) fn start(device: File, journal: &Shared, delays: Delays, seed: u64) -> Result<()> {
    let answers = device.try_clone().map_err(Error::system("duplicate /dev/fuse"))?;
    let (later, landing) = mpsc::channel();
    let (takes, lands) = (Arc::clone(journal), Arc::clone(journal));
    let clock = Clock { random: fastrand::Rng::with_seed(seed), delays };
    std::thread::spawn(move || take(device, &takes, &later, clock));
    std::thread::spawn(move || land(answers, &lands, &landing));
    Ok(())
}

/// How long each request takes.
struct Clock {
    random: fastrand::Rng,
    delays: Delays,
}

impl Clock {
    fn due(&mut self) -> Instant {
        let (from, to) =
            if self.random.u8(..4) == 0 { self.delays.slow } else { self.delays.usual };
        Instant::now() + from + (to - from).mul_f64(self.random.f64())
    }
}

/// Takes what the kernel asks, and answers what needs no disk.
fn take(mut device: File, journal: &Shared, later: &Sender<Later>, mut clock: Clock) {
    let mut request = vec![0; REQUEST_SIZE];
    loop {
        // It was unmounted, or interrupted requests were taken back: ENOENT means the latter.
        let length = match device.read(&mut request) {
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(_) => return,
        };
        let Some((unique, ask)) = request.get(..length).and_then(protocol::decode) else { return };
        let body = match ask {
            Ask::Init => protocol::init(),
            Ask::Attributes => protocol::attributes(lock(journal).bytes()),
            Ask::Open => protocol::opened(),
            Ask::Nothing => Vec::new(),
            Ask::Silence => continue,
            Ask::Unknown => {
                let _ = device.write_all(&protocol::not_implemented(unique));
                continue;
            }
            ask @ (Ask::Read { .. } | Ask::Write { .. } | Ask::Sync) => {
                lock(journal).asked(unique, matches!(ask, Ask::Write { .. }));
                if later.send(Later { due: clock.due(), unique, ask }).is_err() {
                    return;
                }
                continue;
            }
        };
        // Whoever asked may be gone, and then the kernel refuses the answer.
        let _ = device.write_all(&protocol::answer(unique, &body));
    }
}

/// Carries requests out when their time has come.
fn land(mut device: File, journal: &Shared, requests: &Receiver<Later>) {
    const LONG: Duration = Duration::from_secs(3600);
    let mut waiting: BinaryHeap<Reverse<Later>> = BinaryHeap::new();
    loop {
        let next = waiting.peek().map(|Reverse(next)| next.due);
        let pause = next.map_or(LONG, |due| due.saturating_duration_since(Instant::now()));
        match requests.recv_timeout(pause) {
            Ok(later) => waiting.push(Reverse(later)),
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                let Some(Reverse(Later { unique, ask, .. })) = waiting.pop() else { continue };
                let body = carry_out(&mut lock(journal), unique, ask);
                let _ = device.write_all(&protocol::answer(unique, &body));
            }
        }
    }
}

fn carry_out(journal: &mut Journal, unique: u64, ask: Ask) -> Vec<u8> {
    match ask {
        Ask::Write { offset, data } => {
            journal.write_lands(unique, offset, &data);
            protocol::written(data.len())
        }
        Ask::Read { offset, size } => journal.read_lands(unique, offset, size),
        _ => {
            journal.sync_lands(unique);
            Vec::new()
        }
    }
}

fn lock(journal: &Shared) -> MutexGuard<'_, Journal> {
    journal.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PartialEq for Later {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Later {}

impl PartialOrd for Later {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Later {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.unique).cmp(&(other.due, other.unique))
    }
}
