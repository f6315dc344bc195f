//! A ring's part of the in-flight region against what the ring itself shows (vhost-user, "Inflight
//! I/O tracking").
//!
//! A successor goes on behind what the region marks: its next available index is the used index
//! plus the number of marked buffers. So a buffer that the device has taken and that is not marked
//! is lost, and a marked one that was used is done twice.

use super::chain::Outstanding;
use super::clause::vhost_user::{
    INFLIGHT_COMPLETE, INFLIGHT_HEADER, INFLIGHT_KNOWN, INFLIGHT_ORDER,
};
use super::packed_ring::PackedRing;
use super::split_ring::SplitRing;
use super::violation::Findings;
use crate::packed::Position;
use crate::vhost_user::inflight::{
    DescStatePacked, DescStateSplit, QueueRegionPacked, QueueRegionSplit, VERSION,
};

/// A buffer that the region marks.
struct Mark {
    id: u16,
    counter: u64,
}

pub(super) fn judge_split(part: &[u8], size: u16, ring: &SplitRing, findings: &mut Findings) {
    let Some(header) = QueueRegionSplit::from_prefix(part) else {
        findings.breach(&INFLIGHT_HEADER, format!("a part of {} bytes", part.len()));
        return;
    };
    let expected = ring.used_idx();
    let fits = header.version == VERSION && header.desc_num == size && header.used_idx == expected;
    findings.check(fits, &INFLIGHT_HEADER, || format!("{header:?}, used index {expected}"));
    let states = part.get(QueueRegionSplit::SIZE..).unwrap_or_default();
    let marks: Vec<_> = (0..size)
        .zip(states.chunks_exact(DescStateSplit::SIZE))
        .filter_map(|(id, bytes)| Some((id, DescStateSplit::from_prefix(bytes)?)))
        .filter(|(_, state)| state.inflight != 0)
        .map(|(id, state)| Mark { id, counter: state.counter })
        .collect();
    // Buffers whose use the driver has not read yet are no longer in flight: which ones they are
    // it does not know.
    if ring.unread() == 0 {
        judge_marks(&marks, ring.outstanding().iter().copied(), findings);
    }
}

pub(super) fn judge_packed(part: &[u8], size: u16, ring: &PackedRing, findings: &mut Findings) {
    let Some(header) = QueueRegionPacked::from_prefix(part) else {
        findings.breach(&INFLIGHT_HEADER, format!("a part of {} bytes", part.len()));
        return;
    };
    let used = Position { index: header.used_idx, wrap: header.used_wrap_counter != 0 };
    let expected = ring.next_used();
    let fits = header.version == VERSION && header.desc_num == size && used == expected;
    findings.check(fits, &INFLIGHT_HEADER, || format!("{header:?}, next used {expected:?}"));
    let states: Vec<_> = part
        .get(QueueRegionPacked::SIZE..)
        .unwrap_or_default()
        .chunks_exact(DescStatePacked::SIZE)
        .take(usize::from(size))
        .filter_map(DescStatePacked::from_prefix)
        .collect();
    // The last descriptor of a list has its id.
    let marks: Vec<_> = states
        .iter()
        .filter(|state| state.inflight != 0)
        .filter_map(|head| Some((head, states.get(usize::from(head.last))?)))
        .map(|(head, last)| Mark { id: last.id, counter: head.counter })
        .collect();
    judge_marks(&marks, ring.outstanding().iter().copied(), findings);
}

fn judge_marks(
    marks: &[Mark],
    outstanding: impl Iterator<Item = Outstanding>,
    findings: &mut Findings,
) {
    let mark_of = |id: u16| marks.iter().find(|mark| mark.id == id);
    // Buffers come in the order in which the device takes them.
    let outstanding: Vec<_> = outstanding.map(|buffer| buffer.id).collect();
    for mark in marks {
        findings.check(outstanding.contains(&mark.id), &INFLIGHT_KNOWN, || {
            format!("buffer {} is marked and not in flight", mark.id)
        });
    }
    let taken = outstanding.iter().take(marks.len());
    for id in taken.clone() {
        findings.check(mark_of(*id).is_some(), &INFLIGHT_COMPLETE, || {
            format!("buffer {id} is not marked, a later one is")
        });
    }
    let counters: Vec<_> = taken.filter_map(|id| mark_of(*id)).map(|mark| mark.counter).collect();
    findings.check(counters.is_sorted_by(|a, b| a < b), &INFLIGHT_ORDER, || {
        format!("counters {counters:?} in the order of taking")
    });
}
