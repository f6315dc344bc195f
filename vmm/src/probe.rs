//! A guest of five instructions, in kernel mode, that counts down and halts.
#![expect(unsafe_code, reason = "memory for the guest, and handing it to KVM")]

use std::io;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use kvm_bindings::{kvm_regs, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd};
use rustix::mm::{MapFlags, ProtFlags};

/// How often the loop goes round: a tenth of a millisecond natively, some 50 where it is emulated.
const ITERATIONS: u32 = 100_000;

/// The shortest of several runs counts: the first finds no caches and no translated code, and any may
/// be interrupted by other programs.
const RUNS: u32 = 3;

/// 32-bit protected mode: `mov ecx, ITERATIONS; again: dec ecx; jnz again; hlt`.
const PROGRAM: [u8; 9] = {
    let [a, b, c, d] = ITERATIONS.to_le_bytes();
    [0xb9, a, b, c, d, 0x49, 0x75, 0xfd, 0xf4]
};

/// Size of the guest's memory in bytes.
const MEMORY: usize = 4096;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// `/dev/kvm` cannot be opened.
    #[error("/dev/kvm cannot be opened: {0}")]
    Open(#[source] io::Error),
    /// A request to KVM failed.
    #[error("{action} failed: {source}")]
    Kvm {
        /// What was asked of KVM.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The guest did something else than halt.
    #[error("the guest ended with {0} instead of halting")]
    Exit(String),
}

fn kvm(action: &'static str) -> impl Fn(kvm_ioctls::Error) -> ProbeError {
    move |error| ProbeError::Kvm { action, source: error.into() }
}

/// How long an iteration of the guest's loop takes.
///
/// # Errors
/// When KVM is missing or the guest does not run.
pub fn time_an_iteration() -> Result<Duration, ProbeError> {
    let system = Kvm::new().map_err(|error| ProbeError::Open(error.into()))?;
    let vm = system.create_vm().map_err(kvm("creating a VM"))?;
    let memory = Memory::new().map_err(|source| ProbeError::Kvm { action: "mmap", source })?;
    memory.load(&PROGRAM);
    let slot = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: MEMORY as u64,
        userspace_addr: memory.0.as_ptr() as u64,
    };
    // SAFETY: the mapping is as large as the slot, and nothing runs in it after this function.
    unsafe { vm.set_user_memory_region(slot) }.map_err(kvm("giving the VM memory"))?;
    let mut vcpu = vm.create_vcpu(0).map_err(kvm("creating a vCPU"))?;
    enter_protected_mode(&vcpu)?;
    let mut shortest = Duration::MAX;
    for _ in 0..RUNS {
        begin(&vcpu)?;
        let start = Instant::now();
        halt(&mut vcpu)?;
        shortest = shortest.min(start.elapsed());
    }
    Ok(shortest / ITERATIONS)
}

/// Flat 32-bit segments, kernel mode, no paging; the program is at address 0.
fn enter_protected_mode(vcpu: &VcpuFd) -> Result<(), ProbeError> {
    let mut sregs = vcpu.get_sregs().map_err(kvm("reading the vCPU's registers"))?;
    sregs.cr0 |= 1;
    sregs.cs.base = 0;
    sregs.cs.selector = 8;
    for segment in [&mut sregs.cs, &mut sregs.ds, &mut sregs.es, &mut sregs.ss] {
        (segment.base, segment.limit, segment.g, segment.db) = (0, 0xffff_ffff, 1, 1);
    }
    vcpu.set_sregs(&sregs).map_err(kvm("setting the vCPU's registers"))
}

/// From the first instruction.
fn begin(vcpu: &VcpuFd) -> Result<(), ProbeError> {
    let regs = kvm_regs { rip: 0, rflags: 2, ..Default::default() };
    vcpu.set_regs(&regs).map_err(kvm("setting the vCPU's registers"))
}

fn halt(vcpu: &mut VcpuFd) -> Result<(), ProbeError> {
    match vcpu.run().map_err(kvm("running the guest"))? {
        VcpuExit::Hlt => Ok(()),
        exit => Err(ProbeError::Exit(format!("{exit:?}"))),
    }
}

/// A page of memory for the guest.
struct Memory(NonNull<u8>);

impl Memory {
    fn new() -> io::Result<Self> {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice replaces nothing.
        let at = unsafe {
            rustix::mm::mmap_anonymous(std::ptr::null_mut(), MEMORY, prot, MapFlags::PRIVATE)
        }?;
        NonNull::new(at.cast()).map(Memory).ok_or_else(|| io::Error::other("mapped at zero"))
    }

    fn load(&self, program: &[u8; 9]) {
        // SAFETY: the program is shorter than the page, and nobody else uses it yet.
        unsafe { std::ptr::copy_nonoverlapping(program.as_ptr(), self.0.as_ptr(), program.len()) };
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this size, and no guest runs in it any more.
        let _ = unsafe { rustix::mm::munmap(self.0.as_ptr().cast(), MEMORY) };
    }
}
