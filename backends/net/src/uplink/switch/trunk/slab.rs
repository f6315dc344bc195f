//! Memory for what comes from outside, until the guests have it.

use std::ops::Range;
use std::sync::Arc;

use framework::memory::{Held, Mapping, Segment};

use super::super::outlet::Outlet;
use super::super::parcel::Parcel;
use crate::header::FRAME_MAX;
use virtio_spec::net::Header;

/// The size of a place, bytes: the longest packet with its header, in whole pages.
pub(crate) const PLACE: usize = (Header::SIZE + FRAME_MAX).next_multiple_of(4096);
/// How many packets a slab holds: what one system call reads.
pub(crate) const PLACES: usize = 64;
/// How many slabs there are. Of their pages, those exist that were ever used.
const SLABS: usize = 4;

/// Places for as many packets as are read at once.
#[derive(Debug)]
pub(super) struct Slab {
    number: u64,
    memory: Arc<Mapping>,
    places: Held,
    home: Arc<Outlet>,
}

/// The slabs that nobody reads.
#[derive(Debug)]
pub(super) struct Slabs {
    free: Vec<Slab>,
    lent: Vec<Slab>,
}

impl Slabs {
    /// All of them; readers give them back to `home`.
    pub(super) fn new(home: &Arc<Outlet>) -> Self {
        let slab = |number| {
            let memory = Arc::new(Mapping::owned(PLACES * PLACE).ok()?);
            let mut places = Held::with_capacity(PLACES);
            (0..PLACES)
                .try_for_each(|place| places.hold_own(&memory, place * PLACE, PLACE).map(drop))?;
            Some(Slab { number, memory, places, home: Arc::clone(home) })
        };
        Slabs { free: (0..SLABS as u64).filter_map(slab).collect(), lent: Vec::new() }
    }

    /// A slab that nobody reads.
    pub(super) fn take(&mut self) -> Option<Slab> {
        self.free.pop()
    }

    /// Whether somebody reads each of them.
    pub(super) fn are_lent(&self) -> bool {
        self.free.is_empty()
    }

    /// A slab that was not used after all.
    pub(super) fn put(&mut self, slab: Slab) {
        self.free.push(slab);
    }

    /// A slab whose parcel is under way.
    pub(super) fn lend(&mut self, slab: Slab) {
        self.lent.push(slab);
    }

    /// These are not read any more.
    pub(super) fn take_back(&mut self, numbers: &mut Vec<u64>) {
        for number in numbers.drain(..) {
            let index = self.lent.iter().position(|slab| slab.number == number);
            self.free.extend(index.map(|index| self.lent.swap_remove(index)));
        }
    }
}

impl Slab {
    /// The n-th place, as what a transfer reads into.
    pub(super) fn place(&self, n: usize) -> &[Segment] {
        self.places.segments(&Range { start: n, end: n + 1 })
    }

    /// A parcel that ends with the slab's coming back.
    pub(super) fn parcel(&self) -> Parcel {
        Parcel::new(Some((Arc::clone(&self.home), self.number)))
    }

    /// Adds what is in the n-th place, `length` bytes from `start` on, to this slab's parcel.
    pub(super) fn add(
        &self,
        parcel: &mut Parcel,
        n: usize,
        (start, length): (usize, usize),
        header: Header,
    ) {
        let place = parcel.held().hold_own(&self.memory, n * PLACE + start, length);
        if let Some(place) = place {
            parcel.add(header, length, place);
        }
    }
}
