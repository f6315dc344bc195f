//! Everything that is needed to boot a kind of guest, and how it gets onto the machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::apt::{PackageSet, Root, Suite};
use crate::error::{Error, Result, output_of};
use crate::modules::{self, Modules};
use crate::place::Place;
use crate::tools::Tools;

/// The kinds of guest there are; each is a real Linux with the drivers it came with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// User Mode Linux: the kernel is an ordinary process and itself a vhost-user front-end.
    Uml,
    /// Debian's cloud kernel in QEMU, which emulates the CPU (no KVM is asked for).
    Qemu,
    /// The same in a QEMU that can migrate: before 9.0 it moves a guest on emulated CPUs without
    /// some of what these have written last, whatever its devices.
    NewQemu,
    /// The same in a QEMU that has a device for back-ends of any type (since 10.2).
    LatestQemu,
}

/// Programs for the inside of every guest, and what prepares the ones outside.
const TOOLS: PackageSet = PackageSet {
    name: "tools",
    purpose: "shell and file system tools inside the guests",
    suites: &[Suite::Own, Suite::Named("trixie")],
    packages: &["busybox-static", "e2fsprogs", "patchelf", "xz-utils"],
    keep: &[],
};

/// What measures and sets up a network, inside a guest and outside.
const NETWORK: PackageSet = PackageSet {
    name: "network",
    purpose: "iperf3 and ethtool for both sides of a guest's network",
    suites: &[Suite::Own, Suite::Named("trixie")],
    packages: &["iperf3", "ethtool"],
    keep: &["iperf3", "libiperf0", "libsctp1", "libssl3", "ethtool", "libmnl0", "libc6"],
};

/// Older releases have kernels that crash on CPUs with AMX, and are better than nothing elsewhere.
const UML: PackageSet = PackageSet {
    name: "uml",
    purpose: "User Mode Linux, with the C library it wants",
    suites: &[Suite::Named("sid"), Suite::Named("testing"), Suite::Named("trixie")],
    packages: &["user-mode-linux"],
    keep: &["user-mode-linux", "libc6", "libgcc-s1"],
};

const QEMU: PackageSet = PackageSet {
    name: "qemu",
    purpose: "QEMU with its libraries",
    suites: &[Suite::Own, Suite::Named("trixie")],
    packages: &["qemu-system-x86", "qemu-utils"],
    keep: &[],
};

const NEW_QEMU: PackageSet = PackageSet {
    name: "new-qemu",
    purpose: "QEMU 9.0 or newer, for migration, with its libraries",
    suites: &[Suite::Named("trixie"), Suite::Named("testing"), Suite::Named("sid")],
    packages: &["qemu-system-x86"],
    keep: &[],
};

const LATEST_QEMU: PackageSet = PackageSet {
    name: "latest-qemu",
    purpose: "QEMU 10.2 or newer, which fronts vhost-user back-ends of any type, with its libraries",
    suites: &[Suite::Named("sid"), Suite::Named("testing")],
    packages: &["qemu-system-x86"],
    keep: &[],
};

const KERNEL: PackageSet = PackageSet {
    name: "kernel",
    purpose: "the kernel that QEMU boots",
    suites: &[Suite::Named("bookworm"), Suite::Named("trixie"), Suite::Own],
    packages: &["linux-image-cloud-amd64"],
    keep: &["linux-image-"],
};

/// Back-ends of other projects: a network card, a file system, a socket device.
pub const PEERS: PackageSet = PackageSet {
    name: "peers",
    purpose: "back-ends of other projects",
    suites: &[Suite::Named("sid"), Suite::Named("testing")],
    packages: &["passt", "virtiofsd", "vhost-device-vsock"],
    keep: &[],
};

