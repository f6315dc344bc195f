//! From the uplink to the guest.
//!
//! # Theory of operation
//! Chains are looked at, not taken: packets are read straight into as many of them as the longest
//! packet could need, and only those that hold a packet then are taken and completed. The others
//! stay where they were, so a ring that is stopped gives them back untouched.
//!
//! Where no packet is longer than one chain has room for, a whole batch is read in one system call.
//! Otherwise packets are read one by one, since the next packet's place is known only afterwards.
//!
//! A chain whose packet is not wanted is left for the next packet; in a batch, packets behind it
//! move up by being copied, which happens rarely.
//!
//! When the uplink has nothing, it is watched; when it has failed, it is asked again later; when the
//! guest has too few buffers, its next kick is waited for. Whatever does not fit is the uplink's to
//! keep, or to drop.

use framework::engine::{Direction, FileIndex, Io, Transfer};
use framework::ring::Ring;
use rustix::io::Errno;
use virtio_spec::net::Header;

use crate::counts::Counts;
use crate::header::FRAME_MAX;
use crate::transmit::{complete, prepare};
use crate::view::{START_MAX, View};

/// The most packets that are read in one system call.
const BATCH: usize = 64;
/// Where the number of buffers stands in the header.
const NUM_BUFFERS_OFFSET: usize = 10;

/// The receiving half of a queue pair.
#[derive(Debug)]
pub(crate) struct Receive {
    /// Whether the uplink may have packets: until it says that it has none.
    ready: bool,
    /// Whether the uplink has failed: it is asked again after a pause.
    failed: bool,
    expectation: Expectation,
    results: Vec<Result<u32, Errno>>,
    /// A packet that moves up.
    moved: Vec<u8>,
}

/// How many packets it is worth to ask for: one more than there were the last time shows at once that
/// there are no others, and each that is asked for in vain costs the kernel a look.
#[derive(Debug, Default)]
struct Expectation {
    /// How many there were before the uplink last ran dry.
    before: usize,
    /// How many there were since.
    since: usize,
}

/// What one read from the uplink came to.
enum Outcome {
    /// So many packets; it has more, perhaps.
    More(usize),
    /// It has nothing now.
    Dry,
    /// It has failed.
    Failed,
    /// The guest has too few buffers.
    Full,
}

impl Receive {
    pub(crate) fn new() -> Self {
        Receive {
            ready: true,
            failed: false,
            expectation: Expectation::default(),
            results: Vec::with_capacity(BATCH),
            moved: Vec::new(),
        }
    }

    /// The uplink has something again, or is to be asked.
    pub(crate) fn uplink_ready(&mut self) {
        self.ready = true;
    }

    /// Whether the uplink has failed since the last call.
    pub(crate) fn take_failure(&mut self) -> bool {
        std::mem::take(&mut self.failed)
    }

    /// Reads packets from a file: a tap, or a packet socket that has packet headers too.
    pub(crate) fn run<I: Io>(
        &mut self,
        ring: &mut Ring,
        io: &mut I,
        file: FileIndex,
        view: &View,
        counts: &Counts,
    ) {
        if !self.ready {
            return;
        }
        let mut received = 0;
        while received < view.budget.receive {
            let outcome = if view.long && view.mergeable {
                self.one(ring, io, file, view, counts)
            } else {
                self.batch(ring, io, file, view, counts)
            };
            match outcome {
                Outcome::More(packets) => received += packets,
                Outcome::Dry => {
                    self.ready = false;
                    self.expectation.ran_dry();
                    return io.watch(file, Direction::Readable);
                }
                Outcome::Failed => {
                    // To watch it would be to hear of the error again and again.
                    (self.ready, self.failed) = (false, true);
                    return;
                }
                Outcome::Full => return,
            }
        }
    }

    /// One packet that may be long, into as many chains as it could need.
    fn one<I: Io>(
        &mut self,
        ring: &mut Ring,
        io: &mut I,
        file: FileIndex,
        view: &View,
        counts: &Counts,
    ) -> Outcome {
        let needed = view.header + FRAME_MAX;
        let mut room = 0;
        let mut chains = 0;
        while room < needed {
            let Some(more) = ring.look(chains) else {
                if is_small(ring, chains) {
                    break;
                }
                return Outcome::Full;
            };
            let segments = ring.looked_writable(chains);
            let staged = if chains == 0 {
                io.stage(&Transfer::Receive { into: segments })
            } else {
                io.stage_more(segments)
            };
            if !staged {
                break;
            }
            room += more;
            chains += 1;
        }
        io.carry_out(file, &mut self.results);
        match self.results.first() {
            Some(Ok(length)) => {
                deliver(ring, 0, *length as usize, room, view, counts);
                Outcome::More(1)
            }
            Some(Err(error)) => failed(*error, counts),
            None => Outcome::Full,
        }
    }

    /// Up to [`BATCH`] packets, each into a chain of its own.
    fn batch<I: Io>(
        &mut self,
        ring: &mut Ring,
        io: &mut I,
        file: FileIndex,
        view: &View,
        counts: &Counts,
    ) -> Outcome {
        let mut staged = 0;
        while staged < self.expectation.next().min(view.budget.receive)
            && ring.look(staged).is_some()
            && io.stage(&Transfer::Receive { into: ring.looked_writable(staged) })
        {
            staged += 1;
        }
        if staged == 0 {
            return Outcome::Full;
        }
        io.carry_out(file, &mut self.results);
        let results = std::mem::take(&mut self.results);
        let mut outcome = Outcome::More(staged);
        // How many chains before the one at hand still wait for a packet.
        let mut vacant = 0;
        for result in &results {
            match result {
                Ok(length) => {
                    let room = ring.look(vacant).unwrap_or(0);
                    if vacant > 0 {
                        self.move_up(ring, vacant, *length as usize);
                    }
                    if !deliver(ring, 0, *length as usize, room, view, counts) {
                        vacant += 1;
                    }
                }
                Err(error) => {
                    outcome = failed(*error, counts);
                    vacant += 1;
                }
            }
        }
        self.expectation.since += results.iter().filter(|result| result.is_ok()).count();
        self.results = results;
        outcome
    }

