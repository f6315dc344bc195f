//! A split ring as the driver sees it (virtio 1.4, 2.7).
//!
//! A chain is *placed* (its entry filled), then *outstanding* (the available index covers it), then
//! gone (the driver read its used entry). The used index runs ahead of what the driver has read.

use super::chain::{self, Element, Outstanding};
use super::clause::ring::*;
use super::notifications::Span;
use super::step::SplitBuffer;
use super::violation::Findings;
use crate::features::{IN_ORDER, Negotiated};
use crate::split::{Descriptor, UsedElem};
use std::collections::VecDeque;

/// The state of one split ring.
#[derive(Debug)]
pub(super) struct SplitRing {
    size: u16,
    negotiated: Negotiated,
    /// Which chain has each descriptor.
    owners: Vec<Option<u16>>,
    placed: VecDeque<Outstanding>,
    outstanding: VecDeque<Outstanding>,
    avail_idx: u16,
    /// The used index that was read last.
    used_idx: u16,
    /// The index of the used entry that the driver reads next.
    next_used: u16,
    /// Where an in-order driver takes the next descriptor.
    next_descriptor: u16,
    ever_used: Vec<bool>,
}

impl SplitRing {
    pub(super) fn new(size: u16, start: u16, negotiated: Negotiated) -> Self {
        let entries = usize::from(size);
        Self {
            size,
            negotiated,
            owners: vec![None; entries],
            placed: VecDeque::new(),
            outstanding: VecDeque::new(),
            avail_idx: start,
            used_idx: start,
            next_used: start,
            next_descriptor: 0,
            ever_used: vec![false; entries],
        }
    }

    /// The ring is enabled: whatever is in it may be used.
    pub(super) fn enabled(&mut self) {
        for buffer in self.outstanding.iter_mut().chain(&mut self.placed) {
            buffer.while_disabled = false;
        }
    }

    pub(super) fn outstanding(&self) -> &VecDeque<Outstanding> {
        &self.outstanding
    }

    pub(super) fn used_idx(&self) -> u16 {
        self.used_idx
    }

    /// Buffers whose use was published and not read by the driver yet.
    pub(super) fn unread(&self) -> u16 {
        self.used_idx.wrapping_sub(self.next_used)
    }

    pub(super) fn available(
        &mut self,
        buffer: &SplitBuffer<'_>,
        while_disabled: bool,
        findings: &mut Findings,
    ) {
        let expected = self.avail_idx.wrapping_add(count(self.placed.len()));
        findings.check(buffer.position == expected, &AVAIL_POSITION, || {
            format!("entry {} was filled where {expected} is next", buffer.position)
        });
        self.judge_links(buffer, findings);
        self.take_descriptors(buffer, findings);
        let elements: Vec<_> = buffer.descriptors.iter().map(|(_, d)| Element::from(d)).collect();
        let table: Vec<_> = buffer.table.iter().map(Element::from).collect();
        let writable = chain::judge(&elements, &table, self.size, self.negotiated, findings);
        let descriptors = count(buffer.descriptors.len());
        self.placed.push_back(Outstanding {
            id: buffer.head,
            descriptors,
            writable,
            while_disabled,
        });
    }

    /// The available index moved; what it now covers, if it moved as it may.
    pub(super) fn advance_avail(&mut self, to: u16, findings: &mut Findings) -> Option<Span> {
        let from = std::mem::replace(&mut self.avail_idx, to);
        let moved = to.wrapping_sub(from);
        findings.check(usize::from(moved) == self.placed.len(), &AVAIL_IDX, || {
            format!("the index went from {from} to {to} with {} entries filled", self.placed.len())
        });
        self.outstanding.append(&mut self.placed);
        (moved != 0).then_some(Span::Split { from, to })
    }

    /// The driver read the used index; what it now covers, if it moved.
    pub(super) fn read_used_idx(&mut self, to: u16, findings: &mut Findings) -> Option<Span> {
        let from = std::mem::replace(&mut self.used_idx, to);
        let moved = to.wrapping_sub(from);
        let unread = from.wrapping_sub(self.next_used);
        let possible = self.outstanding.len().saturating_sub(usize::from(unread));
        findings.check(usize::from(moved) <= possible, &USED_IDX, || {
            format!("the index went from {from} to {to} with {possible} buffers to use")
        });
        (moved != 0).then_some(Span::Split { from, to })
    }

