//! The load itself, in the client process: libblkio keeps a fixed number of requests in flight.
//!
//! The clock is read once for each batch of completions. A request's latency runs from the batch
//! in which it was submitted to the batch in which its completion was seen, so that measuring
//! costs next to nothing even at millions of requests a second.

use std::fs::File;
use std::mem::MaybeUninit;
use std::os::unix::fs::FileExt;
use std::ptr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use blkio::{Blkioq, Completion, ReqFlags};
use fastrand::Rng;
use hdrhistogram::Histogram;

use super::client::{BackEndUse, Idle, Outcome, Spec, Until};
use super::connection::Connection;
use super::medium::{STAMPED_BLOCK, stamp};
use super::plan::Operation;
use crate::accounting::{self, MachineTime};

/// Time that a back-end is given to come to rest before it is watched.
const SETTLE: Duration = Duration::from_millis(500);
/// Longest latency that is told apart, in nanoseconds.
const LONGEST: u64 = 60_000_000_000;

/// Makes one measurement.
///
/// # Errors
/// A connection that cannot be made, a request that fails, data that is not what was written.
pub(crate) fn measure(spec: &Spec) -> Result<Outcome> {
    let mut connection = Connection::open(spec)?;
    if spec.operation.writes() {
        connection.fill_buffers()?;
    }
    let mut load = Load::new(spec, &connection);
    let mut histogram = Histogram::new_with_max(LONGEST, 2).context("cannot count latencies")?;
    load.fill(&mut connection.queue)?;
    if spec.verify {
        load.verify(&mut connection.queue, &connection.memory)?;
    }
    if let Some(time) = spec.warm_up {
        load.run(&mut connection.queue, Until::Elapsed(time), &mut histogram)?;
        histogram.reset();
    }
    let before = Usage::now(spec)?;
    let requests = load.run(&mut connection.queue, spec.until, &mut histogram)?;
    let mut outcome = before.outcome(spec, requests, &histogram)?;
    load.drain(&mut connection.queue, &mut histogram)?;
    if let (Some(back_end), Some(pid), Some(time)) =
        (&mut outcome.back_end, spec.back_end, spec.idle)
    {
        back_end.idle = Some(watch_idle(pid, time)?);
    }
    Ok(outcome)
}

/// Requests in flight, one buffer each.
struct Load<'a> {
    spec: &'a Spec,
    /// Address of the first buffer; libblkio takes plain addresses in a mapped region.
    buffers: usize,
    offsets: Offsets,
    /// By buffer: when its request was submitted, and what for.
    submitted: Vec<(Instant, u64)>,
    completions: Vec<MaybeUninit<Completion>>,
    /// Requests that may still be submitted.
    left: u64,
    in_flight: usize,
}

impl<'a> Load<'a> {
    fn new(spec: &'a Spec, connection: &Connection) -> Self {
        let depth = usize::from(spec.depth);
        let nothing =
            || Completion { user_data: 0, error_msg: ptr::null(), ret: 0, reserved_: [0; 12] };
        Self {
            spec,
            buffers: connection.buffers,
            offsets: Offsets::new(spec),
            submitted: vec![(Instant::now(), 0); depth],
            completions: (0..depth).map(|_| MaybeUninit::new(nothing())).collect(),
            left: match spec.until {
                Until::Requests(count) => count,
                Until::Elapsed(_) => u64::MAX,
            },
            in_flight: 0,
        }
    }

    /// Puts one request into flight for each buffer.
    fn fill(&mut self, queue: &mut Blkioq) -> Result<()> {
        let now = Instant::now();
        for buffer in 0..self.submitted.len() {
            self.submit(queue, buffer, now)?;
        }
        Ok(())
    }

    /// Submits the next request, unless there have been enough.
    fn submit(&mut self, queue: &mut Blkioq, buffer: usize, now: Instant) -> Result<()> {
        if self.left == 0 {
            return Ok(());
        }
        self.left -= 1;
        let offset = self.offsets.next();
        *self.submitted.get_mut(buffer).context("unknown buffer")? = (now, offset);
        let size = self.spec.operation.block_size() as usize;
        let address = (self.buffers + buffer * size) as *mut u8;
        if self.spec.operation.writes() {
            queue.write(offset, address, size, buffer, ReqFlags::empty());
        } else {
            queue.read(offset, address, size, buffer, ReqFlags::empty());
        }
        self.in_flight += 1;
        Ok(())
    }

    /// Waits for completions, at least one unless busy-polling; tells which buffers are done.
    fn reap(&mut self, queue: &mut Blkioq, done: &mut Vec<usize>) -> Result<()> {
        let least = usize::from(!self.spec.busy_poll);
        let count = queue.do_io(&mut self.completions, least, None, None)?;
        done.clear();
        for completion in self.completions.iter().take(count) {
            #[expect(unsafe_code, reason = "libblkio fills a slice of MaybeUninit")]
            // SAFETY: every element was written when the vector was made.
            let completion = unsafe { completion.assume_init_ref() };
            if completion.ret < 0 {
                bail!("a request failed: {}", std::io::Error::from_raw_os_error(-completion.ret));
            }
            done.push(completion.user_data);
        }
        self.in_flight -= count;
        Ok(())
    }

