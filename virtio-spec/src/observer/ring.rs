//! One ring of either kind: what both have in common, and who may do what when.

use super::chain::Outstanding;
use super::clause::ring::*;
use super::inflight_region;
use super::notifications::{Calls, Kicks};
use super::packed_ring::PackedRing;
use super::split_ring::SplitRing;
use super::step::{RingSetup, RingStart, RingStep, Suppress};
use super::violation::Findings;
use crate::features::{EVENT_IDX, Negotiated};
use crate::packed::{self, EventSuppress, Position};
use crate::split::{self, UsedElem};
use std::collections::VecDeque;

/// Used buffers that a driver can look at again.
const REMEMBERED: usize = 1024;

/// A ring that the driver set up.
#[derive(Debug)]
pub(super) struct Ring {
    size: u16,
    event_idx: bool,
    kind: Kind,
    calls: Calls,
    kicks: Kicks,
    /// The buffers that were seen used, the last one first.
    seen: VecDeque<UsedElem>,
}

#[derive(Debug)]
enum Kind {
    Split(SplitRing),
    Packed(PackedRing),
}

/// What the device did, as far as the state of the connection matters to it.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// The driver looked whether buffers were used: for packed rings all that are, are seen.
    pub(super) looked: bool,
    /// Buffers were newly seen used.
    pub(super) used: bool,
    /// The device wrote data into a buffer that came while the ring was disabled.
    pub(super) wrote_while_disabled: bool,
}

/// Whether notifications can be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ways {
    /// The device can call.
    pub(super) call: bool,
    /// The driver can kick.
    pub(super) kick: bool,
}

impl Ways {
    /// None at all.
    pub(super) const NONE: Self = Self { call: false, kick: false };
    /// Both, as without vhost-user.
    pub(super) const BOTH: Self = Self { call: true, kick: true };
}

/// Where a ring stands, as vhost-user tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Free-running used index.
    Split(u16),
    /// Next used descriptor.
    Packed(Position),
}

impl Ring {
    /// Judges a set-up and starts to watch the ring.
    pub(super) fn new(setup: &RingSetup, negotiated: Negotiated, findings: &mut Findings) -> Self {
        judge_setup(setup, findings);
        let (kind, initial) = match setup.start {
            RingStart::Split(start) => (
                Kind::Split(SplitRing::new(setup.size, start, negotiated)),
                Suppress::Split { flags: 0, event: 0 },
            ),
            RingStart::Packed(start) => (
                Kind::Packed(PackedRing::new(setup.size, start, negotiated)),
                Suppress::Packed(EventSuppress::default()),
            ),
        };
        Self {
            size: setup.size,
            event_idx: negotiated.has(EVENT_IDX),
            kind,
            calls: Calls::new(negotiated, initial),
            kicks: Kicks::new(negotiated, initial),
            seen: VecDeque::new(),
        }
    }

    pub(super) fn standing(&self) -> Standing {
        match &self.kind {
            Kind::Split(ring) => Standing::Split(ring.used_idx()),
            Kind::Packed(ring) => Standing::Packed(ring.next_used()),
        }
    }

    /// The ring is enabled: whatever is in it may be used.
    pub(super) fn enabled(&mut self) {
        match &mut self.kind {
            Kind::Split(ring) => ring.enabled(),
            Kind::Packed(ring) => ring.enabled(),
        }
    }

    pub(super) fn observe(
        &mut self,
        step: &RingStep<'_>,
        disabled: bool,
        findings: &mut Findings,
    ) -> Activity {
        match step {
            RingStep::SplitAvailable(_) | RingStep::AvailIdx(_) | RingStep::PackedAvailable(_) => {
                self.made_available(step, disabled, findings);
            }
            RingStep::UsedIdx(_) | RingStep::Used(_) | RingStep::PackedNext(_) => {
                return self.used(step, disabled, findings);
            }
            RingStep::UsedAgain { back, elem } => self.used_again(*back, *elem, findings),
            RingStep::DriverSuppress(wish) => {
                self.judge_wish(*wish, [&DRIVER_FLAGS, &PACKED_DRIVER_FLAGS], findings);
                self.calls.wish(*wish);
            }
            RingStep::DeviceSuppress(wish) => {
                self.judge_wish(*wish, [&DEVICE_FLAGS, &PACKED_DEVICE_FLAGS], findings);
                self.kicks.wish(*wish);
            }
            RingStep::Kicked => self.kicks.notified(),
            RingStep::Called => self.calls.notified(),
            RingStep::InflightRegion(part) => self.judge_inflight_region(part, findings),
            // The observer handles these before it comes here.
            RingStep::Configured(_) | RingStep::Reset | RingStep::Changed(_) => {}
        }
        Activity::default()
    }