/// A network driver and a back-end without a machine around them.
pub const DPDK: PackageSet = PackageSet {
    name: "dpdk",
    purpose: "testpmd, a network client and peer",
    suites: &[Suite::Named("bookworm")],
    packages: &[
        "dpdk-dev",
        "librte-net-virtio23",
        "librte-net-vhost23",
        "librte-net-pcap23",
        "librte-mempool-ring23",
    ],
    keep: &[
        "dpdk-dev",
        "ibverbs-providers",
        "libbsd0",
        "libc6",
        "libcap2",
        "libdbus-1-3",
        "libelf1",
        "libfdt1",
        "libgcc-s1",
        "libgcrypt20",
        "libgpg-error0",
        "libibverbs1",
        "libjansson4",
        "liblz4-1",
        "liblzma5",
        "libmd0",
        "libnl-",
        "libnuma1",
        "libpcap0.8",
        "librte-",
        "libsystemd0",
        "libzstd1",
        "zlib1g",
    ],
};

impl Kind {
    /// The word for it on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uml => "uml",
            Self::Qemu => "qemu",
            Self::NewQemu => "new-qemu",
            Self::LatestQemu => "latest-qemu",
        }
    }

    /// Its full name.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Uml => "User Mode Linux",
            Self::Qemu => "QEMU without KVM",
            Self::NewQemu => "newer QEMU without KVM",
            Self::LatestQemu => "QEMU's generic device, without KVM",
        }
    }

    /// The packages it needs, in the order they are fetched.
    #[must_use]
    pub const fn sets(self) -> &'static [PackageSet] {
        match self {
            Self::Uml => &[TOOLS, NETWORK, UML],
            Self::Qemu => &[TOOLS, NETWORK, QEMU, KERNEL],
            Self::NewQemu => &[TOOLS, NETWORK, NEW_QEMU, KERNEL],
            Self::LatestQemu => &[TOOLS, NETWORK, LATEST_QEMU, KERNEL],
        }
    }

    /// Those of its packages that are not in the cache.
    #[must_use]
    pub fn missing(self, place: &Place) -> Vec<&'static PackageSet> {
        self.sets().iter().filter(|set| Root::cached(place, set).is_none()).collect()
    }
}

/// A kind of guest, ready to be booted.
#[derive(Debug)]
pub struct Kit {
    pub(crate) kind: Kind,
    pub(crate) tools: Tools,
    pub(crate) modules: Modules,
    /// The program to run: `linux.uml` or `qemu-system-x86_64`.
    pub(crate) program: PathBuf,
    /// What only QEMU needs.
    pub(crate) machine: Option<Machine>,
    /// The packages that `program` is from.
    root: Root,
    /// Those with the tools that prepare programs.
    packages: Root,
    /// Those with what measures a network.
    network: Root,
}

/// What QEMU needs besides itself.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) kernel: PathBuf,
    /// Folders with firmware, for `-L`.
    pub(crate) firmware: Vec<PathBuf>,
    /// QEMU's own loadable parts, the emulated CPU among them.
    pub(crate) parts: PathBuf,
    /// As QEMU prints it: major and minor.
    pub(crate) version: (u32, u32),
}

impl Kit {
    /// Fetches what is missing and prepares it.
    ///
    /// # Errors
    /// When a package cannot be had, or what was fetched is not what it should be.
    pub fn fetch(place: &Place, kind: Kind) -> Result<Self> {
        let _lock = place.lock()?;
        for set in kind.sets() {
            Root::fetch(place, set)?;
        }
        Self::prepare(place, kind)
    }

    /// What was fetched earlier.
    ///
    /// # Errors
    /// [`Error::Missing`] when something was not, saying how to fetch it.
    pub fn cached(place: &Place, kind: Kind) -> Result<Self> {
        let _lock = place.lock()?;
        Self::prepare(place, kind)
    }

    /// The guest's kernel version.
    #[must_use]
    pub fn kernel_version(&self) -> &str {
        self.modules.version()
    }

    /// The kernel that boots on a PC; none in a kit of another kind.
    #[must_use]
    pub fn kernel(&self) -> Option<&Path> {
        self.machine.as_ref().map(|machine| machine.kernel.as_path())
    }

    /// QEMU's other programs: a folder to be searched for `qemu-storage-daemon`, which is a peer of
    /// ours in comparisons.
    ///
    /// # Errors
    /// When QEMU has not been fetched, or the program cannot be prepared.
    pub fn peers(place: &Place) -> Result<PathBuf> {
        let (root, packages) = (cached(place, &QEMU)?, cached(place, &TOOLS)?);
        root.runnable("usr/bin/qemu-storage-daemon", &packages)?;
        Ok(root.runnables())
    }

