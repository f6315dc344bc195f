//! Decides how large the balloon is to be.
//!
//! # Theory of operation
//! Three moods. *Squeezing*: the host waits for memory, so the balloon grows, by what the guest has to
//! spare above its floor. *Releasing*: the host has had no want of memory for a while, so the balloon
//! shrinks slowly. *Resting*: neither, and nothing changes. Pressure has to rise to [`SQUEEZE`] to begin
//! squeezing and to fall to [`REST`] to end it, and to stay below [`RELEASE`] for [`CALM`] to begin
//! releasing: between these lines a mood stays what it is. A host that wants back what it has just
//! released has to be calm for twice as long the next time.
//!
//! A guest that suffers (it swaps in, reads its programs anew from the disk, stalls, kills, or has less
//! available than its floor) gets memory back at once, whatever the host's mood, and is left in peace for
//! a pause that doubles each time it suffers soon again.
//!
//! No step is taken that the guest has not followed: what it still owes counts as taken already.

use std::time::Duration;

/// Pressure at which squeezing begins, percent.
pub const SQUEEZE: f64 = 10.0;
/// Pressure at which it ends.
pub const REST: f64 = 4.0;
/// Pressure below which memory is given back to the guest.
pub const RELEASE: f64 = 1.0;
/// How long it has to be so low, at first and at most.
pub const CALM: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(3600));
/// How long a guest that has suffered is left in peace, at first and at most.
pub const PAUSE: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(600));
/// Major faults a second that a guest does not have without suffering.
const FAULTS: u64 = 200;
/// Bytes swapped in a second, likewise.
const SWAPPED: u64 = 1 << 20;
/// Steps smaller than this are not taken: each is a message, a call and a wake.
const LEAST: u64 = 4 << 20;

/// What the user decided, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What the guest is to have available at least.
    pub floor: u64,
    /// The most that the balloon may hold.
    pub ceiling: u64,
    /// The most by which it changes in a second.
    pub rate: u64,
}

/// The guest's own statistics; what counts up is since it was started. Sizes are in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuestSight {
    /// Memory that a new program could have.
    pub available: u64,
    /// Major faults so far.
    pub major_faults: u64,
    /// Memory swapped in so far.
    pub swapped_in: u64,
    /// Processes killed for want of memory, and allocations that had to wait, so far.
    pub distress: u64,
}

/// What is seen at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Sight {
    /// Since some moment in the past.
    pub now: Duration,
    /// Share of time in which something on the host waits for memory, percent.
    pub pressure: f64,
    /// Bytes that are asked for.
    pub target: u64,
    /// Bytes that the guest says it has given.
    pub actual: u64,
    /// The guest's statistics, if they are recent.
    pub guest: Option<GuestSight>,
}

/// Another size, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Bytes that the balloon is to have.
    pub target: u64,
    /// Why.
    pub reason: Reason,
}

/// Why the size changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The host waits for memory, and the guest has some to spare.
    HostPressure,
    /// The host has enough.
    HostCalm,
    /// The guest has less available than its floor.
    GuestBelowFloor,
    /// The guest swaps, reads its programs anew, stalls or kills.
    GuestSuffers,
}

impl Reason {
    /// In words, for the log.
    pub const fn words(self) -> &'static str {
        match self {
            Reason::HostPressure => "the host waits for memory and the guest has some to spare",
            Reason::HostCalm => "the host has had enough memory for a while",
            Reason::GuestBelowFloor => "the guest has less available than its floor",
            Reason::GuestSuffers => "the guest swaps, faults or stalls for want of memory",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Resting,
    Squeezing,
    Releasing,
}

/// The controller's memory.
#[derive(Debug)]
pub struct Controller {
    policy: Policy,
    mood: Mood,
    /// Since when the pressure is below [`RELEASE`].
    calm_since: Option<Duration>,
    /// For how long it has to be.
    patience: Duration,
    /// Whether memory was released since the host waited last.
    released: bool,
    /// Until when the guest is left in peace, and how long that was decided to be.
    peace: Option<(Duration, Duration)>,
    /// What was seen before.
    before: Option<(Duration, GuestSight)>,
    looked: Option<Duration>,
}

impl Controller {
    /// A controller that has seen nothing yet.
    pub const fn new(policy: Policy) -> Self {
        Controller {
            policy,
            mood: Mood::Resting,
            calm_since: None,
            patience: CALM.0,
            released: false,
            peace: None,
            before: None,
            looked: None,
        }
    }

    /// Looks, and decides. None: the size stays.
    pub fn step(&mut self, sight: &Sight) -> Option<Decision> {
        let passed = self.passed(sight.now);
        self.feel(sight);
        // Nothing is taken from a guest that does not say how it is.
        let guest = sight.guest?;
        let suffering = self.suffering(sight.now, &guest);
        self.before = Some((sight.now, guest));
        if let Some(reason) = suffering {
            return self.relieve(sight, &guest, reason, passed);
        }
        let step = scaled(self.policy.rate, passed);
        match self.mood {
            Mood::Resting => None,
            Mood::Squeezing => self.squeeze(sight, &guest, step),
            Mood::Releasing => self.release(sight, step / 2),
        }
    }

