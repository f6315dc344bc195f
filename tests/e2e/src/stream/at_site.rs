//! Streams of a guest at a [`Site`], which is then the host.

use std::time::Duration;

use super::{Server, Stream};
use crate::console::Results;
use crate::error::Result;
use crate::job::Job;
use crate::site::Site;
use crate::vm::VmSetup;

/// The interface of the guest's card.
pub(crate) const TAP: &str = "tap0";
/// The same where QEMU makes it: that of the guest before it may take a moment to go.
const QEMU_TAP: &str = "tap1";
/// Memory of the guest in MiB, and its CPUs.
const MACHINE: (u32, u32) = (256, 2);

impl Site {
    /// Boots a guest whose card is served by outrigger-net, or else by QEMU's `-netdev tap`, and has
    /// it measure these streams, so many seconds each.
    ///
    /// # Errors
    /// At the first thing that goes wrong.
    pub fn play_streams(
        &self,
        name: &str,
        server: Server,
        streams: &[Stream],
        seconds: u32,
        limit: Duration,
    ) -> Result<Results> {
        let job = Job::new().network();
        let job = streams.iter().fold(job, |job, stream| job.stream(*stream, seconds));
        let (memory, cpus) = MACHINE;
        let (command, tap) = if server == Server::Outrigger {
            let setup = VmSetup { cpus, memory, ..VmSetup::new(name, job) };
            (setup.with(&format!("--net tap={TAP}")).command(self)?, TAP)
        } else {
            let initrd = self.initrd(name, &job)?;
            let command = format!(
                "exec qemu-system-x86_64 -accel kvm -cpu host -machine q35 -smp {cpus} -m {memory} \
                 -kernel {} -initrd {initrd} -nodefaults -no-user-config -no-reboot \
                 -append 'console=ttyS0 quiet panic=-1 no_timer_check cryptomgr.notests' \
                 -display none -serial stdio -netdev tap,id=net,ifname={QEMU_TAP},script=no,downscript=no \
                 -device virtio-net-pci,netdev=net,romfile=",
                self.kernel()
            );
            (command, QEMU_TAP)
        };
        let mut guest = self.start(name, &command, limit)?;
        self.network_with(tap)?;
        guest.wait_for("done")?;
        guest.finish()
    }

    /// Waits for an interface, which a guest's server makes, and is the host on it; iperf3 waits there
    /// if the site has it.
    ///
    /// # Errors
    /// When the interface cannot be set up.
    pub fn network_with(&self, interface: &str) -> Result<()> {
        self.run(&format!("until ip link set {interface} up 2>/dev/null; do usleep 100000; done"))?;
        self.run(&format!("echo 0 > /proc/sys/net/ipv6/conf/{interface}/accept_dad"))?;
        self.run(&format!(
            "ip addr add 192.0.2.1/24 dev {interface}; ip addr add fd00::1/64 dev {interface}"
        ))?;
        // A second one finds that its port is taken, and ends.
        self.run("if command -v iperf3; then (iperf3 -s < /dev/null > /dev/null 2>&1 &) fi")
            .map(drop)
    }
}
