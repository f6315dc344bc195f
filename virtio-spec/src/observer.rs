//! The conformance observer: shown each step of a driver, a device and a front-end, it names the
//! clause that was broken.
//!
//! It does nothing itself: no memory, no sockets, no clock. Whoever drives a device (a fake driver,
//! a fuzzer, a recorded trace) tells what it did and what it found, in the order in which it did
//! and found it; [`Observer::observe`] answers with the first clause that the step breaks. The
//! observer goes on after a violation, so a test may break a clause on the driver's side on purpose
//! and go on to watch the device; [`Observer::violations`] has all of them.
//!
//! # What to show
//! - **Device** ([`DeviceStep`]): features offered and accepted, every read and write of the device
//!   status and of the configuration, notifications of configuration changes. A driver that shows
//!   no status is not held to DRIVER_OK.
//! - **Ring** ([`RingStep`]): `Configured` once features are negotiated and the ring is set up;
//!   then for a split ring `SplitAvailable` for each chain and `AvailIdx` when the index is
//!   written; `UsedIdx` *each time* the driver reads the used index, moved or not, and `Used` for
//!   each entry it reads. For a packed ring `PackedAvailable` for each list, and `PackedNext` each
//!   time the driver reads the descriptor where the next used one will be, used or not. Looks that
//!   found nothing count: they tell what had not happened yet.
//! - **Notifications**: `DriverSuppress` when the driver writes how it wants to be called,
//!   `DeviceSuppress` when it reads how the device wants to be kicked, `Kicked`, `Called`.
//! - **Messages** ([`Message`]): each request and each answer. What can be read on the back-end's
//!   own socket and on the call eventfds is shown before an answer that stops the last ring.
//!   In-band kicks and calls count as such by themselves.
//! - **Block requests** ([`BlockRequest`]): after completion.
//! - [`Step::Quiesce`] when everything had time to happen: what is still owed then (an answer, a
//!   call, a kick) is missing.
//!
//! # What it cannot see
//! Publishing and notifying are not atomic, and the driver sees them late. The observer judges a
//! call to be missing only if every state of the suppression that the device may have read asked
//! for it, and a stopped ring only from the driver's first look after the stop on. A call too many
//! is allowed, as the specification has it, where calls are allowed at all.
//!
//! ```
//! use virtio_spec::observer::{Observer, RingSetup, RingStart, RingStep, clause};
//! use virtio_spec::split::UsedElem;
//!
//! let mut observer = Observer::new();
//! let areas = [0x1000, 0x2000, 0x3000];
//! let setup = RingSetup { size: 4, areas, start: RingStart::Split(0) };
//! observer.observe((0, RingStep::Configured(setup))).unwrap();
//! // The device publishes a buffer that it never got.
//! let violation = observer.observe((0, RingStep::UsedIdx(1))).unwrap_err();
//! assert_eq!(violation.clause, &clause::ring::USED_IDX);
//! ```

mod block;
mod chain;
pub mod clause;
mod connection;
mod feature_rules;
mod inflight_region;
mod lifecycle;
mod notifications;
mod packed_ring;
mod ring;
mod split_ring;
mod step;
mod violation;

pub use block::BlockRequest;
pub use clause::{Clause, Side};
pub use step::{
    Area, DeviceStep, Message, PackedBuffer, RingSetup, RingStart, RingStep, SplitBuffer, Step,
    Suppress,
};
pub use violation::Violation;

use crate::DeviceType;
use block::Block;
use clause::{lifecycle as life, ring as rings, vhost_user as vhost};
use connection::{Connection, Meaning, Phase};
use lifecycle::{Effect, Lifecycle};
use ring::{Ring, Ways};
use std::collections::{BTreeMap, BTreeSet};
use violation::Findings;

/// The observer of one device and its driver, front-end and back-end.
#[derive(Debug)]
pub struct Observer {
    lifecycle: Lifecycle,
    rings: BTreeMap<u16, Ring>,
    /// Queues that were reset one by one and not set up again.
    reset_queues: BTreeSet<u16>,
    connection: Connection,
    block: Block,
    violations: Vec<Violation>,
}

impl Default for Observer {
    fn default() -> Self {
        Self::new()
    }
}

impl Observer {
    /// Observes a device of which nothing has been seen, of a type that does not matter.
    #[must_use]
    pub fn new() -> Self {
        Self::of(DeviceType(0))
    }

    /// Observes a device of this type: its features, its configuration and, for a block device,
    /// its requests are judged too.
    #[must_use]
    pub fn of(device: DeviceType) -> Self {
        Self {
            lifecycle: Lifecycle::new(device),
            rings: BTreeMap::new(),
            reset_queues: BTreeSet::new(),
            connection: Connection::default(),
            block: Block::default(),
            violations: Vec::new(),
        }
    }