    /// Time since the last look; what was missed is not made up for.
    fn passed(&mut self, now: Duration) -> Duration {
        let before = self.looked.replace(now).unwrap_or(now);
        now.saturating_sub(before).min(Duration::from_secs(5))
    }

    fn feel(&mut self, sight: &Sight) {
        let calm = sight.pressure < RELEASE;
        let since = calm.then(|| self.calm_since.unwrap_or(sight.now));
        self.calm_since = since;
        let long = since.is_some_and(|since| sight.now.saturating_sub(since) >= self.patience);
        let before = self.mood;
        self.mood = match self.mood {
            _ if sight.pressure >= SQUEEZE => Mood::Squeezing,
            Mood::Squeezing if sight.pressure > REST => Mood::Squeezing,
            _ if long => Mood::Releasing,
            Mood::Releasing if sight.pressure <= REST => Mood::Releasing,
            _ => Mood::Resting,
        };
        if self.mood == Mood::Squeezing && before != self.mood && std::mem::take(&mut self.released)
        {
            self.patience = (2 * self.patience).min(CALM.1);
        }
    }

    fn release(&mut self, sight: &Sight, step: u64) -> Option<Decision> {
        if sight.target == 0 {
            // The host has done without all of it.
            (self.patience, self.released) = (CALM.0, false);
            return None;
        }
        if sight.actual > sight.target.saturating_add(LEAST) {
            return None;
        }
        self.released = true;
        let target = sight.target.saturating_sub(step);
        (target != sight.target).then_some(Decision { target, reason: Reason::HostCalm })
    }

    fn suffering(&self, now: Duration, guest: &GuestSight) -> Option<Reason> {
        if guest.available < self.policy.floor {
            return Some(Reason::GuestBelowFloor);
        }
        let (at, before) = self.before?;
        let passed = now.saturating_sub(at);
        let most = |rate| scaled(rate, passed.max(Duration::from_secs(1)));
        let since = |now: u64, before: u64| now.saturating_sub(before);
        let suffers = since(guest.major_faults, before.major_faults) > most(FAULTS)
            || since(guest.swapped_in, before.swapped_in) > most(SWAPPED)
            || since(guest.distress, before.distress) > 0;
        suffers.then_some(Reason::GuestSuffers)
    }

    /// Gives memory back at once, and leaves the guest in peace.
    fn relieve(
        &mut self,
        sight: &Sight,
        guest: &GuestSight,
        reason: Reason,
        passed: Duration,
    ) -> Option<Decision> {
        let holds = sight.actual.min(sight.target);
        if holds == 0 && sight.target == 0 {
            return None;
        }
        self.leave_in_peace(sight.now);
        // What it lacks and half as much again; else a fourth of what it has given.
        let lacks = self.margin().saturating_add(self.policy.floor).saturating_sub(guest.available);
        let step = (lacks + lacks / 2).max(holds / 4).max(scaled(self.policy.rate, passed));
        let target = holds.saturating_sub(step.max(LEAST));
        (target != sight.target).then_some(Decision { target, reason })
    }

    fn leave_in_peace(&mut self, now: Duration) {
        let (first, most) = PAUSE;
        let pause = match self.peace {
            // Still the same want.
            Some((until, pause)) if now < until => pause,
            // So soon again: what was taken since was too much.
            Some((until, pause)) if now < until + 4 * pause => (2 * pause).min(most),
            _ => first,
        };
        self.peace = Some((now + pause, pause));
    }

    /// What is left to the guest above its floor, so that a step does not make it suffer.
    const fn margin(&self) -> u64 {
        self.policy.floor / 4
    }

    fn squeeze(&self, sight: &Sight, guest: &GuestSight, step: u64) -> Option<Decision> {
        if self.peace.is_some_and(|(until, _)| sight.now < until) {
            return None;
        }
        // Pages that the guest still owes are among those that it says are available.
        let owed = sight.target.saturating_sub(sight.actual);
        let kept = self.policy.floor.saturating_add(self.margin()).saturating_add(owed);
        let spare = guest.available.saturating_sub(kept) / 2;
        let room = self.policy.ceiling.saturating_sub(sight.target);
        // A guest that does not follow is not asked for more.
        let step = step.min(spare).min(room).min((4 * step).saturating_sub(owed));
        (step >= LEAST)
            .then_some(Decision { target: sight.target + step, reason: Reason::HostPressure })
    }
}

/// What a rate per second makes in this time.
fn scaled(rate: u64, time: Duration) -> u64 {
    let millis = u128::from(rate) * time.as_millis() / 1000;
    u64::try_from(millis).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "controller_test.rs"]
mod tests;
