//! A guest without a kernel: it drives the VMM's virtio-pci devices from user privilege, by polling.
//!
//! It runs in long mode at CPL 3 with IOPL 3 and identity-mapped memory, so that even a KVM that
//! emulates kernels runs it at the CPU's speed. There is nobody below it: no interrupts, no faults that
//! could be survived. What it finds it says on the debug port, `key=value` a line; what it measures it
//! marks, and the host looks at its clock. It ends by writing its status to the exit port.
#![no_std]
#![no_main]

mod balloon;
mod bare;
mod block;
mod console;
mod net;
mod pci;
mod ports;
mod report;
mod ring;
mod scenes;
mod transport;

/// The first instruction.
///
/// # Safety
/// The host has mapped memory as `tests/cpl3/src/stage.rs` says, and calls this once.
#[unsafe(no_mangle)]
unsafe extern "C" fn _start(scene: u64) -> ! {
    scenes::play(scene);
    report::end(0)
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    report::say(format_args!("panic={}", info.message()));
    if let Some(at) = info.location() {
        report::say(format_args!("panicked_at={at}"));
    }
    report::end(101)
}
