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
    if let Some(card) = &setup.card {
        let (reconnect, packed) = (reconnect(machine, card.reconnect), on(card.packed));
        let path = card.socket.display();
        command.arg("-chardev").arg(format!("socket,id=card,path={path}{reconnect}"));
        command.args(["-netdev", "vhost-user,id=net,chardev=card"]);
        // Its firmware for booting from the network is not fetched.
        let device = format!("virtio-net-pci,netdev=net,romfile=,packed={packed}");
        command.arg("-device").arg(device);
    }
    command
}

fn chardev(machine: &Machine, number: usize, disk: &Disk) -> String {
    let reconnect = reconnect(machine, disk.reconnect);
    format!("socket,id=c{number},path={}{reconnect}", disk.socket.display())
}

fn reconnect(machine: &Machine, wanted: bool) -> &'static str {
    match wanted {
        false => "",
        true if machine.version >= MILLISECONDS_SINCE => ",reconnect-ms=100",
        true => ",reconnect=1",
    }
}

fn device(number: usize, disk: &Disk) -> String {
    format!("vhost-user-blk-pci,id=d{number},chardev=c{number},packed={}", on(disk.packed))
}

fn on(wanted: bool) -> &'static str {
    if wanted { "on" } else { "off" }
}
