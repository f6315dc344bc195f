//! A guest of five instructions, in kernel mode, that counts down and says so.

use std::time::{Duration, Instant};

use hypervisor::kvm::{self, Kvm};
use hypervisor::memory::{Config, Memory};
use hypervisor::{
    BootState, DescriptorTable, Exit, GuestAddress, Machine as _, Slot, SlotOptions, Topology, Vcpu,
};
use vm_memory::Bytes;

/// How often the loop goes round: a tenth of a millisecond natively, some 50 where it is emulated.
const ITERATIONS: u32 = 100_000;

/// The shortest of several runs counts: the first finds no caches and no translated code, and any may
/// be interrupted by other programs.
const RUNS: u32 = 3;

/// The port that ends it.
const PORT: u8 = 0xe9;

/// 32-bit protected mode: `mov ecx, ITERATIONS; again: dec ecx; jnz again; out PORT, al`, and then
/// an endless loop, which nobody runs.
const PROGRAM: [u8; 12] = {
    let [a, b, c, d] = ITERATIONS.to_le_bytes();
    [0xb9, a, b, c, d, 0x49, 0x75, 0xfd, 0xe6, PORT, 0xeb, 0xfe]
};

/// Size of the guest's memory in bytes.
const MEMORY: u64 = 1 << 20;

/// Where the program is in it.
const ENTRY: GuestAddress = GuestAddress(0x1000);

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// KVM refused something.
    #[error(transparent)]
    Hypervisor(#[from] hypervisor::Error),
    /// The program does not fit into the guest's memory.
    #[error("the guest's memory cannot be written: {0}")]
    Load(#[from] vm_memory::GuestMemoryError),
    /// The guest did something else than it should.
    #[error("the guest ended with {0}")]
    Exit(String),
}

/// How long an iteration of the guest's loop takes.
///
/// # Errors
/// When the guest does not run.
pub fn time_an_iteration(kvm: &Kvm) -> Result<Duration, ProbeError> {
    let config = kvm::Config { topology: Topology::flat(1), dedicated: false };
    let machine = kvm::Machine::new(kvm, &config)?;
    let memory = Memory::new(&Config::new(MEMORY))?;
    memory.guest().write_slice(&PROGRAM, ENTRY)?;
    for (slot, region) in (0..).zip(memory.regions()) {
        machine.map(Slot(slot), region, SlotOptions::default())?;
    }
    let mut vcpu = machine.create_vcpu(0)?;
    let mut shortest = Duration::MAX;
    for _ in 0..RUNS {
        shortest = shortest.min(time_a_run(&mut *vcpu)?);
    }
    Ok(shortest / ITERATIONS)
}

fn time_a_run(vcpu: &mut dyn Vcpu) -> Result<Duration, ProbeError> {
    // The mode that this protocol begins in is all that is wanted of it: flat, without paging.
    let nowhere = GuestAddress(0);
    let gdt = DescriptorTable { base: nowhere, limit: 0 };
    vcpu.reset(Some(&BootState::Pvh { entry: ENTRY, start_info: nowhere, gdt }))?;
    let start = Instant::now();
    loop {
        match vcpu.run()? {
            Exit::PortWrite { port, .. } if port == u16::from(PORT) => return Ok(start.elapsed()),
            Exit::Interrupted => {}
            Exit::Failed(failure) => return Err(ProbeError::Exit(failure.to_string())),
            exit => return Err(ProbeError::Exit(format!("{exit:?}"))),
        }
    }
}
