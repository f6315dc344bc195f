//! The VMMs that boot, and how each is told to.

use serde::Serialize;

/// Memory of each guest in MiB.
pub(super) const MEMORY: u32 = 256;
/// QEMU's program.
pub(super) const QEMU: &str = "qemu-system-x86_64";
/// The kernel's command line, the same for all.
const CMDLINE: &str = "console=ttyS0 quiet panic=-1 no_timer_check cryptomgr.notests";

/// A VMM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Vmm {
    /// Ours; the disk is served by a daemon that it starts.
    Outrigger,
    /// QEMU's smallest machine, the disk on virtio-mmio.
    Microvm,
    /// QEMU's usual machine, the disk on virtio-pci.
    Q35,
}

impl Vmm {
    pub(super) const ALL: [Self; 3] = [Self::Outrigger, Self::Microvm, Self::Q35];

    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Outrigger => "outrigger",
            Self::Microvm => "QEMU microvm",
            Self::Q35 => "QEMU q35",
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Outrigger => "outrigger",
            Self::Microvm => "microvm",
            Self::Q35 => "q35",
        }
    }

    /// The command, in a shell's words.
    pub(super) fn command(self, kernel: &str, initrd: &str) -> String {
        let device = match self {
            Self::Outrigger => {
                return format!(
                    "outrigger run --cpus 1 --memory {MEMORY}M --kernel {kernel} --initrd {initrd} \
                     --cmdline '{CMDLINE}' --serial stdio --disk path=disk.img"
                );
            }
            Self::Microvm => "virtio-blk-device",
            Self::Q35 => "virtio-blk-pci",
        };
        format!(
            "{QEMU} -accel kvm -cpu host -machine {} -smp 1 -m {MEMORY} \
             -kernel {kernel} -initrd {initrd} -append '{CMDLINE}' -nodefaults -no-user-config \
             -no-reboot -display none -serial stdio \
             -drive id=disk,file=disk.img,format=raw,if=none -device {device},drive=disk",
            self.name()
        )
    }
}
