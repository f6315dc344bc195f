//! The machine itself.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::state::{Line, Mapped, State};
use super::vcpu::{Script, Step, Vcpu};
use crate::memory::Region;
use crate::{Error, Gsi, GuestAddress, Msi, Result, Slot, SlotOptions, layout};

/// Interrupt lines beyond the IOAPIC's that [`Machine::new`] has.
const LINES: usize = 1024;

/// A machine for tests. What the VMM does with it goes through the trait [`crate::Machine`]; the
/// methods here are for the test.
#[derive(Debug)]
pub struct Machine {
    state: Arc<Mutex<State>>,
    vcpus: Mutex<BTreeMap<u32, (Arc<Script>, bool)>>,
    lines: usize,
}

impl Default for Machine {
    fn default() -> Self {
        Machine::new()
    }
}

impl Machine {
    /// An empty machine, with room for 1024 vectors.
    #[must_use]
    pub fn new() -> Self {
        Machine::with_vectors(LINES)
    }

    /// An empty machine that runs out of interrupt lines after `lines`.
    #[must_use]
    pub fn with_vectors(lines: usize) -> Self {
        let mut state = State::default();
        for pin in 0..layout::IOAPIC_PINS {
            state.lines.insert(Gsi(pin), Line::default());
        }
        Machine { state: Arc::new(Mutex::new(state)), vcpus: Mutex::default(), lines }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The guest writes to an address. True: a doorbell was there and its eventfd is signalled now.
    /// False: the write would have been an exit.
    pub fn write_mmio(&self, at: GuestAddress) -> bool {
        self.state().ring(at.0)
    }

    /// The messages sent since the last time: directly, or by a call that was signalled (however
    /// often, it is one message, as it is for an irqfd).
    #[must_use]
    pub fn messages(&self) -> Vec<Msi> {
        let mut state = self.state();
        state.collect();
        std::mem::take(&mut state.messages)
    }

    /// The same, but waits for one if there is none. Empty after the time is over.
    #[must_use]
    pub fn wait_messages(&self, at_most: Duration) -> Vec<Msi> {
        let end = Instant::now() + at_most;
        loop {
            let messages = self.messages();
            let left = end.saturating_duration_since(Instant::now());
            if !messages.is_empty() || left.is_zero() {
                return messages;
            }
            self.wait_for_call(left.min(Duration::from_millis(20)));
        }
    }

    /// Waits, not longer than said: a call that is connected during this time is not waited for.
    fn wait_for_call(&self, at_most: Duration) {
        let calls: Vec<_> = self
            .state()
            .lines
            .values()
            .filter_map(|line| line.call.as_ref()?.try_clone().ok())
            .collect();
        let mut fds: Vec<_> = calls.iter().map(|call| PollFd::new(call, PollFlags::IN)).collect();
        let timeout = Timespec::try_from(at_most).ok();
        // An interrupted wait is a short one.
        let _ = poll(&mut fds, timeout.as_ref());
    }

    /// How many calls were lost because their line had no route.
    #[must_use]
    pub fn lost_calls(&self) -> u64 {
        let mut state = self.state();
        state.collect();
        state.lost
    }

    /// How often the routes were changed: each time is expensive for a real hypervisor.
    #[must_use]
    pub fn route_updates(&self) -> u64 {
        self.state().route_updates
    }

    /// The message that a line sends.
    #[must_use]
    pub fn route_of(&self, line: Gsi) -> Option<Msi> {
        self.state().lines.get(&line)?.route
    }

    /// Whether a call is connected to a line.
    #[must_use]
    pub fn is_call_connected(&self, line: Gsi) -> bool {
        self.state().lines.get(&line).is_some_and(|line| line.call.is_some())
    }

    /// Where the doorbells are, in ascending order.
    #[must_use]
    pub fn doorbells(&self) -> Vec<GuestAddress> {
        self.state().kicks.keys().map(|&at| GuestAddress(at)).collect()
    }

    /// What is mapped, by slot.
    #[must_use]
    pub fn slots(&self) -> Vec<(Slot, Region, SlotOptions)> {
        let state = self.state();
        state.slots.iter().map(|(&slot, at)| (slot, at.region.clone(), at.options)).collect()
    }

    /// The guest writes to the page at an address, as far as dirty logs are concerned.
    pub fn touch(&self, at: GuestAddress) {
        for mapped in self.state().slots.values_mut().filter(|mapped| mapped.options.log_dirty) {
            let start = mapped.region.start().0;
            if let Some(offset) = at.0.checked_sub(start).filter(|&o| o < mapped.region.size()) {
                mapped.dirty.insert(offset / 4096);
            }
        }
    }

    /// Adds steps to what the guest does on a vCPU; also while it runs.
    pub fn script(&self, vcpu: u32, steps: impl IntoIterator<Item = Step>) {
        self.script_of(vcpu).extend(steps);
    }

    /// What the guest read on a vCPU, access by access, since the last time.
    #[must_use]
    pub fn answers(&self, vcpu: u32) -> Vec<Vec<u8>> {
        self.script_of(vcpu).take_answers()
    }

    /// How often a vCPU was reset, and where it was to start each time.
    #[must_use]
    pub fn resets(&self, vcpu: u32) -> Vec<Option<crate::BootState>> {
        self.script_of(vcpu).resets()
    }

    fn script_of(&self, vcpu: u32) -> Arc<Script> {
        let mut vcpus = self.vcpus.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&vcpus.entry(vcpu).or_default().0)
    }
}

