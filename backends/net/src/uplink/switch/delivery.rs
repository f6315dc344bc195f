//! Frames on their last stretch: to a port's own guest, which may not take them as they are.

use std::collections::VecDeque;

use framework::ring::Ring;
use virtio_spec::net::Header;

use super::parcel::InParcel;
use super::{checksum, segments};
use crate::counts::Counts;
use crate::deliver::{Fate, Frame, deliver};
use crate::view::View;

/// The most frames that wait for buffers of the guest, and their bytes.
const FRAMES_MAX: usize = 1024;
const BYTES_MAX: usize = 8 << 20;

/// Frames that wait for buffers of the guest, in memory that belongs to nobody else.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    frames: VecDeque<(Header, Vec<u8>)>,
    bytes: usize,
}

impl Waiting {
    /// Copies a frame aside. False: there is no room, and it is dropped.
    #[must_use]
    pub(super) fn push(&mut self, frame: &InParcel<'_>) -> bool {
        let length = frame.length();
        let fits = self.frames.len() < FRAMES_MAX && self.bytes + length <= BYTES_MAX;
        if fits {
            self.append(*frame.header(), frame.to_vec());
        }
        fits
    }

    /// These wait again, before all others; they leave nothing to their receiver.
    pub(super) fn push_front(&mut self, frames: impl DoubleEndedIterator<Item = Vec<u8>>) {
        for bytes in frames.rev() {
            self.bytes += bytes.len();
            self.frames.push_front((Header::default(), bytes));
        }
    }

    fn append(&mut self, header: Header, bytes: Vec<u8>) {
        self.bytes += bytes.len();
        self.frames.push_back((header, bytes));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The frame that has waited longest.
    pub(super) fn pop(&mut self) -> Option<(Header, Vec<u8>)> {
        let (header, bytes) = self.frames.pop_front()?;
        self.bytes -= bytes.len();
        Some((header, bytes))
    }

    pub(super) fn clear(&mut self) {
        *self = Waiting::default();
    }

    /// Gives the guest a frame, unless others wait that came before it.
    pub(super) fn give(
        &mut self,
        frame: &InParcel<'_>,
        ring: &mut Ring,
        view: &View,
        counts: &Counts,
    ) -> Fate {
        if !self.is_empty() {
            return Fate::NoRoom;
        }
        let header = frame.header();
        if takes(header, view) {
            return deliver(ring, header, frame, view, counts);
        }
        let Some(frames) = plain(header, frame.to_vec()) else {
            counts.rx_unnegotiated.add(1);
            return Fate::Dropped;
        };
        self.push_front(frames.into_iter());
        self.give_waiting(usize::MAX, ring, view, counts);
        Fate::Given
    }

    /// Gives the guest what waits, at most `most` frames. Says how many it has got.
    pub(super) fn give_waiting(
        &mut self,
        most: usize,
        ring: &mut Ring,
        view: &View,
        counts: &Counts,
    ) -> usize {
        let mut given = 0;
        while given < most
            && let Some((header, bytes)) = self.pop()
        {
            if !takes(&header, view) {
                // It was sent when the guest took more.
                match plain(&header, bytes) {
                    Some(frames) => self.push_front(frames.into_iter()),
                    None => counts.rx_unnegotiated.add(1),
                }
                continue;
            }
            if deliver(ring, &header, &bytes[..], view, counts) == Fate::NoRoom {
                self.bytes += bytes.len();
                self.frames.push_front((header, bytes));
                break;
            }
            given += 1;
        }
        given
    }
}

/// Does what a frame leaves to its receiver. None: that cannot be done.
pub(super) fn plain(header: &Header, bytes: Vec<u8>) -> Option<Vec<Vec<u8>>> {
    if header.gso_type != 0 {
        return segments::cut(header, &bytes);
    }
    let left = checksum::is_left(header);
    let bytes = if left { checksum::complete(header, &bytes)? } else { bytes };
    Some(vec![bytes])
}

/// Whether the guest takes what such a header leaves to it.
fn takes(header: &Header, view: &View) -> bool {
    match header.gso_type {
        0 => !checksum::is_left(header) || view.takes_checksums(),
        gso_type => view.takes_segments(gso_type),
    }
}
