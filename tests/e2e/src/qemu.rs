//! The command line of QEMU.

use std::path::Path;
use std::process::Command;

use crate::guest::{Disk, Generic, Setup};
use crate::kit::{Kit, Machine};
use crate::process;

/// Guest memory in MiB.
const MEMORY: u32 = 512;
/// Entries of a generic device's queues.
const QUEUE_SIZE: u16 = 128;
/// The first version that counts the pause before connecting again in milliseconds.
const MILLISECONDS_SINCE: (u32, u32) = (9, 2);

/// A guest on an emulated CPU, with its memory in a memfd that back-ends can map.
pub(crate) fn command(kit: &Kit, setup: &Setup, initrd: &Path) -> Command {
    // The card's firmware is for booting from the network.
    let mut command = without_system(kit, setup, Path::new(""));
    command
        // On a busy host the kernel's check of its timer fails where the timer works, and its tests of
        // its ciphers have been seen not to end.
        .args(["-append", "console=ttyS0 quiet panic=-1 no_timer_check cryptomgr.notests"])
        .arg("-initrd")
        .arg(initrd);
    if let Some(machine) = &kit.machine {
        command.arg("-kernel").arg(&machine.kernel);
    }
    command
}

/// The same with nothing to boot but what the firmware of its card finds.
pub(crate) fn without_system(kit: &Kit, setup: &Setup, rom: &Path) -> Command {
    let mut command = process::command(&kit.program);
    command
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-serial", "stdio", "-accel", "tcg,thread=multi", "-cpu", "max"])
        .args(["-smp", &setup.cpus.to_string(), "-m", &MEMORY.to_string()])
        .args(["-object", &format!("memory-backend-memfd,id=memory,size={MEMORY}M,share=on")])
        .args(["-machine", "q35,memory-backend=memory"]);
    let Some(machine) = &kit.machine else { return command };
    command.env("QEMU_MODULE_DIR", &machine.parts);
    for folder in &machine.firmware {
        command.arg("-L").arg(folder);
    }
    for (number, disk) in setup.disks.iter().enumerate() {
        command.arg("-chardev").arg(chardev(machine, number, disk));
        command.arg("-device").arg(device(number, disk));
    }
    for (number, device) in setup.devices.iter().enumerate() {
        command.args(generic(machine, number, device));
    }
    if let Some(card) = &setup.card {
        let (reconnect, packed) = (reconnect(machine, card.reconnect), on(card.packed));
        let path = card.socket.display();
        command.arg("-chardev").arg(format!("socket,id=card,path={path}{reconnect}"));
        command.args(["-netdev", "vhost-user,id=net,chardev=card"]);
        // The firmware is for cards of the newer kind only.
        let modern = if rom.as_os_str().is_empty() { "" } else { ",disable-legacy=on" };
        let rom = rom.display();
        let device = format!("virtio-net-pci,netdev=net,romfile={rom},packed={packed}{modern}");
        command.arg("-device").arg(device);
    }
    command
}

fn chardev(machine: &Machine, number: usize, disk: &Disk) -> String {
    let reconnect = reconnect(machine, disk.reconnect);
    format!("socket,id=c{number},path={}{reconnect}", disk.socket.display())
}

/// A device of which QEMU knows nothing but what is said here.
fn generic(machine: &Machine, number: usize, device: &Generic) -> [String; 4] {
    let Generic { device_type, queues, config, packed, .. } = device;
    let reconnect = reconnect(machine, device.reconnect);
    [
        "-chardev".into(),
        format!("socket,id=g{number},path={}{reconnect}", device.socket.display()),
        "-device".into(),
        format!(
            "vhost-user-test-device-pci,id=x{number},chardev=g{number},virtio-id={},\
             num_vqs={queues},vq_size={QUEUE_SIZE},config_size={config},packed={}",
            device_type.0,
            on(*packed)
        ),
    ]
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