    /// What both sides still owe when nothing moves, as far as there are ways to call and to kick.
    pub(super) fn quiesce(&mut self, ways: Ways, findings: &mut Findings) {
        let call_missing = self.calls.quiesce() && ways.call;
        let kick_missing = self.kicks.quiesce() && ways.kick;
        findings.check(!call_missing, &CALL_REQUIRED, || {
            format!("buffers up to {:?} were used and no call came", self.standing())
        });
        findings.check(!kick_missing, &KICK_REQUIRED, || {
            "buffers were made available and no kick sent".to_owned()
        });
    }

    fn made_available(&mut self, step: &RingStep<'_>, disabled: bool, findings: &mut Findings) {
        let span = match (&mut self.kind, step) {
            (Kind::Split(ring), RingStep::SplitAvailable(buffer)) => {
                ring.available(buffer, disabled, findings);
                None
            }
            (Kind::Split(ring), RingStep::AvailIdx(to)) => ring.advance_avail(*to, findings),
            (Kind::Packed(ring), RingStep::PackedAvailable(buffer)) => {
                Some(ring.available(buffer, disabled, findings))
            }
            _ => None,
        };
        if let Some(span) = span {
            self.kicks.published(span);
        }
    }

    fn used(&mut self, step: &RingStep<'_>, disabled: bool, findings: &mut Findings) -> Activity {
        let mut activity = Activity { looked: true, ..Activity::default() };
        let (span, ended, elem) = match (&mut self.kind, step) {
            (Kind::Split(ring), RingStep::UsedIdx(to)) => {
                (ring.read_used_idx(*to, findings), Vec::new(), None)
            }
            (Kind::Split(ring), RingStep::Used(elem)) => {
                activity.looked = false;
                (None, ring.read_used(*elem, findings), Some(*elem))
            }
            (Kind::Packed(ring), RingStep::PackedNext(descriptor)) => {
                match ring.read_next(*descriptor, findings) {
                    Some(found) => {
                        activity.looked = false;
                        (Some(found.span), found.ended, Some(used_elem(*descriptor)))
                    }
                    None => (None, Vec::new(), None),
                }
            }
            _ => return Activity::default(),
        };
        activity.used = span.is_some();
        match span {
            Some(span) => self.calls.published(span),
            None if activity.looked => self.calls.nothing_new(),
            None => {}
        }
        if let Some(elem) = elem {
            self.seen.push_front(elem);
            self.seen.truncate(REMEMBERED);
            let effects = |buffer: &Outstanding| buffer.while_disabled && elem.len > 0;
            activity.wrote_while_disabled = disabled && ended.last().is_some_and(effects);
        }
        activity
    }

    fn used_again(&self, back: u16, elem: UsedElem, findings: &mut Findings) {
        let before = self.seen.get(usize::from(back));
        findings.check(before.is_none_or(|before| *before == elem), &USED_STAYS, || {
            format!("{before:?} became {elem:?}")
        });
    }

    fn judge_wish(
        &self,
        wish: Suppress,
        [split, packed]: [&'static super::Clause; 2],
        findings: &mut Findings,
    ) {
        match wish {
            Suppress::Split { flags, .. } => {
                let defined = if self.event_idx { flags == 0 } else { flags <= 1 };
                findings.check(defined, split, || format!("flags are {flags:#x}"));
            }
            Suppress::Packed(EventSuppress { flags, .. }) => {
                let most =
                    if self.event_idx { packed::EVENT_F_DESC } else { packed::EVENT_F_DISABLE };
                findings.check(flags <= most, packed, || format!("flags are {flags:#x}"));
            }
        }
    }

    fn judge_inflight_region(&self, part: &[u8], findings: &mut Findings) {
        match &self.kind {
            Kind::Split(ring) => inflight_region::judge_split(part, self.size, ring, findings),
            Kind::Packed(ring) => inflight_region::judge_packed(part, self.size, ring, findings),
        }
    }
}

/// A used descriptor as id and length; the length counts only if the device wrote something.
fn used_elem(descriptor: packed::Descriptor) -> UsedElem {
    let len = if descriptor.is_write() { descriptor.len } else { 0 };
    UsedElem { id: u32::from(descriptor.id), len }
}

fn judge_setup(setup: &RingSetup, findings: &mut Findings) {
    let (size_fits, aligns) = match setup.start {
        RingStart::Split(_) => (
            split::is_queue_size(setup.size),
            [split::DESC_ALIGN, split::AVAIL_ALIGN, split::USED_ALIGN],
        ),
        RingStart::Packed(_) => (
            packed::is_queue_size(setup.size),
            [packed::DESC_ALIGN, packed::EVENT_ALIGN, packed::EVENT_ALIGN],
        ),
    };
    findings.check(size_fits, &QUEUE_SIZE, || format!("a queue of {} entries", setup.size));
    let aligned = setup.areas.iter().zip(aligns).all(|(area, align)| area % align == 0);
    findings.check(aligned, &AREA_ALIGNED, || format!("areas at {:#x?}", setup.areas));
}
