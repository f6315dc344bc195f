//! Looks at host and guest, has the controller decide, and says what it decided.

use std::time::Duration;

use virtio_spec::balloon::{PAGE_SIZE, StatTag};

use super::controller::{Controller, Decision, GuestSight, Policy, Reason, Sight};
use super::pressure::Pressure;
use crate::balloon::Balloon;
use crate::statistics::Statistics;

/// How often it looks.
const PERIOD: Duration = Duration::from_secs(1);
/// How old the guest's statistics may be.
const RECENT: Duration = Duration::from_secs(4);

/// Sets the target in the user's stead.
#[derive(Debug)]
pub struct Pilot {
    controller: Controller,
    pressure: Pressure,
    /// Why the size changed last, and when that was said.
    said: Option<(Reason, Duration)>,
}

/// How often the same reason is said again.
const SAY_AGAIN: Duration = Duration::from_secs(60);

impl Pilot {
    /// A pilot that goes by this policy.
    pub const fn new(policy: Policy, pressure: Pressure) -> Self {
        Pilot { controller: Controller::new(policy), pressure, said: None }
    }

    /// How often it looks.
    pub const fn period(&self) -> Duration {
        PERIOD
    }

    /// Looks. Says what the target is to be, in pages, if that is another one.
    pub fn look(&mut self, balloon: &Balloon, now: Duration) -> Option<u32> {
        let bytes = |pages: u32| u64::from(pages) * PAGE_SIZE;
        let sight = Sight {
            now,
            // What cannot be read is no reason to take memory from anybody.
            pressure: self.pressure.read().unwrap_or_default(),
            target: bytes(balloon.target),
            actual: bytes(balloon.actual),
            guest: guest_sight(&balloon.statistics, now),
        };
        let decision = self.controller.step(&sight)?;
        let target = u32::try_from(decision.target / PAGE_SIZE).ok()?;
        if target == balloon.target {
            return None;
        }
        self.explain(&sight, decision);
        Some(target)
    }

    /// A new reason is said at once, the same one now and then.
    fn explain(&mut self, sight: &Sight, decision: Decision) {
        let Decision { target, reason } = decision;
        let again = self
            .said
            .is_none_or(|(said, at)| said != reason || sight.now.saturating_sub(at) >= SAY_AGAIN);
        let available = sight.guest.map(|guest| guest.available >> 20);
        let (from, to, pressure) = (sight.target >> 20, target >> 20, sight.pressure);
        if again {
            self.said = Some((reason, sight.now));
            tracing::info!(
                from_mib = from,
                to_mib = to,
                pressure,
                available_mib = available,
                "the balloon changes: {}",
                reason.words()
            );
        } else {
            tracing::debug!(from_mib = from, to_mib = to, pressure, available_mib = available);
        }
    }
}

/// The statistics that count here, if the guest sends them and they are recent.
fn guest_sight(statistics: &Statistics, now: Duration) -> Option<GuestSight> {
    let came = statistics.came.filter(|came| now.saturating_sub(*came) <= RECENT);
    let get = |tag| statistics.get(tag).unwrap_or_default();
    let available = came.and_then(|_| {
        statistics.get(StatTag::AvailableMemory).or(statistics.get(StatTag::FreeMemory))
    })?;
    Some(GuestSight {
        available,
        major_faults: get(StatTag::MajorFaults),
        swapped_in: get(StatTag::SwapIn),
        distress: get(StatTag::OomKills).saturating_add(get(StatTag::AllocStalls)),
    })
}
