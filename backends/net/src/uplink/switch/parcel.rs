//! Frames on their way: still in the memory of the guest that sends them.

use std::ops::Range;
use std::sync::Arc;

use framework::memory::{Held, Mapping, Segment};
use virtio_spec::net::Header;

use super::outlet::Outlet;
use crate::deliver::Frame;
use crate::filter::Mac;

/// The most frames of a parcel.
pub(super) const FRAMES_MAX: usize = 256;

/// What one worker sends at once. Whoever is given some of its frames reads them where they are; when
/// nobody does any more, the sender hears of it, and gives the memory back to its guest.
#[derive(Debug)]
pub(crate) struct Parcel {
    held: Held,
    frames: Vec<Sent>,
    home: Option<(Arc<Outlet>, u64)>,
}

/// A frame of a parcel.
#[derive(Debug)]
pub(super) struct Sent {
    /// A header of ours: what the frame leaves to its receiver.
    header: Header,
    length: usize,
    place: Range<usize>,
    /// Destination and source, as they were when it was sent.
    pub(super) ends: (Mac, Mac),
}

/// A frame as a receiver has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct InParcel<'a> {
    parcel: &'a Parcel,
    sent: &'a Sent,
}

impl Parcel {
    /// An empty parcel. `home` hears of its end, under that number.
    pub(super) fn new(home: Option<(Arc<Outlet>, u64)>) -> Self {
        let frames = Vec::with_capacity(FRAMES_MAX);
        Parcel { held: Held::with_capacity(FRAMES_MAX), frames, home }
    }

    /// A parcel with one frame of our own.
    pub(super) fn of(frame: &[u8]) -> Option<Self> {
        let memory = Arc::new(Mapping::owned(frame.len()).ok()?);
        memory.write(0, frame);
        let mut parcel = Parcel::new(None);
        let place = parcel.held.hold_own(&memory, 0, frame.len())?;
        parcel.add(Header::default(), frame.len(), place);
        Some(parcel)
    }

    /// The memory in which its frames are.
    pub(super) fn held(&mut self) -> &mut Held {
        &mut self.held
    }

    /// Adds a frame that is in these pieces of [`Parcel::held`].
    pub(super) fn add(&mut self, header: Header, length: usize, place: Range<usize>) {
        let mut start = [0; 12];
        read(self.held.segments(&place), 0, &mut start);
        let [a, b, c, d, e, f, g, h, i, j, k, l] = start;
        let ends = ([a, b, c, d, e, f], [g, h, i, j, k, l]);
        self.frames.push(Sent { header, length, place, ends });
    }

    pub(super) fn frames(&self) -> &[Sent] {
        &self.frames
    }

    pub(super) fn is_full(&self) -> bool {
        self.frames.len() >= FRAMES_MAX
    }

    /// The n-th frame.
    pub(super) fn frame(&self, n: u16) -> Option<InParcel<'_>> {
        let sent = self.frames.get(usize::from(n))?;
        Some(InParcel { parcel: self, sent })
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        // First of all nothing of that memory is used any more.
        self.held.clear();
        if let Some((home, number)) = self.home.take() {
            home.give_back(number);
        }
    }
}

impl<'a> InParcel<'a> {
    pub(super) fn header(&self) -> &'a Header {
        &self.sent.header
    }

    /// Where it is.
    pub(super) fn segments(&self) -> &'a [Segment] {
        self.parcel.held.segments(&self.sent.place)
    }

    /// A copy of our own.
    pub(super) fn to_vec(self) -> Vec<u8> {
        let mut bytes = vec![0; self.sent.length];
        read(self.segments(), 0, &mut bytes);
        bytes
    }
}

impl Frame for InParcel<'_> {
    fn length(&self) -> usize {
        self.sent.length
    }

    fn start(&self, to: &mut [u8]) -> usize {
        read(self.segments(), 0, to)
    }

    fn copy(&self, from: usize, to: &Segment, at: usize) -> usize {
        let (mut skip, mut done) = (from, 0);
        for segment in self.segments() {
            if skip < segment.len() {
                done += to.copy_from(at + done, segment, skip);
            }
            skip = skip.saturating_sub(segment.len());
        }
        done
    }
}

/// Copies from byte `skip` of the segments on; says how many bytes there were.
fn read(segments: &[Segment], mut skip: usize, to: &mut [u8]) -> usize {
    let mut done = 0;
    for segment in segments {
        let Some(rest) = to.get_mut(done..).filter(|rest| !rest.is_empty()) else { break };
        done += segment.read(skip, rest);
        skip = skip.saturating_sub(segment.len());
    }
    done
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Wherever the sender has cut it, and wherever the receiver goes on.
        #[test]
        fn a_frame_is_read_however_it_is_cut(
            cuts in proptest::collection::vec(1..40_usize, 1..6), from in 0..100_usize,
            at in 0..100_usize,
        ) {
            let length = cuts.iter().sum::<usize>();
            let bytes: Vec<u8> = (1..=u8::MAX).take(length).collect();
            let memory = Arc::new(Mapping::owned(length).unwrap());
            memory.write(0, &bytes);
            let mut parcel = Parcel::new(None);
            let mut done = 0;
            for cut in &cuts {
                parcel.held().hold_own(&memory, done, *cut).unwrap();
                done += cut;
            }
            parcel.add(Header::default(), length, 0..cuts.len());
            let frame = parcel.frame(0).unwrap();
            prop_assert_eq!(frame.to_vec(), bytes.clone());
            let mut room = Held::default();
            let target = Arc::new(Mapping::owned(200).unwrap());
            let place = room.hold_own(&target, 0, 200).unwrap();
            let copied = frame.copy(from, &room.segments(&place)[0], at);
            let expected = bytes.get(from..).unwrap_or_default();
            let expected = &expected[..expected.len().min(200 - at)];
            prop_assert_eq!(copied, expected.len());
            let mut found = vec![0; copied];
            target.read(at, &mut found);
            prop_assert_eq!(&found, expected);
        }
    }
}