impl crate::Machine for Machine {
    fn map(&self, slot: Slot, region: &Region, options: SlotOptions) -> Result<()> {
        let mut state = self.state();
        if state.slots.contains_key(&slot) {
            return Err(Error::SlotTaken(slot.0));
        }
        let mapped = Mapped { region: region.clone(), options, dirty: Default::default() };
        state.slots.insert(slot, mapped);
        Ok(())
    }

    fn unmap(&self, slot: Slot) -> Result<()> {
        self.state().slots.remove(&slot).map(drop).ok_or(Error::SlotEmpty(slot.0))
    }

    fn log_dirty(&self, slot: Slot, on: bool) -> Result<()> {
        let mut state = self.state();
        let mapped = state.slots.get_mut(&slot).ok_or(Error::SlotEmpty(slot.0))?;
        mapped.options.log_dirty = on;
        Ok(())
    }

    fn take_dirty(&self, slot: Slot) -> Result<Vec<u64>> {
        let mut state = self.state();
        let mapped = state.slots.get_mut(&slot).ok_or(Error::SlotEmpty(slot.0))?;
        let words = mapped.region.size().div_ceil(4096 * 64);
        let dirty = std::mem::take(&mut mapped.dirty);
        let word = |n: u64| {
            dirty.range(n * 64..(n + 1) * 64).fold(0, |word, &page| word | 1 << (page % 64))
        };
        Ok((0..words).map(word).collect())
    }

    fn connect_kick(&self, at: GuestAddress, fd: BorrowedFd<'_>) -> Result<()> {
        let mut state = self.state();
        if state.kicks.contains_key(&at.0) {
            return Err(Error::DoorbellTaken(at));
        }
        state.kicks.insert(at.0, duplicate(fd)?);
        Ok(())
    }

    fn disconnect_kick(&self, at: GuestAddress, _: BorrowedFd<'_>) -> Result<()> {
        self.state().kicks.remove(&at.0).map(drop).ok_or(Error::DoorbellMissing(at))
    }

    fn allocate_vectors(&self, n: usize) -> Result<Vec<Gsi>> {
        let mut state = self.state();
        let all = (layout::IOAPIC_PINS..).take(self.lines).map(Gsi);
        let free: Vec<Gsi> = all.filter(|line| !state.lines.contains_key(line)).take(n).collect();
        if free.len() < n {
            return Err(Error::Vectors { asked: n, capacity: self.lines });
        }
        state.lines.extend(free.iter().map(|&line| (line, Line::default())));
        Ok(free)
    }

    fn free_vectors(&self, lines: &[Gsi]) -> Result<()> {
        let mut state = self.state();
        let of_ours = |line: &&Gsi| line.0 < layout::IOAPIC_PINS || !state.lines.contains_key(line);
        if let Some(line) = lines.iter().find(of_ours) {
            return Err(Error::Gsi(line.0));
        }
        state.collect();
        state.lines.retain(|line, _| !lines.contains(line));
        Ok(())
    }

    fn route_all(&self, routes: &[(Gsi, Option<Msi>)]) -> Result<()> {
        let mut state = self.state();
        state.collect();
        let unknown = |(line, _): &&(Gsi, _)| !state.lines.contains_key(line);
        if let Some((line, _)) = routes.iter().find(unknown) {
            return Err(Error::Gsi(line.0));
        }
        let mut changed = false;
        for (line, route) in routes {
            let line = state.lines.entry(*line).or_default();
            changed |= line.route != *route;
            line.route = *route;
        }
        state.route_updates += u64::from(changed);
        Ok(())
    }

    fn connect_call(&self, line: Gsi, fd: BorrowedFd<'_>) -> Result<()> {
        let fd = duplicate(fd)?;
        let mut state = self.state();
        let line = state.lines.get_mut(&line).ok_or(Error::Gsi(line.0))?;
        if line.call.is_some() {
            let source = std::io::ErrorKind::ResourceBusy.into();
            return Err(Error::Kvm { action: "connecting a call", source });
        }
        line.call = Some(fd);
        state.collect();
        Ok(())
    }

    fn disconnect_call(&self, line: Gsi, _: BorrowedFd<'_>) -> Result<()> {
        let mut state = self.state();
        state.collect();
        let call = state.lines.get_mut(&line).and_then(|line| line.call.take());
        call.map(drop).ok_or(Error::Gsi(line.0))
    }

    fn signal(&self, message: Msi) -> Result<()> {
        let mut state = self.state();
        state.collect();
        state.messages.push(message);
        Ok(())
    }

    fn create_vcpu(&self, index: u32) -> Result<Box<dyn crate::Vcpu>> {
        let mut vcpus = self.vcpus.lock().unwrap_or_else(PoisonError::into_inner);
        let (script, exists) = vcpus.entry(index).or_default();
        if std::mem::replace(exists, true) {
            return Err(Error::VcpuIndex(index));
        }
        Ok(Box::new(Vcpu::new(index, Arc::clone(&self.state), Arc::clone(script))))
    }
}

fn duplicate(fd: BorrowedFd<'_>) -> Result<std::os::fd::OwnedFd> {
    fd.as_fd()
        .try_clone_to_owned()
        .map_err(|source| Error::Kvm { action: "keeping an eventfd", source })
}
