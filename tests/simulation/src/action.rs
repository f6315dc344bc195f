//! What can happen next, and how likely it is.

use fastrand::Rng;

use crate::scenario::pick;

/// Something that can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The driver puts a request into a ring.
    Submit,
    /// The driver shows the device what it has put there.
    Publish,
    /// The driver sends a kick that it owes, or one for nothing.
    Kick,
    /// The driver looks at used requests.
    Reap,
    /// The driver takes all that is used, and somebody looks into the in-flight region.
    Inspect,
    /// The driver switches calls on or off.
    Calls,
    /// The driver breaks a rule, in a hostile run.
    Misbehave,
    /// A worker gets its turn.
    Turn,
    /// The driver does something in the middle of a worker's turn.
    Race,
    /// Time passes for a worker.
    Pass,
    /// The connection thread hears what a worker has said.
    Hear,
    /// Rings that wait for the lock try again.
    Retry,
    /// Something lands on the disk that a killed process had under way.
    Land,
    /// The front-end takes up the next line of its script.
    Message,
    /// The front-end gets something to do.
    Plan,
    /// The front-end cuts the connection.
    Disconnect,
    /// The front-end connects; the back-end is started if it does not run.
    Connect,
    /// The back-end is killed.
    Kill,
    /// The back-end is killed in the middle of a worker's turn.
    KillInTurn,
    /// The machine loses its power, with everything that is on it.
    PowerLoss,
}

/// How often what happens, in proportion to everything else.
#[derive(Debug)]
pub(crate) struct Weights([(Action, u32); 20]);

impl Weights {
    /// Random ones: in some runs something never happens that happens all the time in others, which
    /// leads to more different states than the same mixture everywhere.
    pub(crate) fn choose(random: &mut Rng) -> Self {
        let mut rarely = |weight: u32| weight * pick(random, &[0, 1, 1, 5]);
        Weights([
            (Action::Submit, 450 + rarely(150)),
            (Action::Publish, 240 + rarely(90)),
            (Action::Kick, 90 + rarely(90)),
            (Action::Reap, 180 + rarely(90)),
            (Action::Inspect, 30),
            (Action::Calls, rarely(60)),
            (Action::Misbehave, 60),
            (Action::Turn, 750 + rarely(150)),
            (Action::Race, 300),
            (Action::Pass, 100),
            (Action::Hear, 450),
            (Action::Retry, 120),
            (Action::Land, 60 + rarely(60)),
            (Action::Message, 750),
            (Action::Plan, rarely(90)),
            (Action::Connect, 180),
            (Action::Disconnect, rarely(6)),
            (Action::Kill, rarely(3)),
            (Action::KillInTurn, rarely(30)),
            (Action::PowerLoss, rarely(1)),
        ])
    }

    /// What is to happen next, if it can.
    pub(crate) fn next(&self, random: &mut Rng) -> Action {
        let sum: u32 = self.0.iter().map(|(_, weight)| weight).sum();
        let mut chosen = random.u32(..sum);
        for (action, weight) in self.0 {
            match chosen.checked_sub(weight) {
                Some(rest) => chosen = rest,
                None => return action,
            }
        }
        Action::Turn
    }
}
