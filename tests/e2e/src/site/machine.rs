//! The command line of the QEMU that an outer guest runs in.

use std::path::Path;
use std::process::Command;

use crate::kit::Kit;
use crate::process;

/// Memory of the outer guest in MiB: its own, its guests', and all files.
const MEMORY: u32 = 3072;

/// CPUs that are emulated, with SVM; the console goes to a file, the agent has standard input and
/// output.
pub(super) fn command(kit: &Kit, initrd: &Path, log: &Path) -> Command {
    let mut command = process::command(&kit.program);
    command
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"])
        .args(["-machine", "q35", "-m", &MEMORY.to_string()])
        .args(["-chardev", &format!("file,id=console,append=on,path={}", log.display())])
        .args(["-serial", "chardev:console"])
        .args(["-device", "virtio-serial-pci", "-chardev", "stdio,id=agent,signal=off"])
        .args(["-device", "virtserialport,chardev=agent,name=agent"])
        // On a busy host the kernel's check of its timer fails where the timer works, and its tests of
        // its ciphers have been seen not to end. There is nobody in there from whom anything would have
        // to be kept.
        .args([
            "-append",
            "console=ttyS0 quiet panic=-1 no_timer_check cryptomgr.notests mitigations=off",
        ])
        .arg("-initrd")
        .arg(initrd);
    let Some(machine) = &kit.machine else { return command };
    command.arg("-kernel").arg(&machine.kernel).env("QEMU_MODULE_DIR", &machine.parts);
    for folder in &machine.firmware {
        command.arg("-L").arg(folder);
    }
    command
}
