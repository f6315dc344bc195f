//! A packed ring as the driver sees it (virtio 1.4, 2.8).
//!
//! The observer keeps what each descriptor was when it was last written, by either side, so that a
//! descriptor whose marks changed in a way that no side may change them shows.

use super::chain::{self, Element, Outstanding};
use super::clause::ring::*;
use super::notifications::Span;
use super::split_ring::count;
use super::step::PackedBuffer;
use super::violation::Findings;
use crate::features::{IN_ORDER, Negotiated};
use crate::packed::{self, DESC_F_AVAIL, DESC_F_USED, DESC_F_WRITE, Position};
use std::collections::{HashSet, VecDeque};

/// The flag bits that mark a descriptor as available or used.
const MARKS: u16 = DESC_F_AVAIL | DESC_F_USED;

/// The state of one packed ring.
#[derive(Debug)]
pub(super) struct PackedRing {
    size: u16,
    negotiated: Negotiated,
    descriptors: Vec<packed::Descriptor>,
    outstanding: VecDeque<Outstanding>,
    next_avail: Position,
    next_used: Position,
    ever_used: HashSet<u16>,
}

/// What the driver found at the place of the next used descriptor.
pub(super) struct Found {
    /// What was published by it.
    pub(super) span: Span,
    /// The buffers that it ends, the named one last.
    pub(super) ended: Vec<Outstanding>,
}

impl PackedRing {
    pub(super) fn new(size: u16, start: Position, negotiated: Negotiated) -> Self {
        Self {
            size,
            negotiated,
            descriptors: vec![packed::Descriptor::default(); usize::from(size)],
            outstanding: VecDeque::new(),
            next_avail: start,
            next_used: start,
            ever_used: HashSet::new(),
        }
    }

    /// The ring is enabled: whatever is in it may be used.
    pub(super) fn enabled(&mut self) {
        self.outstanding.iter_mut().for_each(|buffer| buffer.while_disabled = false);
    }

    pub(super) fn outstanding(&self) -> &VecDeque<Outstanding> {
        &self.outstanding
    }

    pub(super) fn next_used(&self) -> Position {
        self.next_used
    }

    pub(super) fn available(
        &mut self,
        buffer: &PackedBuffer<'_>,
        while_disabled: bool,
        findings: &mut Findings,
    ) -> Span {
        let descriptors = count(buffer.descriptors.len());
        self.judge_list(buffer, findings);
        let taken: u32 = self.outstanding.iter().map(|o| u32::from(o.descriptors)).sum();
        let free = u32::from(self.size).saturating_sub(taken);
        findings.check(u32::from(descriptors) <= free, &PACKED_SPACE, || {
            format!("{descriptors} descriptors were made available with {free} free")
        });
        let known = self.outstanding.iter().any(|o| o.id == buffer.id);
        findings.check(!known, &DESCRIPTOR_FREE, || {
            format!("id {} is still with the device", buffer.id)
        });
        let elements: Vec<_> = buffer.descriptors.iter().map(Element::from).collect();
        let table: Vec<_> = buffer.table.iter().map(Element::from).collect();
        let writable = chain::judge(&elements, &table, self.size, self.negotiated, findings);
        let from = self.next_avail;
        for descriptor in buffer.descriptors {
            self.write(self.next_avail.index, *descriptor);
            self.next_avail = self.next_avail.advance(1, self.size);
        }
        self.outstanding.push_back(Outstanding {
            id: buffer.id,
            descriptors,
            writable,
            while_disabled,
        });
        Span::Packed { from, to: self.next_avail, size: self.size }
    }

    /// The driver read the descriptor where the next used one will be; `None` if it is not used.
    pub(super) fn read_next(
        &mut self,
        descriptor: packed::Descriptor,
        findings: &mut Findings,
    ) -> Option<Found> {
        let place = self.next_used;
        if self.outstanding.is_empty() || !packed::is_used(descriptor.flags, place.wrap) {
            self.judge_unused(descriptor, findings);
            return None;
        }
        self.write(place.index, descriptor);
        let written = descriptor.flags & DESC_F_WRITE != 0;
        let ended = self.end(descriptor.id, findings);
        if let Some(named) = ended.last().filter(|_| written) {
            chain::judge_used_len(named, descriptor.len, findings);
        }
        let passed = ended.iter().map(|o| usize::from(o.descriptors)).sum();
        self.next_used = place.advance(count(passed), self.size);
        Some(Found {
            span: Span::Packed { from: place, to: self.next_used, size: self.size },
            ended,
        })
    }

    /// Ends the buffer with this id, and with IN_ORDER the ones before it.
    fn end(&mut self, id: u16, findings: &mut Findings) -> Vec<Outstanding> {
        let Some(place) = self.outstanding.iter().position(|o| o.id == id) else {
            let clause = if self.ever_used.contains(&id) { &USED_ONCE } else { &USED_KNOWN };
            findings.breach(clause, format!("id {id} was used and is not with the device"));
            return Vec::new();
        };
        self.ever_used.insert(id);
        if self.negotiated.has(IN_ORDER) {
            self.outstanding.drain(..=place).collect()
        } else {
            self.outstanding.remove(place).into_iter().collect()
        }
    }

    /// A descriptor that is not used still has the marks that it had. Its other fields may be
    /// half-way to being used: the device writes the marks last.
    fn judge_unused(&self, descriptor: packed::Descriptor, findings: &mut Findings) {
        let Some(before) = self.descriptors.get(usize::from(self.next_used.index)) else { return };
        let same = before.flags & MARKS == descriptor.flags & MARKS;
        let nothing_to_use = self.outstanding.is_empty();
        if same {
            return;
        }
        if nothing_to_use && packed::is_used(descriptor.flags, self.next_used.wrap) {
            findings.breach(
                &USED_KNOWN,
                format!("id {} was used while the device has nothing", descriptor.id),
            );
            return;
        }
        findings.breach(
            &PACKED_USED_FLAGS,
            format!(
                "descriptor {} went from flags {:#06x} to {:#06x}",
                self.next_used.index, before.flags, descriptor.flags
            ),
        );
    }

    fn judge_list(&self, buffer: &PackedBuffer<'_>, findings: &mut Findings) {
        findings.check(buffer.position == self.next_avail, &AVAIL_POSITION, || {
            format!("a list was put at {:?} where {:?} is next", buffer.position, self.next_avail)
        });
        let mut place = self.next_avail;
        let last = buffer.descriptors.len().saturating_sub(1);
        for (number, descriptor) in buffer.descriptors.iter().enumerate() {
            let marks = descriptor.flags & MARKS;
            findings.check(marks == packed::avail_flags(place.wrap), &PACKED_AVAIL_FLAGS, || {
                format!("descriptor {} has flags {:#06x}", place.index, descriptor.flags)
            });
            findings.check(descriptor.has_next() == (number < last), &PACKED_NEXT_FLAGS, || {
                format!("descriptor {} has flags {:#06x}", place.index, descriptor.flags)
            });
            place = place.advance(1, self.size);
        }
        findings
            .check(!buffer.descriptors.is_empty(), &CHAIN_LINKED, || "a list is empty".to_owned());
        let plain = buffer.table.iter().all(|d| d.flags & !DESC_F_WRITE == 0);
        findings.check(plain, &PACKED_TABLE_FLAGS, || {
            "a table's descriptor has a flag beside WRITE".to_owned()
        });
    }

    fn write(&mut self, index: u16, descriptor: packed::Descriptor) {
        if let Some(place) = self.descriptors.get_mut(usize::from(index)) {
            *place = descriptor;
        }
    }
}
