//! A port of a switch, as the worker of its guest has it.

use std::collections::VecDeque;
use std::sync::Arc;

use framework::engine::{Direction, FileIndex, Io};
use framework::ring::Ring;
use virtio_spec::net::Header;

use super::outlet::Packet;
use super::{Port, checksum, segments};
use crate::counts::Counts;
use crate::deliver::{Fate, deliver};
use crate::transmit::{Checked, check};
use crate::view::View;

/// The bell is the worker's first file.
const BELL: FileIndex = FileIndex(0);

/// A guest at a port.
#[derive(Debug)]
pub(crate) struct Attachment {
    port: Port,
    /// Frames that the guest had no room for: one, or what is left of one that was cut.
    pending: VecDeque<Arc<Packet>>,
}

impl Attachment {
    /// Opens the port.
    pub(crate) fn new(port: Port) -> Self {
        port.outlet().into_iter().for_each(|outlet| outlet.set_open(true));
        Attachment { port, pending: VecDeque::new() }
    }

    /// Hands what the guest transmits to other ports.
    pub(crate) fn transmit(&mut self, ring: &mut Ring, view: &View, counts: &Counts) {
        for _ in 0..view.budget.transmit {
            let Some(chain) = ring.take() else { break };
            match check(ring, &chain, view) {
                Checked::Good(header, length) => {
                    let mut bytes = vec![0; length];
                    ring.read(&chain, 0, &mut bytes);
                    if self.port.send(header, bytes) {
                        counts.tx_frames.add(1);
                        counts.tx_bytes.add(length as u64);
                        ring.stats().bytes_read.add(length as u64);
                    } else {
                        counts.tx_dropped.add(1);
                    }
                }
                Checked::Malformed => counts.tx_malformed.add(1),
            }
            ring.complete(chain, 0);
        }
        self.port.wake_others();
    }

    /// Gives the guest what other ports have sent.
    pub(crate) fn receive<I: Io>(
        &mut self,
        ring: &mut Ring,
        io: &mut I,
        view: &View,
        counts: &Counts,
    ) {
        let Some(outlet) = self.port.outlet() else { return };
        outlet.heard();
        for _ in 0..view.budget.receive {
            let Some(packet) = self.pending.pop_front().or_else(|| outlet.pop()) else {
                if outlet.sleep() {
                    return io.watch(BELL, Direction::Readable);
                }
                continue;
            };
            if packet.header.gso_type != 0
                && !view.takes_segments(packet.header.gso_type)
                && let Some(segments) = segments::cut(&packet.header, &packet.bytes)
            {
                let segments = segments.into_iter().map(Packet::complete).map(Arc::new);
                self.pending.extend(segments);
                continue;
            }
            if hand_over(&packet, ring, view, counts) == Fate::NoRoom {
                self.pending.push_front(packet);
                return;
            }
        }
        // The other ring has its turn, and then it goes on here.
        outlet.ring();
        io.watch(BELL, Direction::Readable);
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.port.outlet().into_iter().for_each(|outlet| outlet.set_open(false));
        self.port.switch.forwarding().table.forget(self.port.number);
    }
}

/// Gives the guest a frame; a checksum that it does not take is completed first.
fn hand_over(packet: &Packet, ring: &mut Ring, view: &View, counts: &Counts) -> Fate {
    let Packet { header, bytes } = packet;
    if header.gso_type == 0 && checksum::is_left(header) && !view.takes_checksums() {
        let Some(complete) = checksum::complete(header, bytes) else { return Fate::Dropped };
        return deliver(ring, &Header::default(), &complete[..], view, counts);
    }
    deliver(ring, header, &bytes[..], view, counts)
}
