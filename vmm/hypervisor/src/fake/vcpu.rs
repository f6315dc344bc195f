//! A vCPU whose guest is a script.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::state::State;
use crate::{BootState, Cause, Exit, Failure, GuestAddress, Registers, Result, VcpuHandle};

/// What the guest does next. When the script is over, the vCPU runs on without an exit until it is
/// interrupted or the script goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Reads so many bytes from a port.
    PortRead(u16, usize),
    /// Writes to a port, in one access.
    PortWrite(u16, Vec<u8>),
    /// Reads so many bytes where there is no memory.
    MmioRead(u64, usize),
    /// Writes where there is no memory; if a doorbell is there, it rings and there is no exit.
    MmioWrite(u64, Vec<u8>),
    /// Ends a level-triggered interrupt.
    Eoi(u8),
    /// Halts, as if there were no interrupt controller.
    Halt,
    /// Triple fault.
    TripleFault,
    /// Tells the hypervisor of a system event.
    SystemEvent(u32),
    /// Does what the hypervisor cannot go on after.
    Fail(Cause),
}

/// A vCPU of a fake machine.
#[derive(Debug)]
pub struct Vcpu {
    index: u32,
    machine: Arc<Mutex<State>>,
    script: Arc<Script>,
    /// Data of the current access, and whether it is a read.
    data: Vec<u8>,
    is_read: bool,
}

impl Vcpu {
    pub(super) fn new(index: u32, machine: Arc<Mutex<State>>, script: Arc<Script>) -> Self {
        Vcpu { index, machine, script, data: Vec::new(), is_read: false }
    }

    fn finish_read(&mut self) {
        if std::mem::take(&mut self.is_read) {
            self.script.inner().answers.push(std::mem::take(&mut self.data));
        }
    }

    fn rings(&self, step: &Step) -> bool {
        let Step::MmioWrite(at, _) = step else { return false };
        self.machine.lock().unwrap_or_else(PoisonError::into_inner).ring(*at)
    }
}

impl crate::Vcpu for Vcpu {
    fn index(&self) -> u32 {
        self.index
    }

    fn reset(&mut self, start: Option<&BootState>) -> Result<()> {
        self.is_read = false;
        self.script.inner().resets.push(start.copied());
        Ok(())
    }

    fn run(&mut self) -> Result<Exit<'_>> {
        self.finish_read();
        let step = loop {
            match self.script.next() {
                None => return Ok(Exit::Interrupted),
                Some(step) if self.rings(&step) => {}
                Some(step) => break step,
            }
        };
        self.is_read = matches!(step, Step::PortRead(..) | Step::MmioRead(..));
        Ok(match step {
            Step::PortRead(port, width) => {
                self.data = vec![0xff; width];
                Exit::PortRead { port, width, data: &mut self.data }
            }
            Step::PortWrite(port, data) => {
                self.data = data;
                Exit::PortWrite { port, width: self.data.len(), data: &self.data }
            }
            Step::MmioRead(at, width) => {
                self.data = vec![0xff; width];
                Exit::MmioRead { at: GuestAddress(at), data: &mut self.data }
            }
            Step::MmioWrite(at, data) => {
                self.data = data;
                Exit::MmioWrite { at: GuestAddress(at), data: &self.data }
            }
            Step::Eoi(vector) => Exit::Eoi { vector },
            Step::Halt => Exit::Halt,
            Step::TripleFault => Exit::TripleFault,
            Step::SystemEvent(kind) => Exit::SystemEvent { kind },
            Step::Fail(cause) => Exit::Failed(Box::new(Failure {
                cause,
                registers: Some(Registers::default()),
                instruction: vec![0x0f, 0x0b],
            })),
        })
    }

    fn handle(&self) -> Arc<dyn VcpuHandle> {
        Arc::clone(&self.script) as Arc<dyn VcpuHandle>
    }

    fn settle(&mut self) -> Result<Exit<'_>> {
        self.finish_read();
        Ok(Exit::Interrupted)
    }

    fn resume(&mut self) -> Result<()> {
        Ok(())
    }

    fn registers(&self) -> Result<Registers> {
        Ok(Registers::default())
    }
}

/// The part of a vCPU that the test and its handles see.
#[derive(Debug, Default)]
pub(super) struct Script {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    steps: VecDeque<Step>,
    answers: Vec<Vec<u8>>,
    resets: Vec<Option<BootState>>,
    interrupted: bool,
}

impl Script {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn extend(&self, steps: impl IntoIterator<Item = Step>) {
        self.inner().steps.extend(steps);
        self.changed.notify_all();
    }

    pub(super) fn take_answers(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.inner().answers)
    }

    pub(super) fn resets(&self) -> Vec<Option<BootState>> {
        self.inner().resets.clone()
    }

    /// The next step, waiting for it; nothing when interrupted.
    fn next(&self) -> Option<Step> {
        let mut inner = self.inner();
        loop {
            if std::mem::take(&mut inner.interrupted) {
                return None;
            }
            if let Some(step) = inner.steps.pop_front() {
                return Some(step);
            }
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl VcpuHandle for Script {
    fn interrupt(&self) {
        self.inner().interrupted = true;
        self.changed.notify_all();
    }
}
