//! One CPU of a virtual machine.

use std::sync::Arc;

use crate::{BootState, Exit, Registers, Result};

/// One CPU, owned by the thread that runs it.
pub trait Vcpu: Send {
    /// Its number in the machine, from 0.
    fn index(&self) -> u32;

    /// Puts the vCPU into the state it has after power-on. With a boot state it then starts there;
    /// without one it waits for another vCPU to start it (INIT, SIPI). All vCPUs of the machine
    /// must have stopped running. Also needed once before the first run.
    ///
    /// # Errors
    /// When the hypervisor refuses.
    fn reset(&mut self, start: Option<&BootState>) -> Result<()>;

    /// Runs the guest until it needs the VMM. The data of a read must be filled in before the next
    /// call: that is when the guest gets it.
    ///
    /// # Errors
    /// When the hypervisor cannot run the vCPU at all. What the guest brought upon itself is an
    /// [`Exit`].
    fn run(&mut self) -> Result<Exit<'_>>;

    /// A handle to interrupt the vCPU from other threads.
    fn handle(&self) -> Arc<dyn VcpuHandle>;

    /// Finishes the access that the last exit asked for, without running the guest any further, so
    /// that the vCPU can rest in a consistent state. [`Exit::Interrupted`] says that this is so; any
    /// other exit is a further part of the access, to be served before the next call of this.
    ///
    /// # Errors
    /// As [`Vcpu::run`].
    fn settle(&mut self) -> Result<Exit<'_>>;

    /// To be called when the guest goes on after a pause: its watchdogs forgive the lost time.
    ///
    /// # Errors
    /// When the hypervisor refuses.
    fn resume(&mut self) -> Result<()>;

    /// The registers, for reports.
    ///
    /// # Errors
    /// When the hypervisor refuses.
    fn registers(&self) -> Result<Registers>;
}

/// Interrupts a vCPU that may be running on another thread.
pub trait VcpuHandle: Send + Sync {
    /// Makes the current call of [`Vcpu::run`], or else the next one, return
    /// [`Exit::Interrupted`] soon. It never blocks, and none is lost; several may become one, and
    /// one may be seen twice.
    fn interrupt(&self);
}
