//! The thread of one vCPU: it runs the guest and carries out orders, in turn.

use std::sync::Arc;

use hypervisor::{Exit, Vcpu};

use super::orders::{Order, Orders, Progress};
use super::tally::Tally;
use crate::machine::lifecycle::Event;
use crate::machine::mailbox::Mailbox;
use crate::machine::outcome::Outcome;

/// What answers the guest when it leaves its CPU. Called on the vCPU's thread, by all vCPUs at once: no call
/// blocks.
pub trait Exits: Send + Sync {
    /// A read of 1, 2 or 4 bytes from a port.
    fn port_read(&self, port: u16, data: &mut [u8]);
    /// A write of 1, 2 or 4 bytes to a port.
    fn port_write(&self, port: u16, data: &[u8]);
    /// A read of 1 to 8 bytes where there is no memory.
    fn mmio_read(&self, at: u64, data: &mut [u8]);
    /// A write of 1 to 8 bytes where there is no memory.
    fn mmio_write(&self, at: u64, data: &[u8]);
    /// The guest has ended a level-triggered interrupt.
    fn end_of_interrupt(&self, vector: u8);
}

/// Why a vCPU left the guest.
enum Left {
    /// Somebody wanted it out, or it has come to rest.
    Interrupted,
    /// The guest said something about the machine.
    Said(Event),
    /// It cannot go on: a fault without handler.
    TripleFault,
    /// It cannot go on: the hypervisor gave up.
    GivenUp(String),
}

/// Answers an exit; none if the guest goes on.
fn answer(exits: &dyn Exits, tally: &Tally, exit: Exit<'_>) -> Option<Left> {
    tally.count(&exit);
    match exit {
        Exit::MmioRead { at, data } => exits.mmio_read(at.0, data),
        Exit::MmioWrite { at, data } => exits.mmio_write(at.0, data),
        Exit::PortRead { port, width, data } => {
            data.chunks_exact_mut(width.max(1)).for_each(|one| exits.port_read(port, one));
        }
        Exit::PortWrite { port, width, data } => {
            data.chunks_exact(width.max(1)).for_each(|one| exits.port_write(port, one));
        }
        Exit::Eoi { vector } => exits.end_of_interrupt(vector),
        Exit::Interrupted => return Some(Left::Interrupted),
        Exit::SystemEvent { kind } => return Some(Left::Said(said(kind))),
        Exit::TripleFault => return Some(Left::TripleFault),
        Exit::Halt => return Some(Left::GivenUp("a halt without interrupt controller".into())),
        Exit::Failed(failure) => return Some(Left::GivenUp(failure.to_string())),
    }
    None
}

/// `KVM_EXIT_SYSTEM_EVENT`: 1 is a shutdown, 2 a reset, 3 a crash.
fn said(kind: u32) -> Event {
    match kind {
        1 => Event::PowerOff,
        2 => Event::Reset,
        _ => Event::Panic,
    }
}

/// Everything that a vCPU's thread has.
pub(super) struct Member {
    pub(super) vcpu: Box<dyn Vcpu>,
    pub(super) index: usize,
    pub(super) orders: Arc<Orders>,
    pub(super) exits: Arc<dyn Exits>,
    pub(super) mailbox: Mailbox,
    pub(super) tally: Arc<Tally>,
}

impl Member {
    /// Serves until told to quit.
    pub(super) fn serve(mut self) {
        let mut progress = Progress::default();
        let mut parked = false;
        loop {
            match self.orders.next(&mut progress) {
                Order::Run => self.run(&progress, parked),
                Order::Park => {
                    parked = true;
                    self.settle();
                    self.orders.done(&progress);
                }
                Order::Reset(start) => {
                    parked = false;
                    let start = (self.index == 0).then_some(&start);
                    let reset = self.vcpu.reset(start);
                    self.check(reset);
                    self.orders.done(&progress);
                }
                Order::Quit => return self.orders.done(&progress),
            }
        }
    }

    /// Runs the guest until there is another order.
    fn run(&mut self, progress: &Progress, parked: bool) {
        if parked {
            let resumed = self.vcpu.resume();
            self.check(resumed);
        }
        loop {
            match self.enter() {
                Left::Interrupted if self.orders.have_changed(progress) => return,
                Left::Interrupted => {}
                left => return self.report(left),
            }
        }
    }

    /// The hot loop: no lock, no allocation, no system call but the one that runs the guest.
    fn enter(&mut self) -> Left {
        loop {
            let left = match self.vcpu.run() {
                Ok(exit) => answer(&*self.exits, &self.tally, exit),
                Err(error) => Some(Left::GivenUp(error.to_string())),
            };
            if let Some(left) = left {
                return left;
            }
        }
    }

    /// Finishes what the guest has begun.
    fn settle(&mut self) {
        loop {
            let left = match self.vcpu.settle() {
                Ok(exit) => answer(&*self.exits, &self.tally, exit),
                Err(error) => Some(Left::GivenUp(error.to_string())),
            };
            match left {
                None => {}
                Some(Left::Interrupted) => return,
                Some(left) => return self.report(left),
            }
        }
    }

    /// Tells the main thread, which decides what becomes of the machine.
    fn report(&self, left: Left) {
        let vcpu = self.index;
        self.mailbox.post(match left {
            Left::Interrupted => return,
            Left::Said(event) => event,
            Left::TripleFault => Event::TripleFault { vcpu, state: self.registers() },
            Left::GivenUp(report) => Event::Fatal(Outcome::Kvm { vcpu, report }),
        });
    }

    fn registers(&self) -> String {
        match self.vcpu.registers() {
            Ok(registers) => registers.to_string(),
            Err(error) => format!("its registers cannot be read: {error}"),
        }
    }

    fn check(&self, result: hypervisor::Result<()>) {
        if let Err(error) = result {
            self.report(Left::GivenUp(error.to_string()));
        }
    }
}