    /// The driver read the next used entry; returns the buffers that it ends, the named one last.
    pub(super) fn read_used(
        &mut self,
        elem: UsedElem,
        findings: &mut Findings,
    ) -> Vec<Outstanding> {
        let unread = self.unread();
        findings.check(unread != 0, &USED_READ_EARLY, || {
            format!("entry {} was read, the index is {}", self.next_used, self.used_idx)
        });
        let place = self.outstanding.iter().position(|buffer| u32::from(buffer.id) == elem.id);
        let Some(place) = place else {
            self.judge_unknown(elem.id, findings);
            self.next_used = self.next_used.wrapping_add(1);
            return Vec::new();
        };
        let ended = self.end(place, unread, findings);
        for buffer in &ended {
            self.release(buffer.id);
        }
        if let Some(named) = ended.last() {
            chain::judge_used_len(named, elem.len, findings);
        }
        self.next_used = self.next_used.wrapping_add(count(ended.len()));
        ended
    }

    /// Takes the buffer at this place out, and with IN_ORDER those before it, which its entry ends
    /// too if the index covers them all.
    fn end(&mut self, place: usize, unread: u16, findings: &mut Findings) -> Vec<Outstanding> {
        if self.negotiated.has(IN_ORDER) {
            if place < usize::from(unread.max(1)) {
                return self.outstanding.drain(..=place).collect();
            }
            findings
                .breach(&USED_IN_ORDER, format!("a buffer was used before {place} earlier ones"));
        }
        self.outstanding.remove(place).into_iter().collect()
    }

    fn judge_unknown(&self, id: u32, findings: &mut Findings) {
        let used = usize::try_from(id).ok().and_then(|id| self.ever_used.get(id));
        if self.placed.iter().any(|buffer| u32::from(buffer.id) == id) {
            findings.breach(&USED_KNOWN, format!("head {id} was used before it was available"));
        } else if used.is_some_and(|used| *used) {
            findings.breach(&USED_ONCE, format!("head {id} was used again"));
        } else {
            findings.breach(&USED_KNOWN, format!("head {id} was used and never made available"));
        }
    }

    /// Links, and the order that IN_ORDER demands.
    fn judge_links(&mut self, buffer: &SplitBuffer<'_>, findings: &mut Findings) {
        let mut linked = !buffer.descriptors.is_empty();
        let mut expected = Some(buffer.head);
        for (index, descriptor) in buffer.descriptors {
            linked &= expected == Some(*index) && *index < self.size;
            expected = descriptor.has_next().then_some(descriptor.next);
        }
        linked &= expected.is_none();
        findings.check(linked && is_linked(buffer.table), &CHAIN_LINKED, || {
            let indices: Vec<_> = buffer.descriptors.iter().map(|(index, _)| index).collect();
            format!("head {} leads to descriptors {indices:?}", buffer.head)
        });
        if !self.negotiated.has(IN_ORDER) {
            return;
        }
        for (index, _) in buffer.descriptors {
            let next = self.next_descriptor;
            findings.check(*index == next, &IN_ORDER_DESCRIPTORS, || {
                format!("descriptor {index} was taken where {next} is next")
            });
            self.next_descriptor = index.wrapping_add(1).checked_rem(self.size).unwrap_or(0);
        }
    }

    fn take_descriptors(&mut self, buffer: &SplitBuffer<'_>, findings: &mut Findings) {
        for (index, _) in buffer.descriptors {
            let Some(owner) = self.owners.get_mut(usize::from(*index)) else { continue };
            if let Some(owner) = owner.replace(buffer.head) {
                findings.breach(
                    &DESCRIPTOR_FREE,
                    format!("descriptor {index} still belongs to head {owner}"),
                );
            }
        }
    }

    fn release(&mut self, head: u16) {
        for owner in &mut self.owners {
            if *owner == Some(head) {
                *owner = None;
            }
        }
        if let Some(used) = self.ever_used.get_mut(usize::from(head)) {
            *used = true;
        }
    }
}

/// Whether a table's descriptors can be walked: every next index lies in the table, and the walk
/// ends. An empty table is no table.
fn is_linked(table: &[Descriptor]) -> bool {
    let mut next = table.first();
    for _ in 0..table.len() {
        match next {
            Some(descriptor) if descriptor.has_next() => {
                next = table.get(usize::from(descriptor.next));
            }
            Some(_) => return true,
            None => return false,
        }
    }
    table.is_empty()
}

/// A number of entries; queues have at most 32768.
pub(super) fn count(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}
