//! What can be told about a guest that cannot go on.

use kvm_ioctls::VcpuFd;
use vm_memory::{Bytes, GuestMemoryRegion, MemoryRegionAddress};

use super::machine::Vm;
use crate::{Cause, Error, Failure, GuestAddress, Registers, Result};

/// Bytes of the longest instruction.
const INSTRUCTION: usize = 15;

/// Gathers what can still be had.
pub(super) fn report(vm: &Vm, fd: &VcpuFd, cause: Cause, mut instruction: Vec<u8>) -> Failure {
    let registers = registers(fd).ok();
    if instruction.is_empty() {
        let at = registers.map(|registers| registers.cs_base.wrapping_add(registers.rip));
        instruction = at.and_then(|at| read_code(vm, fd, at)).unwrap_or_default();
    }
    Failure { cause, registers, instruction }
}

/// The registers that a report shows.
pub(super) fn registers(fd: &VcpuFd) -> Result<Registers> {
    let regs = fd.get_regs().map_err(Error::kvm("reading a vCPU's registers"))?;
    let sregs = fd.get_sregs().map_err(Error::kvm("reading a vCPU's registers"))?;
    Ok(Registers {
        rax: regs.rax,
        rbx: regs.rbx,
        rcx: regs.rcx,
        rdx: regs.rdx,
        rsi: regs.rsi,
        rdi: regs.rdi,
        rsp: regs.rsp,
        rbp: regs.rbp,
        r8_to_r15: [regs.r8, regs.r9, regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15],
        rip: regs.rip,
        rflags: regs.rflags,
        cr0: sregs.cr0,
        cr2: sregs.cr2,
        cr3: sregs.cr3,
        cr4: sregs.cr4,
        efer: sregs.efer,
        cs: sregs.cs.selector,
        cs_base: sregs.cs.base,
    })
}

/// The code at a virtual address of the guest's, up to the end of its page.
fn read_code(vm: &Vm, fd: &VcpuFd, at: u64) -> Option<Vec<u8>> {
    let translation = fd.translate_gva(at).ok().filter(|translation| translation.valid != 0)?;
    let at = translation.physical_address;
    let region = vm.region_at(GuestAddress(at))?;
    let in_page = usize::try_from(4096 - at % 4096).ok()?;
    let mut code = vec![0; INSTRUCTION.min(in_page)];
    let mapping = region.mapping();
    let offset = MemoryRegionAddress(at - region.start().0);
    mapping.read_slice(&mut code, mapping.check_address(offset)?).ok()?;
    Some(code)
}
