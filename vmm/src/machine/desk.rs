//! Where decisions about the machine's life become actions.

use std::time::{Duration, Instant};

use super::lifecycle::{Event, Life, Policy, Refusal, State, Step};
use super::outcome::Outcome;

/// How long back-ends may take to let go of guest memory at a reset. Front-ends give up on them earlier, but
/// for those that were given more time for each answer.
const DRAIN_LIMIT: Duration = Duration::from_secs(60);
/// How often the power button is pressed after a signal: a guest that boots has no ears for it at first, and
/// forgets it. One that shuts down already does not mind.
const PRESS_AGAIN: Duration = Duration::from_secs(3);
const NOT_DRAINED: &str = "a back-end did not finish the reset of its device, so the guest cannot be restarted; \
                           the back-end's log should say why";
/// How long they may take to finish what is in flight at a pause, until whoever asked for it is told that they
/// have not. Less than `outrigger ctl` waits for an answer.
const QUIESCE_LIMIT: Duration = Duration::from_secs(25);
/// How often is looked whether they have, during a reset or the beginning of a pause only.
const DRAIN_POLL: Duration = Duration::from_millis(1);

/// What a machine can be made to do. Only the main thread does.
pub trait Body {
    /// Raises the power button's event.
    fn press_power_button(&mut self);
    /// Gets all vCPUs out of the guest, and waits until they are.
    ///
    /// # Errors
    /// When one hangs.
    fn park(&mut self) -> Result<(), Outcome>;
    /// Begins to stop the rings of all devices. vCPUs are parked.
    fn quiesce(&mut self);
    /// Whether all of them have stopped: nobody changes guest memory or what is behind the devices.
    fn is_quiesced(&self) -> bool;
    /// Lets the rings and the vCPUs go on.
    fn release(&mut self);
    /// Begins the reset of every device. vCPUs are parked.
    fn drain(&mut self);
    /// Whether no back-end touches guest memory any more.
    fn is_drained(&self) -> bool;
    /// Loads the kernel anew and puts the vCPUs to its entry.
    ///
    /// # Errors
    /// When the kernel cannot be read any more, or a vCPU does not obey.
    fn reload(&mut self) -> Result<(), Outcome>;
}

/// A machine's life and its body.
#[derive(Debug)]
pub struct Desk<B> {
    life: Life,
    body: B,
    drain_until: Option<Instant>,
    quiesce_until: Option<Instant>,
    press_at: Option<Instant>,
}

impl<B: Body> Desk<B> {
    /// For a machine whose vCPUs are about to be released.
    pub fn new(policy: Policy, body: B) -> Self {
        Self {
            life: Life::new(policy),
            body,
            drain_until: None,
            quiesce_until: None,
            press_at: None,
        }
    }

    /// Where the machine is in its life.
    pub fn state(&self) -> &State {
        self.life.state()
    }

    /// The machine itself, to ask it things.
    pub fn body(&self) -> &B {
        &self.body
    }

    /// The machine itself, at its end.
    pub fn into_body(self) -> B {
        self.body
    }

    /// Something happened: does what follows from it.
    ///
    /// # Errors
    /// When it is a request that makes no sense now.
    pub fn happen(&mut self, event: Event) -> Result<(), Refusal> {
        let steps = self.life.on(event, Instant::now())?;
        if !steps.is_empty() {
            tracing::debug!(?steps, state = ?self.life.state(), "the machine's life");
        }
        for step in steps {
            if let Err(outcome) = self.carry_out(&step) {
                return self.happen(Event::Fatal(outcome));
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, step: &Step) -> Result<(), Outcome> {
        match step {
            Step::PressPowerButton => self.body.press_power_button(),
            Step::Park => return self.body.park(),
            Step::Quiesce => {
                self.quiesce_until = Some(Instant::now() + QUIESCE_LIMIT);
                self.body.quiesce();
            }
            Step::Release => self.body.release(),
            Step::Drain => {
                self.drain_until = Some(Instant::now() + DRAIN_LIMIT);
                self.body.drain();
            }
            Step::Reload => return self.body.reload(),
            // The watch sees it in the state, and the body is taken down by whoever owns both.
            Step::End(_) => {}
        }
        Ok(())
    }

    /// Does what is due by now. Everything that was posted must have been told before.
    pub fn tick(&mut self) {
        let now = Instant::now();
        if self.life.deadline().is_some_and(|deadline| now >= deadline) {
            // Refused only if it has ended already.
            let _ = self.happen(Event::GraceOver);
        }
        self.press_again(now);
        self.look_at_drain();
        if !self.is_pausing() {
            self.quiesce_until = None;
        }
    }

    /// Whether the vCPUs are parked, and the rings are about to stop.
    #[must_use]
    pub fn is_pausing(&self) -> bool {
        let in_time = self.quiesce_until.is_some_and(|limit| Instant::now() < limit);
        *self.state() == State::Paused && in_time && !self.body.is_quiesced()
    }

    /// Presses the power button from time to time between a signal and the end.
    fn press_again(&mut self, now: Instant) {
        if self.life.deadline().is_none() {
            return;
        }
        let is_due = self.press_at.is_some_and(|due| now >= due);
        if is_due && *self.state() == State::Running {
            self.body.press_power_button();
        }
        if is_due || self.press_at.is_none() {
            self.press_at = Some(now + PRESS_AGAIN);
        }
    }

    fn look_at_drain(&mut self) {
        let Some(limit) = self.drain_until else { return };
        let event = if self.body.is_drained() {
            Event::Drained
        } else if Instant::now() >= limit {
            // It may still write into guest memory: another kernel there would not be safe from it.
            Event::Fatal(Outcome::Failed(NOT_DRAINED.to_owned()))
        } else {
            return;
        };
        self.drain_until = None;
        // Refused only if the machine has ended meanwhile.
        let _ = self.happen(event);
    }

    /// How long nothing is due; for ever if nothing is.
    #[must_use]
    pub fn leisure(&self) -> Option<Duration> {
        let grace = self.life.deadline().map(|due| due.saturating_duration_since(Instant::now()));
        let drain = self.drain_until.map(|_| DRAIN_POLL);
        let quiesce = self.quiesce_until.map(|_| DRAIN_POLL);
        let press = self.press_at.map(|due| due.saturating_duration_since(Instant::now()));
        [grace, drain, quiesce, press].into_iter().flatten().min()
    }
}

#[cfg(test)]
#[path = "desk_test.rs"]
mod tests;
