//! The machine's life as a state machine without I/O or clock.
//!
//! # Theory of operation
//! ```text
//!            pause                      reset (guest, control, triple fault with that policy)
//! Running ──────────▶ Paused            Running, Paused ──▶ Resetting ──drained──▶ Running
//!    ▲ ◀────resume──────┘
//!    └── a signal also resumes: a paused guest cannot see its power button
//! any state ──S5, fault, panic, lost device, stop, second signal, grace over──▶ Ended(outcome)
//! ```
//! - Every event goes through [`Life::on`], on one thread, so the first cause of death is the one reported;
//!   what happens afterwards is its consequence and changes nothing.
//! - A machine is paused as soon as its vCPUs are; its devices take longer, and whoever asked for it is
//!   answered when they are done. It can be resumed, reset and ended meanwhile.
//! - Pressing the power button is a request to the guest. Only signals start the grace time: somebody who
//!   presses it on the control socket can also say `stop` there. The desk presses it again during that time.
//! - A reset is not an end: devices are drained (their back-ends may still be writing to guest memory),
//!   then the kernel is loaded anew and the vCPUs go back to their first instruction. Draining is bounded
//!   by a time limit of the machine's, which is its end: memory that is still written to is no place for a kernel.
//! - A guest that asks for a reset runs on until its vCPUs are parked, and may ask again or, having tried all
//!   ways to reset, fault. While resetting, neither means anything; so what was posted until then must be
//!   told before [`Event::Drained`] is.
//! - A reset forgets a press of the power button, but not the grace time: after a signal the machine ends.

use std::time::{Duration, Instant};

use super::outcome::{Force, Outcome};

/// Where the machine is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// vCPUs run.
    Running,
    /// vCPUs are parked, on request.
    Paused,
    /// vCPUs are parked until the devices are drained.
    Resetting,
    /// It is over.
    Ended(Outcome),
}

/// What happens to a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// SIGTERM or SIGINT.
    Signal,
    /// The time is [`Life::deadline`] or later.
    GraceOver,
    /// Control: park the vCPUs.
    Pause,
    /// Control: let them go on.
    Resume,
    /// Control: press the power button.
    PowerButton,
    /// Control, or the guest through the reset register or port.
    Reset,
    /// Control: end now.
    Stop,
    /// Every device is drained.
    Drained,
    /// The guest wrote to the sleep register.
    PowerOff,
    /// The guest told pvpanic.
    Panic,
    /// A vCPU met a triple fault.
    TripleFault {
        /// The vCPU's index.
        vcpu: usize,
        /// Registers and instruction bytes.
        state: String,
    },
    /// Nothing can go on: a KVM error, a lost device, a thread that is gone.
    Fatal(Outcome),
}

/// What the machine must do about it, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Raise the power button's event in the guest.
    PressPowerButton,
    /// Park the vCPUs.
    Park,
    /// Begin to stop the rings of all devices.
    Quiesce,
    /// Let rings that were stopped and vCPUs that were parked go on.
    Release,
    /// Ask every device to reset; [`Event::Drained`] must follow.
    Drain,
    /// Load the kernel, reset the vCPUs to its entry.
    Reload,
    /// Take the machine down.
    End(Outcome),
}

/// What the guest's faults and panics lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long the guest may take to switch itself off after a signal.
    pub grace: Duration,
    /// A triple fault resets the machine instead of ending it.
    pub reset_on_triple_fault: bool,
    /// A panic of the guest ends the machine.
    pub end_on_panic: bool,
}

/// Why a request makes no sense now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The machine is already parked or being reset.
    #[error("the machine is not running")]
    NotRunning,
    /// There is nothing to resume.
    #[error("the machine is not paused")]
    NotPaused,
    /// The machine is being reset already.
    #[error("the machine is being reset; try again in a moment")]
    Resetting,
    /// It is over.
    #[error("the machine has ended")]
    Ended,
}

