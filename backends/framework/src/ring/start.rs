//! Where a ring starts, and how its next chain is parsed.

use std::collections::VecDeque;

use virtio_spec::packed::{Descriptor, Position};

use super::chain::Slot;
use super::fault::RingFault;
use super::in_flight_packed::PackedTrack;
use super::in_flight_split::SplitTrack;
use super::packed::{self, Packed};
use super::running::Half;
use super::split::Split;
use super::walk::Walk;
use crate::memory::MemoryTable;
use crate::worker::RingSetup;

/// The device's half of a ring, and the chains that were in flight at a crash: heads, or entries of
/// the region. None: no other back-end has served the ring before.
type Started = (Half, Option<VecDeque<u16>>);

pub(super) fn start_split(setup: &RingSetup, event_idx: bool) -> Result<Started, RingFault> {
    let mut split = Split::new(setup, event_idx)?;
    let Some(area) = &setup.in_flight else {
        return Ok((Half::Split(split, None), None));
    };
    let (track, heads) = SplitTrack::open(area, setup.size, split.used_idx())?;
    let Some(heads) = heads else { return Ok((Half::Split(split, Some(track)), None)) };
    #[expect(clippy::cast_possible_truncation, reason = "at most as many as the ring's u16 size")]
    let taken = heads.len() as u16;
    split.skip(taken);
    Ok((Half::Split(split, Some(track)), Some(heads.into())))
}

pub(super) fn start_packed(setup: &RingSetup, event_idx: bool) -> Result<Started, RingFault> {
    #[expect(clippy::cast_possible_truncation, reason = "the low half is the driver's position")]
    let base = Position::from_bits(setup.base as u16);
    let mut packed = Packed::new(setup, event_idx, base, base)?;
    let Some(area) = &setup.in_flight else {
        return Ok((Half::Packed(packed, None), None));
    };
    let (track, recovered) =
        PackedTrack::open(area, setup.size, base, |index| packed.flags_at(index))?;
    let lists = recovered.map(|recovered| {
        (packed.avail, packed.used) = (recovered.avail, recovered.used);
        recovered.lists.into()
    });
    Ok((Half::Packed(packed, Some(track)), lists))
}

/// Follows one chain into its slot. `resumed`: the head or region entry it had before a crash.
#[inline]
pub(super) fn parse_into(
    half: &mut Half,
    slot: &mut Slot,
    memory: &MemoryTable,
    region: &mut usize,
    indirect: bool,
    resumed: Option<u16>,
) -> Result<(), RingFault> {
    slot.resumed = resumed.is_some();
    slot.origin = resumed.unwrap_or(0);
    match half {
        Half::Split(split, _) => {
            let head = match resumed {
                Some(head) => head,
                None => split.next_head()?,
            };
            slot.id = head;
            split.walk(head, &mut Walk::new(memory, slot, region, indirect))
        }
        Half::Packed(_, Some(track)) if resumed.is_some() => {
            slot.track = slot.origin;
            let list = track.descriptors(slot.track)?;
            let id = list.last().map_or(0, |last: &Descriptor| last.id);
            #[expect(clippy::cast_possible_truncation, reason = "at most the ring's u16 size")]
            let descriptors = list.len() as u16;
            (slot.id, slot.descriptors) = (id, descriptors);
            let mut walk = Walk::new(memory, slot, region, indirect);
            list.iter().try_for_each(|desc| walk.add(packed::as_split(desc), true))
        }
        Half::Packed(packed, _) => {
            slot.position = packed.avail;
            let list = packed.next_list(&mut Walk::new(memory, slot, region, indirect))?;
            (slot.id, slot.descriptors) = (list.id, list.descriptors);
            Ok(())
        }
    }
}