    /// Copies a packet from a chain further on to the first one.
    #[cold]
    fn move_up(&mut self, ring: &mut Ring, from: usize, length: usize) {
        self.moved.resize(length, 0);
        let mut at = 0;
        for segment in ring.looked_writable(from) {
            let Some(rest) = self.moved.get_mut(at..) else { break };
            at += segment.read(0, rest);
        }
        write_looked(ring, 0, 0, &self.moved);
    }
}

impl Expectation {
    fn next(&self) -> usize {
        (self.before.max(self.since) + 1).min(BATCH)
    }

    fn ran_dry(&mut self) {
        self.before = std::mem::take(&mut self.since);
    }
}

/// Whether a ring of which these are all chains now may never have room for the longest packet: then
/// it is not waited for, and what does not fit is dropped. Drivers post again when about half of their
/// buffers are gone, and some take a few descriptors for each.
fn is_small(ring: &Ring, chains: usize) -> bool {
    chains > 0 && 4 * chains >= ring.size().into()
}

/// Gives the guest the packet that is in the chains from the first on. False: it is not to have it.
fn deliver(
    ring: &mut Ring,
    first: usize,
    length: usize,
    room: usize,
    view: &View,
    counts: &Counts,
) -> bool {
    if length <= view.header || length >= room {
        // What fills its room to the last byte has probably been cut.
        counts.rx_too_long.add(u64::from(length >= room));
        return false;
    }
    let mut start = [0; START_MAX];
    let start = read_start(ring, first, start.get_mut(..view.looked_at()).unwrap_or_default());
    if let Err(why) = view.inspect(start, length) {
        counts.unwanted(why);
        return false;
    }
    let mut buffers: u16 = 0;
    let mut covered = 0;
    while covered < length {
        let Some(more) = ring.look(first + usize::from(buffers)) else { return false };
        covered += more;
        buffers += 1;
    }
    write_start(ring, first, NUM_BUFFERS_OFFSET, &buffers.to_le_bytes());
    if !view.takes_checksums() {
        write_start(ring, first, 0, &[0]);
    }
    if let Some(hash) = view.hash_report(start) {
        write_start(ring, first, Header::SIZE, &hash.to_bytes());
    }
    view.show_received(ring, first + usize::from(buffers), length);
    let mut left = length;
    for _ in 0..buffers {
        let Some(chain) = ring.take() else { return false };
        let written = ring.writable_len(&chain).min(left);
        left -= written;
        ring.complete(chain, u32::try_from(written).unwrap_or(u32::MAX));
    }
    let frame = (length - view.header) as u64;
    counts.rx_frames.add(1);
    counts.rx_bytes.add(frame);
    ring.stats().bytes_written.add(frame);
    true
}

fn failed(error: Errno, counts: &Counts) -> Outcome {
    if error == Errno::AGAIN {
        return Outcome::Dry;
    }
    counts.uplink_failed(error);
    Outcome::Failed
}

/// Copies bytes into the writable part of a chain that is looked at.
pub(crate) fn write_looked(ring: &Ring, chain: usize, offset: usize, bytes: &[u8]) {
    let (mut skip, mut done) = (offset, 0);
    for segment in ring.looked_writable(chain) {
        let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) else { return };
        done += segment.write(skip, rest);
        skip = skip.saturating_sub(segment.len());
    }
}

/// Copies the start of a packet, which is in the chains from this one on.
#[inline]
fn read_start<'a>(ring: &Ring, first: usize, to: &'a mut [u8]) -> &'a [u8] {
    let mut done = 0;
    for chain in first.. {
        let segments = ring.looked_writable(chain);
        for segment in segments {
            let Some(rest) = to.get_mut(done..) else { break };
            done += segment.read(0, rest);
        }
        if done >= to.len() || segments.is_empty() {
            break;
        }
    }
    to.get(..done).unwrap_or_default()
}

/// Writes into a packet, which is in the chains from this one on: a chain may be as short as a header
/// without a hash.
fn write_start(ring: &Ring, first: usize, offset: usize, bytes: &[u8]) {
    let (mut skip, mut done) = (offset, 0);
    for chain in first.. {
        let segments = ring.looked_writable(chain);
        for segment in segments {
            let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) else { return };
            done += segment.write(skip, rest);
            skip = skip.saturating_sub(segment.len());
        }
        if segments.is_empty() {
            return;
        }
    }
}

/// Gives the guest frames of one size, as many as it takes.
pub(crate) fn load(ring: &mut Ring, length: u16, view: &View, counts: &Counts) {
    for _ in 0..view.budget.receive {
        prepare(ring);
        let Some(room) = ring.look(0) else { return };
        let packet = view.header + usize::from(length);
        if packet > room {
            counts.rx_too_long.add(1);
            return;
        }
        let (header, used) = view.encode(&Header { num_buffers: 1, ..Header::default() });
        write_looked(ring, 0, 0, header.get(..used).unwrap_or_default());
        view.show_received(ring, 1, packet);
        let Some(chain) = ring.take() else { return };
        complete(ring, chain, packet);
        counts.rx_frames.add(1);
        counts.rx_bytes.add(length.into());
    }
}
