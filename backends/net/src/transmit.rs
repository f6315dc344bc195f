//! From the guest to the uplink.
//!
//! A batch of chains is taken, each header is checked, the frames go out in one system call with
//! headers of our own, straight from guest memory, and all chains are completed: whatever became of
//! a frame, its buffer goes back.

use framework::engine::{FileIndex, Io, Transfer};
use framework::ring::{Chain, Ring};
use rustix::io::Errno;
use virtio_spec::net::Header;

use crate::counts::Counts;
use crate::view::View;

/// How many chains are looked at together, so that their headers come into the cache meanwhile, and
/// how many are shown to a guest that is awake before the whole batch is done.
pub(crate) const BURST: usize = 32;

/// The transmitting half of a queue pair.
#[derive(Debug, Default)]
pub(crate) struct Transmit {
    /// Staged frames: their chains and lengths.
    staged: Vec<(Chain, usize)>,
    results: Vec<Result<u32, Errno>>,
}

/// What becomes of a frame before the uplink sees it.
pub(crate) enum Checked {
    Good(Header, usize),
    Malformed,
}

impl Transmit {
    /// Sends frames to a file: a tap, or a packet socket that takes packet headers too.
    pub(crate) fn run<I: Io>(
        &mut self,
        ring: &mut Ring,
        io: &mut I,
        file: FileIndex,
        view: &View,
        counts: &Counts,
    ) {
        for _ in 0..view.budget.transmit {
            let Some(chain) = next(ring) else { break };
            match check(ring, &chain, view) {
                Checked::Good(header, length) => {
                    if !stage(ring, io, view, &header, &chain) {
                        self.flush(ring, io, file, counts);
                        // A batch that is empty has room for any chain that a ring can hold, but for
                        // the very longest.
                        if !stage(ring, io, view, &header, &chain) {
                            counts.tx_dropped.add(1);
                            ring.complete(chain, 0);
                            continue;
                        }
                    }
                    self.staged.push((chain, length));
                }
                Checked::Malformed => {
                    counts.tx_malformed.add(1);
                    ring.complete(chain, 0);
                }
            }
        }
        self.flush(ring, io, file, counts);
    }

    fn flush<I: Io>(&mut self, ring: &mut Ring, io: &mut I, file: FileIndex, counts: &Counts) {
        if self.staged.is_empty() {
            return;
        }
        io.carry_out(file, &mut self.results);
        for ((chain, length), result) in self.staged.drain(..).zip(self.results.drain(..)) {
            match result {
                Ok(_) => sent(ring, counts, length),
                Err(error) => {
                    counts.tx_dropped.add(1);
                    if !matches!(error, Errno::AGAIN | Errno::NOBUFS | Errno::INVAL) {
                        counts.uplink_failed(error);
                    }
                }
            }
            ring.complete(chain, 0);
        }
        ring.publish();
    }
}

/// Has a burst of chains looked at when the last one is almost used up.
#[inline]
pub(crate) fn prepare(ring: &mut Ring) {
    // The ring itself looks one ahead.
    if ring.prepared() <= 1 {
        ring.prepare(BURST);
    }
}

/// The next chain; with the first of a burst, all of it is looked at.
#[inline]
pub(crate) fn next(ring: &mut Ring) -> Option<Chain> {
    prepare(ring);
    ring.take()
}

/// Ends a chain; the guest sees it as soon as there is a burst of them.
#[inline]
pub(crate) fn complete(ring: &mut Ring, chain: Chain, written: usize) {
    ring.complete(chain, u32::try_from(written).unwrap_or(u32::MAX));
    if ring.unpublished() as usize >= BURST {
        ring.publish();
    }
}

/// Sends frames to nowhere.
pub(crate) fn to_nowhere(ring: &mut Ring, view: &View, counts: &Counts) {
    for _ in 0..view.budget.transmit {
        let Some(chain) = next(ring) else { return };
        match check(ring, &chain, view) {
            Checked::Good(_, length) => sent(ring, counts, length),
            Checked::Malformed => counts.tx_malformed.add(1),
        }
        complete(ring, chain, 0);
    }
}

/// Takes the frames of a disabled ring and drops them (vhost-user, "Ring states").
pub(crate) fn discard(ring: &mut Ring, counts: &Counts) {
    while let Some(chain) = ring.take() {
        counts.tx_dropped.add(1);
        ring.complete(chain, 0);
    }
}

#[inline]
fn sent(ring: &Ring, counts: &Counts, length: usize) {
    counts.tx_frames.add(1);
    counts.tx_bytes.add(length as u64);
    ring.stats().bytes_read.add(length as u64);
}

/// Copies and checks the header; what is left of the chain is the frame.
#[inline]
pub(crate) fn check(ring: &mut Ring, chain: &Chain, view: &View) -> Checked {
    let Some(header) = ring.take_header::<{ Header::SIZE }>(chain) else {
        return Checked::Malformed;
    };
    if view.header > Header::SIZE {
        // The hash that may follow is for packets that are received.
        ring.advance_readable(chain, view.header - Header::SIZE);
    }
    let length = ring.readable_len(chain);
    match view.rules.check(&header, length) {
        Ok(header) => {
            view.show_sent(ring, chain, length);
            Checked::Good(header, length)
        }
        Err(_) => Checked::Malformed,
    }
}

#[inline]
fn stage<I: Io>(ring: &Ring, io: &mut I, view: &View, header: &Header, chain: &Chain) -> bool {
    let (header, length) = view.encode(header);
    let header = header.get(..length).unwrap_or_default();
    io.stage(&Transfer::Send { header, from: ring.readable(chain) })
}
