//! Giving the guest a frame that lies in memory of ours.

use framework::memory::Segment;
use framework::ring::Ring;
use virtio_spec::net::Header;

use crate::counts::Counts;
use crate::view::{START_MAX, View};

/// A frame for the guest.
pub(crate) trait Frame {
    /// Its length, bytes.
    fn length(&self) -> usize;

    /// Copies its first bytes; says how many there were.
    fn start(&self, to: &mut [u8]) -> usize;

    /// Copies it, from byte `from` on, to `at` of a segment; says how many bytes fitted.
    fn copy(&self, from: usize, to: &Segment, at: usize) -> usize;
}

impl Frame for [u8] {
    fn length(&self) -> usize {
        self.len()
    }

    fn start(&self, to: &mut [u8]) -> usize {
        let n = self.len().min(to.len());
        for (to, from) in to.iter_mut().zip(self) {
            *to = *from;
        }
        n
    }

    fn copy(&self, from: usize, to: &Segment, at: usize) -> usize {
        to.write(at, self.get(from..).unwrap_or_default())
    }
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The guest has it.
    Given,
    /// The guest is not to have it, or could not take it: that was counted.
    Dropped,
    /// The guest has too few buffers now.
    NoRoom,
}

/// Gives the guest a frame, with this header.
pub(crate) fn deliver(
    ring: &mut Ring,
    header: &Header,
    frame: &(impl Frame + ?Sized),
    view: &View,
    counts: &Counts,
) -> Fate {
    let (mut bytes, used) = view.encode(header);
    let length = frame.length();
    let mut start = [0; START_MAX];
    if let Some(start) = start.first_chunk_mut() {
        *start = bytes;
    }
    let looked_at = view.looked_at();
    let seen = start.get_mut(used..looked_at).map_or(0, |start| frame.start(start));
    let start = start.get(..used + seen).unwrap_or_default();
    if let Err(why) = view.inspect(start, used + length) {
        counts.unwanted(why);
        return Fate::Dropped;
    }
    let buffers = match reserve(ring, used + length, view.mergeable) {
        Ok(buffers) => buffers,
        Err(fate) => {
            counts.rx_too_long.add(u64::from(fate == Fate::Dropped));
            return fate;
        }
    };
    let numbered = Header { num_buffers: buffers, ..*header };
    write(&mut bytes, 0, &numbered.to_bytes());
    if let Some(hash) = view.hash_report(start) {
        write(&mut bytes, Header::SIZE, &hash.to_bytes());
    }
    fill(ring, buffers, bytes.get(..used).unwrap_or_default(), frame, view);
    counts.rx_frames.add(1);
    counts.rx_bytes.add(length as u64);
    ring.stats().bytes_written.add(length as u64);
    Fate::Given
}

/// How many chains a packet of so many bytes takes.
fn reserve(ring: &mut Ring, needed: usize, mergeable: bool) -> Result<u16, Fate> {
    let (mut room, mut buffers) = (0, 0);
    while room < needed {
        if buffers == ring.size() || (buffers > 0 && !mergeable) {
            return Err(Fate::Dropped);
        }
        room += ring.look(buffers.into()).ok_or(Fate::NoRoom)?;
        buffers += 1;
    }
    Ok(buffers)
}

/// Copies header and frame into so many chains, and completes these.
fn fill(ring: &mut Ring, buffers: u16, header: &[u8], frame: &(impl Frame + ?Sized), view: &View) {
    let mut done = 0;
    for chain in 0..buffers.into() {
        for segment in ring.looked_writable(chain) {
            let mut at = 0;
            if let Some(rest) = header.get(done..) {
                at = segment.write(0, rest);
                done += at;
            }
            if done >= header.len() {
                done += frame.copy(done - header.len(), segment, at);
            }
        }
    }
    view.show_received(ring, buffers.into(), done);
    for _ in 0..buffers {
        let Some(chain) = ring.take() else { return };
        let written = ring.writable_len(&chain).min(done);
        done -= written;
        ring.complete(chain, u32::try_from(written).unwrap_or(u32::MAX));
    }
}

fn write(to: &mut [u8], at: usize, bytes: &[u8]) {
    for (to, from) in to.iter_mut().skip(at).zip(bytes) {
        *to = *from;
    }
}