/// A machine's life.
#[derive(Debug)]
pub struct Life {
    state: State,
    policy: Policy,
    deadline: Option<Instant>,
}

impl Life {
    /// A machine whose vCPUs have just been started.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self { state: State::Running, policy, deadline: None }
    }

    /// Where it is.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// When [`Event::GraceOver`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// What to do about an event at the time `now`.
    ///
    /// # Errors
    /// When the event is a request that makes no sense in the present state; nothing has changed then.
    pub fn on(&mut self, event: Event, now: Instant) -> Result<Vec<Step>, Refusal> {
        if matches!(self.state, State::Ended(_)) {
            return Err(Refusal::Ended);
        }
        match event {
            Event::Signal => Ok(self.signal(now)),
            Event::GraceOver => Ok(match self.deadline {
                Some(deadline) if now >= deadline => self.end(Outcome::Forced(Force::GraceOver)),
                _ => Vec::new(),
            }),
            Event::Pause => self.pause(),
            Event::Resume => self.resume(),
            Event::PowerButton => match self.state {
                State::Resetting => Err(Refusal::Resetting),
                _ => Ok(vec![Step::PressPowerButton]),
            },
            Event::Reset => Ok(self.reset()),
            Event::Stop => Ok(self.end(Outcome::Forced(Force::Control))),
            Event::Drained => Ok(self.drained()),
            Event::PowerOff => Ok(self.end(Outcome::PoweredOff)),
            Event::Panic if self.policy.end_on_panic => Ok(self.end(Outcome::Panicked)),
            Event::Panic => Ok(Vec::new()),
            Event::TripleFault { .. } if self.state == State::Resetting => Ok(Vec::new()),
            Event::TripleFault { .. } if self.policy.reset_on_triple_fault => Ok(self.reset()),
            Event::TripleFault { vcpu, state } => {
                Ok(self.end(Outcome::TripleFault { vcpu, state }))
            }
            Event::Fatal(outcome) => Ok(self.end(outcome)),
        }
    }

    fn signal(&mut self, now: Instant) -> Vec<Step> {
        if self.deadline.is_some() {
            return self.end(Outcome::Forced(Force::SecondSignal));
        }
        self.deadline = Some(now + self.policy.grace);
        match self.state {
            State::Paused => {
                self.state = State::Running;
                vec![Step::PressPowerButton, Step::Release]
            }
            // A guest that is being reset has no driver for the button yet; once reset it gets another.
            State::Resetting => Vec::new(),
            _ => vec![Step::PressPowerButton],
        }
    }

    fn pause(&mut self) -> Result<Vec<Step>, Refusal> {
        if self.state != State::Running {
            return Err(Refusal::NotRunning);
        }
        self.state = State::Paused;
        Ok(vec![Step::Park, Step::Quiesce])
    }

    fn resume(&mut self) -> Result<Vec<Step>, Refusal> {
        if self.state != State::Paused {
            return Err(Refusal::NotPaused);
        }
        self.state = State::Running;
        Ok(vec![Step::Release])
    }

    /// Several vCPUs may ask for a reset at once; they get one.
    fn reset(&mut self) -> Vec<Step> {
        if self.state == State::Resetting {
            return Vec::new();
        }
        self.state = State::Resetting;
        vec![Step::Park, Step::Drain]
    }

    fn drained(&mut self) -> Vec<Step> {
        if self.state != State::Resetting {
            return Vec::new();
        }
        self.state = State::Running;
        match self.deadline {
            None => vec![Step::Reload, Step::Release],
            Some(_) => vec![Step::Reload, Step::PressPowerButton, Step::Release],
        }
    }

    fn end(&mut self, outcome: Outcome) -> Vec<Step> {
        self.state = State::Ended(outcome.clone());
        vec![Step::End(outcome)]
    }
}

#[cfg(test)]
#[path = "lifecycle_test.rs"]
mod tests;