    /// Keeps the load up until the end; returns how many requests completed.
    fn run(
        &mut self,
        queue: &mut Blkioq,
        until: Until,
        latencies: &mut Histogram<u32>,
    ) -> Result<u64> {
        let start = Instant::now();
        let mut done = Vec::with_capacity(self.submitted.len());
        let mut completed = 0;
        loop {
            self.reap(queue, &mut done)?;
            let now = Instant::now();
            for &buffer in &done {
                let (submitted, _) = *self.submitted.get(buffer).context("unknown buffer")?;
                let nanoseconds = (now - submitted).as_nanos();
                latencies.saturating_record(u64::try_from(nanoseconds).unwrap_or(LONGEST));
                self.submit(queue, buffer, now)?;
            }
            completed += done.len() as u64;
            let over = match until {
                Until::Elapsed(time) => now - start >= time,
                Until::Requests(count) => completed >= count,
            };
            if over {
                return Ok(completed);
            }
        }
    }

    /// Ends the load: waits for what is in flight and submits nothing more.
    fn drain(&mut self, queue: &mut Blkioq, latencies: &mut Histogram<u32>) -> Result<()> {
        self.left = 0;
        let rest = self.in_flight as u64;
        if rest > 0 {
            self.run(queue, Until::Requests(rest), latencies)?;
        }
        Ok(())
    }

    /// Lets a few hundred requests go by and looks whether they read what was written.
    fn verify(&mut self, queue: &mut Blkioq, memory: &File) -> Result<()> {
        let mut done = Vec::new();
        let mut verified = 0;
        while verified < 256 {
            self.reap(queue, &mut done)?;
            for &buffer in &done {
                let (_, offset) = *self.submitted.get(buffer).context("unknown buffer")?;
                self.verify_buffer(memory, buffer, offset)?;
                self.submit(queue, buffer, Instant::now())?;
            }
            verified += done.len();
        }
        Ok(())
    }

    fn verify_buffer(&self, memory: &File, buffer: usize, offset: u64) -> Result<()> {
        let size = self.spec.operation.block_size() as usize;
        let mut bytes = vec![0; size];
        memory.read_exact_at(&mut bytes, (buffer * size) as u64)?;
        for (index, block) in bytes.chunks(STAMPED_BLOCK).enumerate() {
            let at = offset + (index * STAMPED_BLOCK) as u64;
            ensure!(
                block.starts_with(&stamp(at).to_le_bytes()),
                "wrong data: what was read at {at} is not what was written there"
            );
        }
        Ok(())
    }
}

/// The offsets of the requests, in bytes.
struct Offsets {
    rng: Rng,
    blocks: u64,
    block_size: u64,
    /// The next block of a sequential load; none for a random one.
    next: Option<u64>,
}

impl Offsets {
    fn new(spec: &Spec) -> Self {
        let block_size = u64::from(spec.operation.block_size());
        Self {
            rng: Rng::with_seed(spec.seed),
            blocks: (spec.size / block_size).max(1),
            block_size,
            next: (spec.operation == Operation::SeqRead).then_some(0),
        }
    }

    fn next(&mut self) -> u64 {
        let block = match &mut self.next {
            Some(next) => {
                let block = *next;
                *next = (block + 1) % self.blocks;
                block
            }
            None => self.rng.u64(..self.blocks),
        };
        block * self.block_size
    }
}

/// What had been used when a measurement began.
struct Usage {
    at: Instant,
    client: Duration,
    back_end: Duration,
    machine: MachineTime,
}

impl Usage {
    fn now(spec: &Spec) -> Result<Self> {
        Ok(Self {
            at: Instant::now(),
            client: accounting::cpu_time(std::process::id())?,
            back_end: spec.back_end.map(accounting::cpu_time).transpose()?.unwrap_or_default(),
            machine: accounting::machine_time()?,
        })
    }

    /// What has happened since.
    fn outcome(&self, spec: &Spec, requests: u64, latencies: &Histogram<u32>) -> Result<Outcome> {
        let now = Self::now(spec)?;
        let client = now.client.saturating_sub(self.client);
        let back_end = now.back_end.saturating_sub(self.back_end);
        let busy = now.machine.busy.saturating_sub(self.machine.busy);
        let microseconds = |nanoseconds: u64| Duration::from_nanos(nanoseconds).as_secs_f64() * 1e6;
        Ok(Outcome {
            requests,
            seconds: (now.at - self.at).as_secs_f64(),
            p50_us: microseconds(latencies.value_at_quantile(0.5)),
            p99_us: microseconds(latencies.value_at_quantile(0.99)),
            max_us: microseconds(latencies.max()),
            client_cpu_seconds: client.as_secs_f64(),
            other_cpu_seconds: busy.saturating_sub(client + back_end).as_secs_f64(),
            stolen_seconds: now.machine.stolen.saturating_sub(self.machine.stolen).as_secs_f64(),
            back_end: match spec.back_end {
                None => None,
                Some(pid) => Some(BackEndUse {
                    cpu_seconds: back_end.as_secs_f64(),
                    resident: accounting::resident(pid)?,
                    idle: None,
                }),
            },
        })
    }
}

/// Watches a back-end that has nothing to do, with its driver still connected.
fn watch_idle(pid: u32, time: Duration) -> Result<Idle> {
    std::thread::sleep(SETTLE);
    let cpu = accounting::cpu_time(pid)?;
    let before = accounting::voluntary_switches(pid)?;
    std::thread::sleep(time);
    let after = accounting::voluntary_switches(pid)?;
    Ok(Idle {
        seconds: time.as_secs_f64(),
        wakeups: accounting::wakeups_between(&before, &after),
        cpu_seconds: accounting::cpu_time(pid)?.saturating_sub(cpu).as_secs_f64(),
    })
}
