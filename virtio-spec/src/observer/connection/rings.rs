//! The states of rings as vhost-user knows them: stopped or started, disabled or enabled.
//!
//! What a back-end may do more holds from the moment a request is sent; what it must leave off
//! holds only once the back-end answered that request or a later one. After the answer that stops
//! a ring the driver still has to look once: what it finds then was done before.

use super::super::ring::Ways;
use std::collections::{BTreeMap, VecDeque};

/// Whether a back-end may use a ring.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in super::super) enum Phase {
    /// It must leave the ring alone.
    #[default]
    Stopped,
    /// It may use it.
    Running,
    /// It must leave the ring alone, but the driver has not looked since it stopped.
    Stopping,
}

#[derive(Debug)]
struct RingState {
    phase: Phase,
    /// The base that the back-end told when the ring stopped.
    base: Option<u32>,
    enabled: bool,
    /// Descriptors were given to call and to kick by.
    ways: Ways,
}

impl Default for RingState {
    fn default() -> Self {
        Self { phase: Phase::Stopped, base: None, enabled: false, ways: Ways::NONE }
    }
}

/// Rings that are disabled once a request with this number was answered.
#[derive(Debug, Clone, Copy)]
struct Disabling {
    serial: u64,
    /// The ring, or all of them.
    ring: Option<u32>,
}

/// All rings of a connection.
#[derive(Debug, Default)]
pub(super) struct Rings {
    rings: BTreeMap<u32, RingState>,
    disabling: VecDeque<Disabling>,
    /// SET_FEATURES without protocol features enabled every ring.
    all_enabled: bool,
    /// RESET_DEVICE was sent, and no ring started since.
    resetting: bool,
}

impl Rings {
    pub(super) fn phase(&self, ring: u32) -> Phase {
        self.rings.get(&ring).map(|state| state.phase).unwrap_or_default()
    }

    pub(super) fn is_disabled(&self, ring: u32) -> bool {
        !self.all_enabled && !self.rings.get(&ring).is_some_and(|state| state.enabled)
    }

    /// Whether all rings are stopped.
    pub(super) fn are_stopped(&self) -> bool {
        self.rings.values().all(|state| state.phase != Phase::Running)
    }

    /// Whether a ring runs and the front-end has done nothing to end that.
    pub(super) fn is_in_use(&self, ring: u32) -> bool {
        !self.resetting && self.phase(ring) == Phase::Running
    }

    /// How the ring's sides can notify each other, if it is served at all.
    pub(super) fn ways(&self, ring: u32) -> Ways {
        match self.rings.get(&ring) {
            Some(state) if state.phase == Phase::Running && !self.is_disabled(ring) => state.ways,
            _ => Ways::NONE,
        }
    }

    /// The front-end gave a descriptor to call by, or took it away.
    pub(super) fn set_call(&mut self, ring: u32, has_fd: bool) {
        self.rings.entry(ring).or_default().ways.call = has_fd;
    }

    /// The front-end gave a descriptor to kick by, or took it away; either starts the ring.
    pub(super) fn set_kick(&mut self, ring: u32, has_fd: bool) {
        self.rings.entry(ring).or_default().ways.kick = has_fd;
        self.start(ring);
    }

    pub(super) fn start(&mut self, ring: u32) {
        self.resetting = false;
        let state = self.rings.entry(ring).or_default();
        state.phase = Phase::Running;
        state.base = None;
    }

    /// The back-end told that it stopped the ring, and where.
    pub(super) fn stopped(&mut self, ring: u32, base: u32) {
        let state = self.rings.entry(ring).or_default();
        if state.phase == Phase::Running {
            state.phase = Phase::Stopping;
            state.base = Some(base);
        }
    }

    /// The driver looked at a ring; returns the base if this was the first look since it stopped.
    pub(super) fn looked(&mut self, ring: u32) -> Option<u32> {
        let state = self.rings.get_mut(&ring)?;
        if state.phase == Phase::Stopping {
            state.phase = Phase::Stopped;
        }
        state.base.take()
    }

    pub(super) fn enable(&mut self, ring: u32) {
        self.rings.entry(ring).or_default().enabled = true;
        self.disabling.retain(|disabling| disabling.ring != Some(ring));
    }

    pub(super) fn enable_all(&mut self) {
        self.all_enabled = true;
    }

    pub(super) fn disable(&mut self, ring: u32, serial: u64) {
        self.disabling.push_back(Disabling { serial, ring: Some(ring) });
    }

    /// The device goes back to its initial state, in which all rings are stopped and disabled.
    pub(super) fn reset(&mut self, serial: u64) {
        self.resetting = true;
        self.disabling.push_back(Disabling { serial, ring: None });
    }

    /// The back-end answered this request, and so has handled all before it.
    pub(super) fn answered(&mut self, serial: u64) {
        while let Some(disabling) = self.disabling.front().copied() {
            if disabling.serial > serial {
                return;
            }
            self.disabling.pop_front();
            match disabling.ring {
                Some(ring) => self.rings.entry(ring).or_default().enabled = false,
                None if self.resetting => self.all_stopped(),
                // Rings were started again before the answer came: nothing is certain.
                None => {}
            }
        }
    }

    /// The connection is gone, and with it the states that it gave the rings.
    pub(super) fn disconnected(&mut self) {
        self.disabling.clear();
        self.resetting = false;
        self.all_stopped();
    }

    /// All rings are stopped and disabled; the driver is still to look.
    fn all_stopped(&mut self) {
        self.all_enabled = false;
        for state in self.rings.values_mut() {
            *state = RingState { phase: Phase::Stopping, ..RingState::default() };
        }
    }
}
