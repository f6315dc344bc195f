//! The state that a vCPU has after power-on, and going back to it.
//!
//! KVM gives a new vCPU this state. It is read once, before the vCPU first runs, and written back
//! when the guest is reset.

use kvm_bindings::{
    KVM_MP_STATE_RUNNABLE, KVM_MP_STATE_UNINITIALIZED, kvm_debugregs, kvm_fpu, kvm_lapic_state,
    kvm_mp_state, kvm_msr_entry, kvm_nested_state__bindgen_ty_1, kvm_regs, kvm_sregs,
    kvm_vcpu_events, kvm_xcrs,
};
use kvm_ioctls::{KvmNestedStateBuffer, VcpuFd};

use super::{msrs, start};
use crate::{BootState, Error, Result};

/// Offsets of local APIC registers (Intel SDM 3, table 11-1).
const LVT_LINT0: usize = 0x350;
const LVT_LINT1: usize = 0x360;
/// Delivery modes (Intel SDM 3, 11.5.1).
const EXTERNAL: u32 = 7 << 8;
const NMI: u32 = 4 << 8;

/// The control word and status word of an FPU after `FNINIT`, and of SSE after reset.
const FPU_CONTROL: u16 = 0x37f;
const MXCSR: u32 = 0x1f80;

/// Size of the header of KVM's nested state, in bytes.
const NESTED_HEADER: u32 = 128;

/// A vCPU's state after power-on.
pub(super) struct PowerOn {
    regs: kvm_regs,
    sregs: kvm_sregs,
    lapic: kvm_lapic_state,
    msrs: Vec<kvm_msr_entry>,
    xcrs: kvm_xcrs,
    debug: kvm_debugregs,
    events: kvm_vcpu_events,
    /// If KVM can run guests of the guest's: that there are none.
    nested: Option<Nested>,
}

/// The header of KVM's nested state; nothing follows it while the guest runs no guest.
#[derive(Clone, Copy)]
struct Nested {
    flags: u16,
    format: u16,
    header: kvm_nested_state__bindgen_ty_1,
}

impl PowerOn {
    /// Reads it from a vCPU that has not run; `msrs` are the registers there may be.
    pub(super) fn read(fd: &VcpuFd, msrs: &[u32], has_nested: bool) -> Result<Self> {
        let failed = Error::kvm("reading a vCPU's state");
        let mut lapic = fd.get_lapic().map_err(&failed)?;
        set_register(&mut lapic, LVT_LINT0, EXTERNAL);
        set_register(&mut lapic, LVT_LINT1, NMI);
        let mut msrs = msrs::read(fd, msrs)?;
        msrs.retain(|entry| msrs::is_reset(entry.index));
        Ok(PowerOn {
            regs: fd.get_regs().map_err(&failed)?,
            sregs: fd.get_sregs().map_err(&failed)?,
            lapic,
            msrs,
            xcrs: fd.get_xcrs().map_err(&failed)?,
            debug: fd.get_debug_regs().map_err(&failed)?,
            events: fd.get_vcpu_events().map_err(&failed)?,
            nested: if has_nested { Some(Nested::read(fd)?) } else { None },
        })
    }

    /// Which registers the vCPU has.
    pub(super) fn msr_indices(&self) -> Vec<u32> {
        self.msrs.iter().map(|entry| entry.index).collect()
    }

    /// Puts the vCPU into this state; with a start, ready to run from there, otherwise waiting for
    /// another vCPU to start it.
    pub(super) fn restore(&self, fd: &VcpuFd, start: Option<&BootState>) -> Result<()> {
        self.restore_machine_state(fd)?;
        self.set_start(fd, start)
    }

    /// All that a vCPU which has not run has anyway.
    fn restore_machine_state(&self, fd: &VcpuFd) -> Result<()> {
        let failed = Error::kvm("resetting a vCPU");
        if let Some(nested) = &self.nested {
            nested.restore(fd)?;
        }
        // The APIC's base before the APIC: it says in which form the registers of the APIC are.
        fd.set_sregs(&self.sregs).map_err(&failed)?;
        fd.set_xcrs(&self.xcrs).map_err(&failed)?;
        let fpu = kvm_fpu { fcw: FPU_CONTROL, mxcsr: MXCSR, ..Default::default() };
        fd.set_fpu(&fpu).map_err(&failed)?;
        fd.set_debug_regs(&self.debug).map_err(&failed)?;
        msrs::write(fd, &self.msrs)?;
        fd.set_vcpu_events(&self.events).map_err(&failed)
    }

    /// Local APIC, registers, and whether it runs.
    pub(super) fn set_start(&self, fd: &VcpuFd, start: Option<&BootState>) -> Result<()> {
        let failed = Error::kvm("setting a vCPU's start");
        fd.set_lapic(&self.lapic).map_err(&failed)?;
        if let Some(start) = start {
            fd.set_sregs(&start::sregs(start, self.sregs)).map_err(&failed)?;
        }
        fd.set_regs(&start.map_or(self.regs, start::regs)).map_err(&failed)?;
        let mp_state = match start {
            Some(_) => KVM_MP_STATE_RUNNABLE,
            None => KVM_MP_STATE_UNINITIALIZED,
        };
        fd.set_mp_state(kvm_mp_state { mp_state }).map_err(&failed)
    }
}

impl Nested {
    fn read(fd: &VcpuFd) -> Result<Self> {
        let mut state = KvmNestedStateBuffer::empty();
        fd.nested_state(&mut state).map_err(Error::kvm("reading a vCPU's nested state"))?;
        Ok(Nested { flags: state.flags, format: state.format, header: state.hdr })
    }

    fn restore(&self, fd: &VcpuFd) -> Result<()> {
        let mut state = KvmNestedStateBuffer::empty();
        (state.flags, state.format, state.hdr) = (self.flags, self.format, self.header);
        state.size = NESTED_HEADER;
        fd.set_nested_state(&state).map_err(Error::kvm("ending a guest's guest"))
    }
}

fn set_register(lapic: &mut kvm_lapic_state, at: usize, value: u32) {
    for (register, byte) in lapic.regs.iter_mut().skip(at).zip(value.to_le_bytes()) {
        *register = i8::from_le_bytes([byte]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_register_of_the_local_apic_is_little_endian() {
        let mut lapic = kvm_lapic_state::default();
        set_register(&mut lapic, LVT_LINT1, 0x0001_84ff);
        assert_eq!(lapic.regs[0x360..0x364], [-1, -124, 1, 0]);
    }
}
