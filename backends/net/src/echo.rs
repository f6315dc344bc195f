//! Sending a guest's packets back to it.

use framework::ring::Ring;

use crate::counts::Counts;
use crate::header::FRAME_MAX;
use crate::receive::write_looked;
use crate::transmit::{Checked, check, complete, next, prepare};
use crate::view::View;

/// Copies what is transmitted to where the guest receives, as long as there is room: what finds none
/// stays in its ring until there is.
pub(crate) fn mirror(transmit: &mut Ring, receive: &mut Ring, view: &View, counts: &Counts) {
    for _ in 0..view.budget.transmit {
        prepare(receive);
        let Some(room) = receive.look(0) else { return };
        let Some(chain) = next(transmit) else { return };
        let Checked::Good(mut header, length) = check(transmit, &chain, view) else {
            counts.tx_malformed.add(1);
            complete(transmit, chain, 0);
            continue;
        };
        let packet = view.header + length;
        if packet <= room && length <= FRAME_MAX {
            header.num_buffers = 1;
            let (bytes, used) = view.encode(&header);
            write_looked(receive, 0, 0, bytes.get(..used).unwrap_or_default());
            let copied = receive.copy_to_looked(0, view.header, transmit, &chain);
            debug_assert_eq!(copied, length);
            view.show_received(receive, 1, packet);
            if let Some(place) = receive.take() {
                complete(receive, place, packet);
            }
            counts.tx_frames.add(1);
            counts.rx_frames.add(1);
            counts.rx_bytes.add(length as u64);
        } else {
            counts.rx_too_long.add(1);
        }
        complete(transmit, chain, 0);
    }
}