    /// Looks at a step.
    ///
    /// # Errors
    /// The first clause that the step broke. The step counts all the same.
    pub fn observe<'a>(&mut self, step: impl Into<Step<'a>>) -> Result<(), Violation> {
        let mut findings = Findings::default();
        match step.into() {
            Step::Device(step) => self.device(step, &mut findings),
            Step::Ring(index, step) => self.ring(index, &step, &mut findings),
            Step::Message(message) => self.message(message, &mut findings),
            Step::Block(request) => self.block.completed(&request, &self.lifecycle, &mut findings),
            Step::Quiesce => self.quiesce(&mut findings),
        }
        let violations = findings.into_violations();
        let first = violations.first().cloned();
        self.violations.extend(violations);
        first.map_or(Ok(()), Err)
    }

    /// All violations so far, in the order in which they were found.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// The violations of one side.
    pub fn violations_of(&self, side: Side) -> impl Iterator<Item = &Violation> {
        self.violations.iter().filter(move |violation| violation.side() == side)
    }

    fn device(&mut self, step: DeviceStep<'_>, findings: &mut Findings) {
        if self.lifecycle.observe(step, findings) == Effect::Reset {
            self.rings.clear();
            self.reset_queues.clear();
            self.block.reset();
        }
        if self.lifecycle.device() == DeviceType::BLOCK {
            self.block.configuration(step, &self.lifecycle, findings);
        }
    }

    fn ring(&mut self, index: u16, step: &RingStep<'_>, findings: &mut Findings) {
        match step {
            RingStep::Configured(setup) => {
                let ring = Ring::new(setup, self.lifecycle.negotiated(), findings);
                self.rings.insert(index, ring);
                self.reset_queues.remove(&index);
            }
            RingStep::Reset => {
                self.rings.remove(&index);
                self.reset_queues.insert(index);
            }
            RingStep::Changed(area) => self.changed(index, *area, findings),
            _ => self.activity(index, step, findings),
        }
    }

    fn activity(&mut self, index: u16, step: &RingStep<'_>, findings: &mut Findings) {
        let running = self.lifecycle.is_running();
        let phase = self.connection.phase(index);
        let Some(ring) = self.rings.get_mut(&index) else {
            self.activity_without_ring(index, step, findings);
            return;
        };
        let activity = ring.observe(step, self.connection.is_disabled(index), findings);
        let called = matches!(step, RingStep::Called);
        findings.check(!(activity.used || called) || running, &life::IDLE_BEFORE_DRIVER_OK, || {
            format!("ring {index}: {step:?}")
        });
        let kicked = matches!(step, RingStep::Kicked);
        findings.check(!kicked || running, &life::KICK_AFTER_DRIVER_OK, || {
            format!("ring {index} was kicked")
        });
        findings.check(!activity.used || phase != Phase::Stopped, &vhost::STOPPED_IDLE, || {
            format!("ring {index}: {step:?}")
        });
        findings.check(!called || phase != Phase::Stopped, &vhost::STOPPED_CALL, || {
            format!("a call for ring {index}")
        });
        findings.check(!activity.wrote_while_disabled, &vhost::DISABLED_EFFECTS, || {
            format!("ring {index}: {step:?}")
        });
        if activity.looked {
            self.connection.looked(index, ring.standing(), findings);
        }
    }

    /// The driver has no such ring: nothing may happen in it.
    fn activity_without_ring(&self, index: u16, step: &RingStep<'_>, findings: &mut Findings) {
        if !matches!(step, RingStep::Called | RingStep::Used(_)) {
            return;
        }
        let clause = if self.reset_queues.contains(&index) {
            &rings::QUEUE_RESET_IDLE
        } else {
            &life::IDLE_AFTER_RESET
        };
        findings.breach(clause, format!("ring {index}, which is not set up: {step:?}"));
    }

    fn changed(&self, index: u16, area: Area, findings: &mut Findings) {
        if self.connection.is_suspended() && self.connection.phase(index) == Phase::Stopped {
            findings.breach(&vhost::SUSPENDED_WRITE, format!("ring {index}: {area:?}"));
            return;
        }
        let clause = match area {
            Area::ReadOnlyBuffer(_) => &rings::READ_ONLY_STAYS,
            Area::Descriptors => &rings::DESCRIPTORS_STAY,
            Area::DriverArea => &rings::DRIVER_AREA_STAYS,
            Area::Elsewhere => &rings::NOWHERE_ELSE,
        };
        findings.breach(clause, format!("ring {index}: {area:?} changed"));
    }

    fn message(&mut self, message: Message<'_>, findings: &mut Findings) {
        if matches!(message, Message::Connected) {
            self.block.connected(self.lifecycle.negotiated());
        }
        match self.connection.observe(message, findings) {
            Meaning::None => {}
            Meaning::Features(bits) => self.lifecycle.front_end_acked(bits),
            Meaning::Kicked(ring) => self.activity(ring, &RingStep::Kicked, findings),
            Meaning::Called(ring) => self.activity(ring, &RingStep::Called, findings),
        }
        // What came while a ring was disabled is used once it is enabled. The driver may look only
        // when the ring is disabled again, or the connection is gone.
        for (index, ring) in &mut self.rings {
            if !self.connection.is_disabled(*index) {
                ring.enabled();
            }
        }
    }

    fn quiesce(&mut self, findings: &mut Findings) {
        self.lifecycle.quiesce(findings);
        self.connection.quiesce(findings);
        let running = self.lifecycle.is_running();
        for (index, ring) in &mut self.rings {
            let ways = if running { self.connection.ways(*index) } else { Ways::NONE };
            ring.quiesce(ways, findings);
        }
    }
}

#[cfg(test)]
mod tests;
