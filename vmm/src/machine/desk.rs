//! Where decisions about the machine's life become actions.

use std::time::{Duration, Instant};

use super::lifecycle::{Event, Life, Policy, Refusal, State, Step};
use super::outcome::Outcome;

/// How long back-ends may take to let go of guest memory at a reset. Front-ends give up on them earlier, but
/// for those that were given more time for each answer.
const DRAIN_LIMIT: Duration = Duration::from_secs(60);
const NOT_DRAINED: &str = "a back-end did not finish the reset of its device, so the guest cannot be restarted; \
                           the back-end's log should say why";
/// How often is looked whether they have, during a reset only.
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
}

impl<B: Body> Desk<B> {
    /// For a machine whose vCPUs are about to be released.
    pub fn new(policy: Policy, body: B) -> Self {
        Self { life: Life::new(policy), body, drain_until: None }
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
            Step::Quiesce => self.body.quiesce(),
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
        self.look_at_drain();
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
        [grace, drain].into_iter().flatten().min()
    }
}
