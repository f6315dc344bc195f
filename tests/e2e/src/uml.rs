//! The command line of User Mode Linux.

use std::path::Path;
use std::process::Command;

use crate::guest::Setup;
use crate::kit::Kit;
use crate::place::RunDir;
use crate::process;

/// The virtio device type of a block device (virtio 1.4, 5.2), as the kernel wants it behind the
/// socket's path.
const BLOCK: u32 = 2;

/// That of a network card (5.1).
const NET: u32 = 1;

/// It is itself the vhost-user front-end, with split rings and one request queue for each device.
pub(crate) fn command(kit: &Kit, run: &RunDir, setup: &Setup, initrd: &Path) -> Command {
    let mut command = process::command(&kit.program);
    command
        .arg("mem=512M")
        .arg(format!("initrd={}", initrd.display()))
        .args(["con=null", "con0=null,fd:1", "quiet", "panic=-1"])
        // Where it keeps its process id and management socket; else in the home folder.
        .arg(format!("uml_dir={}/", run.file("uml").display()));
    for disk in &setup.disks {
        command.arg(format!("virtio_uml.device={}:{BLOCK}", disk.socket.display()));
    }
    if let Some(card) = &setup.card {
        command.arg(format!("virtio_uml.device={}:{NET}", card.socket.display()));
    }
    for device in &setup.devices {
        let (socket, kind) = (device.socket.display(), device.device_type.0);
        command.arg(format!("virtio_uml.device={socket}:{kind}"));
    }
    command
}
