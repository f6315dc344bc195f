//! The command line of QEMU.

use std::path::Path;
use std::process::Command;

use crate::guest::{Disk, Setup};
use crate::kit::{Kit, Machine};
use crate::process;

/// Guest memory in MiB.
const MEMORY: u32 = 512;
/// The first version that counts the pause before connecting again in milliseconds.
const MILLISECONDS_SINCE: (u32, u32) = (9, 2);

/// A guest on an emulated CPU, with its memory in a memfd that back-ends can map.
pub(crate) fn command(kit: &Kit, setup: &Setup, initrd: &Path) -> Command {
    let mut command = process::command(&kit.program);
    command
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-serial", "stdio", "-accel", "tcg,thread=multi", "-cpu", "max"])
        .args(["-smp", &setup.cpus.to_string(), "-m", &MEMORY.to_string()])
        .args(["-object", &format!("memory-backend-memfd,id=memory,size={MEMORY}M,share=on")])
        .args(["-machine", "q35,memory-backend=memory"])
        // On a busy host the kernel's check of its timer fails where the timer works, and its tests of
        // its ciphers have been seen not to end.
        .args(["-append", "console=ttyS0 quiet panic=-1 no_timer_check cryptomgr.notests"])
        .arg("-initrd")
        .arg(initrd);
    let Some(machine) = &kit.machine else { return command };
    command.arg("-kernel").arg(&machine.kernel).env("QEMU_MODULE_DIR", &machine.parts);
    for folder in &machine.firmware {
        command.arg("-L").arg(folder);
    }
    for (number, disk) in setup.disks.iter().enumerate() {
        command.arg("-chardev").arg(chardev(machine, number, disk));
        command.arg("-device").arg(device(number, disk));
    }
    command
}

fn chardev(machine: &Machine, number: usize, disk: &Disk) -> String {
    let reconnect = match disk.reconnect {
        false => "",
        true if machine.version >= MILLISECONDS_SINCE => ",reconnect-ms=100",
        true => ",reconnect=1",
    };
    format!("socket,id=c{number},path={}{reconnect}", disk.socket.display())
}

fn device(number: usize, disk: &Disk) -> String {
    let packed = if disk.packed { "on" } else { "off" };
    format!("vhost-user-blk-pci,id=d{number},chardev=c{number},packed={packed}")
}
