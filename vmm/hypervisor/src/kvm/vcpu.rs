//! One CPU of a machine of KVM's.

use std::sync::Arc;

use kvm_ioctls::{VcpuExit, VcpuFd};

use super::interrupt::Interrupt;
use super::machine::Vm;
use super::power_on::PowerOn;
use super::{cpuid, exit, failure, msrs};
use crate::{BootState, Cause, Error, Exit, GuestAddress, Registers, Result, VcpuHandle};

/// More parts than one access can have.
const ACCESS_PARTS: usize = 64;

/// One CPU.
pub struct Vcpu {
    index: u32,
    fd: VcpuFd,
    /// Keeps the guest's memory mapped while this can run.
    vm: Arc<Vm>,
    interrupt: Arc<Interrupt>,
    power_on: PowerOn,
    has_started: bool,
}

/// How a call of `KVM_RUN` ended.
enum Ended {
    /// As `kvm_run` says.
    Exit,
    Interrupted,
    /// Guest memory could not be had; where, if KVM says.
    NoMemory(Option<GuestAddress>),
}

impl Vcpu {
    pub(super) fn new(vm: &Arc<Vm>, index: u32) -> Result<Self> {
        let id = vm.config.topology.apic_id(index);
        let fd = vm.fd.create_vcpu(id.into()).map_err(Error::kvm("creating a vCPU"))?;
        // CPUID comes first: it decides which other registers there are.
        let tsc_khz = fd.get_tsc_khz().ok();
        let features = cpuid::Features {
            tsc_deadline: vm.has_tsc_deadline,
            dedicated: vm.config.dedicated,
            tsc_khz,
        };
        let cpuid = cpuid::of_vcpu(&vm.supported, &vm.config.topology, index, &features)?;
        fd.set_cpuid2(&cpuid).map_err(Error::kvm("setting a vCPU's CPUID"))?;
        msrs::set_as_firmware_does(&fd)?;
        let power_on = match vm.msrs.get() {
            Some(msrs) => PowerOn::read(&fd, msrs, vm.has_nested)?,
            None => {
                let power_on = PowerOn::read(&fd, &vm.all_msrs, vm.has_nested)?;
                // Another thread may have been first; it found the same.
                let _ = vm.msrs.set(power_on.msr_indices());
                power_on
            }
        };
        let interrupt = Arc::new(Interrupt::new(&fd)?);
        let vm = Arc::clone(vm);
        Ok(Vcpu { index, fd, vm, interrupt, power_on, has_started: false })
    }

    /// One call of `KVM_RUN`.
    fn enter(&mut self) -> Result<Ended> {
        loop {
            let error = match self.fd.run() {
                Ok(VcpuExit::MemoryFault { gpa, .. }) => {
                    return Ok(Ended::NoMemory(Some(GuestAddress(gpa))));
                }
                Ok(VcpuExit::Intr) => return Ok(Ended::Interrupted),
                Ok(_) => return Ok(Ended::Exit),
                Err(error) => error,
            };
            match error.errno() {
                libc::EINTR => return Ok(Ended::Interrupted),
                // Another vCPU has started this one.
                libc::EAGAIN => {}
                libc::EFAULT | libc::ENOMEM | libc::EHWPOISON => return Ok(Ended::NoMemory(None)),
                _ => return Err(Error::kvm("running a vCPU")(error)),
            }
        }
    }

    /// What the VMM has to know of how a run ended.
    fn exit(&mut self, ended: &Ended) -> Exit<'_> {
        let failure = match *ended {
            Ended::Interrupted => return Exit::Interrupted,
            Ended::NoMemory(at) => Some((Cause::Memory { at }, Vec::new())),
            Ended::Exit => exit::failure(self.fd.get_kvm_run()),
        };
        match failure {
            None => exit::decode(self.fd.get_kvm_run()),
            Some((cause, instruction)) => {
                Exit::Failed(Box::new(failure::report(&self.vm, &self.fd, cause, instruction)))
            }
        }
    }
}

impl crate::Vcpu for Vcpu {
    fn index(&self) -> u32 {
        self.index
    }

    fn reset(&mut self, start: Option<&BootState>) -> Result<()> {
        if !std::mem::replace(&mut self.has_started, true) {
            return self.power_on.set_start(&self.fd, start);
        }
        // An access that the last exit left open would otherwise be finished in the new life.
        for _ in 0..ACCESS_PARTS {
            if matches!(self.settle()?, Exit::Interrupted | Exit::Failed(_)) {
                break;
            }
        }
        self.power_on.restore(&self.fd, start)
    }

    fn run(&mut self) -> Result<Exit<'_>> {
        self.interrupt.running_here();
        let ended = self.enter()?;
        if matches!(ended, Ended::Interrupted) {
            self.interrupt.noticed();
        }
        Ok(self.exit(&ended))
    }

    fn handle(&self) -> Arc<dyn VcpuHandle> {
        Arc::clone(&self.interrupt) as Arc<dyn VcpuHandle>
    }

    fn settle(&mut self) -> Result<Exit<'_>> {
        self.interrupt.pass_through();
        let ended = self.enter();
        self.interrupt.passed_through();
        Ok(self.exit(&ended?))
    }

    fn resume(&mut self) -> Result<()> {
        match self.fd.kvmclock_ctrl() {
            // The guest has no such clock (yet).
            Err(error) if error.errno() == libc::EINVAL => Ok(()),
            other => other.map_err(Error::kvm("telling the guest that it was paused")),
        }
    }

    fn registers(&self) -> Result<Registers> {
        failure::registers(&self.fd)
    }
}

impl Drop for Vcpu {
    fn drop(&mut self) {
        self.interrupt.retire();
    }
}