    /// The kind of guest this boots.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The unpacked packages that its program is from.
    #[must_use]
    pub const fn root(&self) -> &Root {
        &self.root
    }

    /// The unpacked packages with tools that prepare programs.
    pub(crate) const fn packages(&self) -> &Root {
        &self.packages
    }

    /// The unpacked packages with iperf3 and ethtool.
    #[must_use]
    pub const fn network(&self) -> &Root {
        &self.network
    }

    /// A shell with tools that needs no libraries, for the host's side of a scene.
    pub(crate) fn busybox(&self) -> &Path {
        self.tools.busybox()
    }

    fn prepare(place: &Place, kind: Kind) -> Result<Self> {
        let packages = cached(place, &TOOLS)?;
        let tools = Tools::prepare(place, &packages)?;
        match kind {
            Kind::Uml => Self::uml(place, &packages, tools),
            Kind::Qemu | Kind::NewQemu | Kind::LatestQemu => {
                Self::qemu(place, kind, &packages, tools)
            }
        }
    }

    fn uml(place: &Place, packages: &Root, tools: Tools) -> Result<Self> {
        let root = cached(place, &UML)?;
        let modules = Modules::of(&root.path("usr/lib/uml/modules"))?;
        // It executes itself again, so it has to find its C library without help.
        let program = root.runnable("usr/bin/linux.uml", packages)?;
        let (packages, network) = (packages.clone(), cached(place, &NETWORK)?);
        Ok(Self {
            kind: Kind::Uml,
            tools,
            modules,
            program,
            machine: None,
            root,
            packages,
            network,
        })
    }

    fn qemu(place: &Place, kind: Kind, packages: &Root, tools: Tools) -> Result<Self> {
        let set = match kind {
            Kind::LatestQemu => &LATEST_QEMU,
            Kind::NewQemu => &NEW_QEMU,
            Kind::Qemu | Kind::Uml => &QEMU,
        };
        let (root, kernel) = (cached(place, set)?, cached(place, &KERNEL)?);
        let folder = ["usr/lib/modules", "lib/modules"].map(|path| kernel.path(path));
        let folder = folder.iter().find(|path| path.exists()).unwrap_or(&folder[1]);
        modules::uncompress(folder, packages)?;
        let modules = Modules::of(folder)?;
        let program = root.runnable("usr/bin/qemu-system-x86_64", packages)?;
        let machine = Machine {
            kernel: kernel.path(format!("boot/vmlinuz-{}", modules.version())),
            firmware: ["usr/share/qemu", "usr/share/seabios"].map(|dir| root.path(dir)).into(),
            parts: root.path("usr/lib/x86_64-linux-gnu/qemu"),
            version: version(&output_of(Command::new(&program).arg("--version"))?)?,
        };
        let (packages, network) = (packages.clone(), cached(place, &NETWORK)?);
        Ok(Self { kind, tools, modules, program, machine: Some(machine), root, packages, network })
    }
}

fn cached(place: &Place, set: &PackageSet) -> Result<Root> {
    Root::cached(place, set).ok_or_else(|| Error::Missing {
        what: format!("the Debian package {} ({})", set.packages.join(", "), set.purpose),
        how: "`cargo xtask test` fetches it into target/guests, `cargo xtask demo --guest all` \
              what the demo needs; nothing is installed on the system"
            .into(),
    })
}

/// `QEMU emulator version 7.2.22 (...)`.
fn version(text: &str) -> Result<(u32, u32)> {
    let numbers = text.split_once("version ").map_or("", |(_, rest)| rest);
    let mut numbers = numbers.split(['.', ' ']).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => Err(Error::Packages {
            context: "asking QEMU for its version".into(),
            detail: format!("the answer is not understood: {text}"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qemu_versions() {
        assert_eq!(version("QEMU emulator version 7.2.22 (Debian 1:7.2)").unwrap(), (7, 2));
        assert_eq!(version("QEMU emulator version 10.0.2").unwrap(), (10, 0));
        assert!(version("bash: not found").is_err());
    }
}
