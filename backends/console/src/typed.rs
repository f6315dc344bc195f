//! What was typed and the guest has not been given yet, in the order in which it came, within a bound.

use std::collections::VecDeque;

use framework::ring::Ring;
use rustix::io::Errno;

use crate::backend::Peer;

/// Bytes that are typed ahead at most.
const MOST: usize = 64 << 10;
/// Bytes of one read.
const PIECE: usize = 4096;

/// Bytes on their way to the guest.
#[derive(Debug, Default)]
pub(crate) struct Typed(VecDeque<u8>);

impl Typed {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds keys, as far as there is room. Returns how many there was none for.
    pub(crate) fn add(&mut self, keys: &[u8]) -> usize {
        let room = MOST.saturating_sub(self.0.len()).min(keys.len());
        let (kept, lost) = keys.split_at_checked(room).unwrap_or((keys, &[]));
        self.0.extend(kept);
        lost.len()
    }

    /// Reads what a peer has typed, if there is room for it, and says how much that was. `silent`: it is
    /// thrown away.
    pub(crate) fn read(&mut self, peer: &Peer, silent: bool) -> Option<Result<usize, Errno>> {
        let input = peer.input.as_ref()?;
        let mut piece = [0; PIECE];
        let room = if silent { PIECE } else { MOST.saturating_sub(self.0.len()).min(PIECE) };
        let piece = piece.get_mut(..room).filter(|piece| !piece.is_empty())?;
        let read = rustix::io::retry_on_intr(|| rustix::io::read(input, &mut *piece));
        if let (Ok(count), false) = (read, silent) {
            self.0.extend(piece.iter().take(count));
        }
        Some(read)
    }

    /// Writes as much as fits into the guest's next buffer. None: it has no buffer.
    pub(crate) fn deliver(&mut self, ring: &mut Ring) -> Option<usize> {
        let chain = ring.take()?;
        let written = ring.write(&chain, 0, self.0.make_contiguous());
        self.0.drain(..written);
        ring.complete(chain, u32::try_from(written).unwrap_or(u32::MAX));
        Some(written)
    }
}
