//! What the user may say, on the command line and in a file. The doc comments below are the help text.

use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::cpus::{Affinity, Scheduling};
use super::fields::Fields;
use super::serial::SerialPort;
use super::text::{Switch, words};

const BOOT: &str = "Boot";
const CPUS: &str = "CPUs and memory";
const DEVICES: &str = "Devices (may be repeated)";
const LIFE: &str = "Life and control";

words! {
    /// What happens after a triple fault of the guest.
    OnTripleFault {
        /// The VM is stopped.
        #[default]
        Stop = "stop",
        /// The guest starts anew.
        Reset = "reset",
    }
}

words! {
    /// What happens after the guest has said that it panicked.
    OnPanic {
        /// The VM is stopped.
        Stop = "stop",
        /// It is logged.
        #[default]
        Ignore = "ignore",
    }
}

// No doc comment: clap would show it as the command's description.
#[expect(missing_docs, reason = "a doc comment here would replace the command's own description")]
#[derive(Debug, Clone, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// The guest's kernel: a bzImage, or an ELF file with a PVH entry
    #[arg(long, value_name = "PATH", help_heading = BOOT)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<PathBuf>,

    /// The initial RAM disk
    #[arg(long, value_name = "PATH", help_heading = BOOT)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initrd: Option<PathBuf>,

    /// The kernel's command line [default: console=ttyS0]
    #[arg(long, value_name = "TEXT", help_heading = BOOT)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmdline: Option<String>,

    /// How many CPUs the guest has [default: 1]
    #[arg(long, value_name = "N", help_heading = CPUS)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u16>,

    /// How they are arranged [default: one package of single-threaded cores]
    ///
    /// Keys: threads of each core, cores of each package, packages
    #[arg(long, value_name = "KEY=N[,KEY=N…]", help_heading = CPUS)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topology: Option<Fields>,

    /// Where vCPUs run: 4,6 puts the first two on a CPU each, 0-1:4-7 both on any of these (may be
    /// repeated)
    #[arg(long, value_name = "[VCPUS:]CPUS", help_heading = CPUS)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpu_affinity: Vec<Affinity>,

    /// How the host schedules vCPUs: other, batch, fifo:PRIORITY or rr:PRIORITY [default: other]
    #[arg(long, value_name = "POLICY", help_heading = CPUS)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_sched: Option<Scheduling>,

    /// The guest's memory [default: 1G]
    ///
    /// Keys: size; pages=4k|thp|hugetlb=2M|hugetlb=1G; prefault=on, to have it all before the guest
    /// starts; lock=on, to keep it from being swapped out. The size may stand alone: --memory 2G
    #[arg(long, value_name = "SIZE[,KEY=VALUE…]", help_heading = CPUS)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Fields>,

    /// A NUMA node of the guest (may be repeated)
    ///
    /// Keys: cpus, its vCPUs; memory, its size; host, the host's node to bind it to; distances, to each
    /// node in order, such as 10:20
    #[arg(long, value_name = "cpus=LIST,memory=SIZE[,KEY=VALUE…]", help_heading = CPUS)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub numa: Vec<Fields>,

    /// Where the serial port leads: stdio, pty, pty:LINK, file:PATH, socket:PATH or null [default: stdio]
    #[arg(long, value_name = "WHERE", help_heading = LIFE)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<SerialPort>,

    /// Listen on this Unix socket for `outrigger ctl`
    #[arg(long, value_name = "PATH", help_heading = LIFE)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<PathBuf>,

    /// Seconds from the power button to the hard stop, after SIGTERM or SIGINT [default: 30]
    #[arg(long, value_name = "SECONDS", help_heading = LIFE)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace: Option<u16>,

    /// After a triple fault: stop or reset [default: stop]
    #[arg(long, value_name = "WHAT", help_heading = LIFE)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_triple_fault: Option<OnTripleFault>,

    /// After the guest has reported a panic: stop or ignore [default: ignore]
    #[arg(long, value_name = "WHAT", help_heading = LIFE)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_panic: Option<OnPanic>,

    /// Give up all rights that are not needed once the guest runs: on or off [default: on]
    #[arg(long, value_name = "on|off", help_heading = LIFE)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<Switch>,

    /// How much to log: error, warn, info, debug, trace, or a filter such as info,outrigger=debug
    #[arg(long, value_name = "LEVEL", help_heading = LIFE)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,

    /// A disk, served by a daemon of its own (outrigger-blk)
    ///
    /// Keys: path or null; readonly, cache, logical-block-size, serial, discard, num-queues; and those of
    /// each daemon: queue-size, packed, in-order, engine, poll-us, workers, cpus, control, sandbox, log,
    /// nice, program. Of the device: id; on-loss=stall|fail|stop; timeout, seconds for each reply
    #[arg(long, value_name = "path=PATH[,KEY=VALUE…]", help_heading = DEVICES)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub disk: Vec<Fields>,

    /// A network interface, served by a daemon of its own (outrigger-net)
    ///
    /// Keys: tap, tap-fd, such as 5 or 5:6, unix (passt's socket), unix-listen, null or echo; mac, mtu,
    /// queue-pairs, no-offloads, ctrl-vq=off; rx-bytes-per-second, rx-packets-per-second,
    /// tx-bytes-per-second, tx-packets-per-second; capture, capture-snap, capture-size, as outrigger-net
    /// --help has them; and those of each daemon and device (see --disk)
    #[arg(long, value_name = "tap=NAME[,KEY=VALUE…]", help_heading = DEVICES)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub net: Vec<Fields>,

    /// A console, served by a daemon of its own (outrigger-console)
    ///
    /// Keys: backend=stdio, pty[:LINK], unix:PATH, tcp:PORT, file:PATH, log:KIB or null; name, for
    /// `outrigger console NAME`; console=off, for a plain port; history, KiB kept for who attaches later;
    /// overflow=block|drop-oldest; rotate, keep, connect, readers, remote, of the back ends; max-ports,
    /// no-multiport, port-directory, resize-order=spec|rows-first, as outrigger-console --help has them; and
    /// those of each daemon and device (see --disk)
    #[arg(long, value_name = "backend=WHERE[,KEY=VALUE…]", help_heading = DEVICES)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub console: Vec<Fields>,

    /// A balloon, served by a daemon of its own (outrigger-balloon)
    ///
    /// Keys: target, stats-period, no-deflate-on-oom, no-reporting; auto with floor, ceiling, rate, pressure;
    /// and those of each daemon and device (see --disk)
    #[arg(long, value_name = "KEY=VALUE[,KEY=VALUE…]", help_heading = DEVICES)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub balloon: Vec<Fields>,

    /// A device of any type, served by a process that runs already
    ///
    /// Keys: type, such as blk, net, console, balloon, vsock, fs or a number; socket; server=on, to listen
    /// there for the back-end; pins-memory=on, if it does (VFIO, registered io_uring buffers), which no
    /// balloon goes with; queues, queue-size, config-size; id, on-loss, timeout (see --disk). For a
    /// back-end without a configuration space: mac and mtu of a network card, config=HEX of anything else
    #[arg(long, value_name = "type=TYPE,socket=PATH[,KEY=VALUE…]", help_heading = DEVICES)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vhost_user: Vec<Fields>,
}

impl Settings {
    /// Lets `flags` add to what a file says: one that can be said once replaces the file's, the others
    /// come after the file's.
    #[must_use]
    pub fn overridden_by(mut self, flags: Self) -> Self {
        macro_rules! replace {
            ($($name:ident),+) => {$(self.$name = flags.$name.or(self.$name);)+};
        }
        macro_rules! append {
            ($($name:ident),+) => {$(self.$name.extend(flags.$name);)+};
        }
        replace!(kernel, initrd, cmdline, cpus, cpu_sched, memory, serial, control, grace);
        replace!(topology, on_triple_fault, on_panic, sandbox, log);
        append!(cpu_affinity, numa, disk, net, console, balloon, vhost_user);
        self
    }
}
