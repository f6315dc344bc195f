//! The two control queues: what the driver says about ports, and what it is told.

use framework::ring::{Ring, Rings};
use virtio_spec::console::{CONTROL_RECEIVE_QUEUE, CONTROL_TRANSMIT_QUEUE, Control};

use crate::board::Board;
use crate::table::Said;

/// The most messages of one go, each way.
const BUDGET: usize = 128;

/// Takes what the driver says. `keep` is called before any of it is shown to be taken, once however much
/// it is, if it has changed anything. True: it has.
pub(crate) fn listen(rings: &mut Rings, board: &mut Board, keep: impl FnOnce(&Board)) -> bool {
    let Some(ring) = rings.get(CONTROL_TRANSMIT_QUEUE.into()) else { return false };
    let (mut changed, mut heard) = (false, Vec::new());
    while heard.len() < BUDGET
        && let Some(chain) = ring.take()
    {
        // Longer messages than are known have something behind what is known.
        let said = match ring.take_header::<{ Control::SIZE }>(&chain) {
            Some(bytes) => board.driver_says(&Control::from_bytes(&bytes)),
            None => {
                board.nonsense = board.nonsense.saturating_add(1);
                Said::Nonsense
            }
        };
        changed |= said != Said::Nonsense;
        heard.push(chain);
    }
    if changed {
        keep(board);
    }
    heard.into_iter().for_each(|chain| ring.complete(chain, 0));
    changed
}

/// Tells the driver what is due, as far as it has buffers. True: it was told something.
pub(crate) fn tell(rings: &mut Rings, board: &mut Board) -> bool {
    let Some(ring) = rings.get(CONTROL_RECEIVE_QUEUE.into()) else { return false };
    let mut told = false;
    for _ in 0..BUDGET {
        let Some(message) = board.table.next() else { break };
        let bytes = message.to_bytes(board.order);
        match give(ring, &bytes) {
            Some(true) => {
                board.table.sent(&message);
                told = true;
            }
            // A buffer that is too small went back; perhaps the next one is larger.
            Some(false) => board.nonsense = board.nonsense.saturating_add(1),
            None => break,
        }
    }
    told
}

/// Puts a message into the next buffer. None: there is no buffer.
fn give(ring: &mut Ring, bytes: &[u8]) -> Option<bool> {
    let chain = ring.take()?;
    let fits = ring.writable_len(&chain) >= bytes.len();
    let written = if fits { ring.write(&chain, 0, bytes) } else { 0 };
    ring.stats().bytes_written.add(written as u64);
    ring.complete(chain, u32::try_from(written).unwrap_or(0));
    Some(fits)
}
