//! What is to be done beside messages, each thing once however often it was asked for.

use std::collections::BTreeSet;

use super::step::Effect;

/// Effects that wait to be carried out: at most two for each queue, and two more.
#[derive(Debug, Default)]
pub struct Effects {
    kicks: BTreeSet<u16>,
    calls: BTreeSet<u16>,
    config_changed: bool,
    needs_reset: bool,
}

impl Effects {
    pub(super) fn add(&mut self, effect: Effect) {
        match effect {
            Effect::Kick(queue) => drop(self.kicks.insert(queue)),
            Effect::Call(queue) => drop(self.calls.insert(queue)),
            Effect::ConfigChanged => self.config_changed = true,
            Effect::NeedsReset => self.needs_reset = true,
        }
    }

    /// The device is reset: nobody is called or kicked on behalf of the past.
    pub(super) fn forget_rings(&mut self) {
        self.kicks.clear();
        self.calls.clear();
        self.needs_reset = false;
    }

    /// The next one.
    pub fn take(&mut self) -> Option<Effect> {
        if let Some(queue) = self.kicks.pop_first() {
            return Some(Effect::Kick(queue));
        }
        if let Some(queue) = self.calls.pop_first() {
            return Some(Effect::Call(queue));
        }
        if std::mem::take(&mut self.needs_reset) {
            return Some(Effect::NeedsReset);
        }
        std::mem::take(&mut self.config_changed).then_some(Effect::ConfigChanged)
    }
}
