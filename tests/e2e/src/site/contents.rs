//! What a site holds: programs, and a kernel and an initrd for the guests there.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::libraries;
use crate::apt::Root;
use crate::cpio::Archive;
use crate::daemon::Programs;
use crate::error::{Error, Result};
use crate::initrd;
use crate::kit::Kit;
use crate::place::{Place, RunDir};
use crate::tools::{add, compiled};

const OUTER: &[u8] = include_bytes!("../../guest/outer.sh");
/// What the outer guest's kernel needs: the line to the host, KVM, and what daemons may ask for.
const OUTER_MODULES: [&str; 5] = ["virtio_pci", "virtio_console", "kvm_amd", "tun", "8021q"];
/// What a guest of `outrigger` needs; drivers without a device do no harm.
const INNER_MODULES: [&str; 11] = [
    "virtio_pci",
    "virtio_mmio",
    "virtio_blk",
    "virtio_net",
    "virtio_console",
    "virtio_balloon",
    "virtiofs",
    "vmw_vsock_virtio_transport",
    "button",
    "evdev",
    "8021q",
];
/// What QEMU loads into a guest that boots a kernel directly.
const FIRMWARE: [&str; 5] =
    ["bios-microvm.bin", "bios-256k.bin", "linuxboot_dma.bin", "kvmvapic.bin", "pvh.bin"];
/// This crate's programs for a site itself: `guest/agent.rs`, and so on.
const HELPERS: [&str; 3] = ["agent", "boot", "vsock"];
const LIBRARIES: &str = "lib/x86_64-linux-gnu";

/// What a site is to hold.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    own: Vec<String>,
    further: Vec<PathBuf>,
    /// Whether guests there measure their network.
    network: bool,
    foreign: Vec<Foreign>,
}

/// Programs of a set of Debian packages, with libraries of their own.
#[derive(Debug, Clone)]
struct Foreign {
    root: Root,
    /// By their places in the packages.
    programs: Vec<String>,
}

impl Contents {
    /// The VMM and the daemons: packages of this workspace, each with a program of its name.
    pub const PROGRAMS: [&str; 5] =
        ["outrigger", "outrigger-blk", "outrigger-net", "outrigger-console", "outrigger-balloon"];

    /// The VMM and this workspace's daemons.
    #[must_use]
    pub fn new() -> Self {
        let own = Self::PROGRAMS.map(str::to_owned).into();
        Self { own, ..Self::default() }
    }

    /// Another program of this machine, by its path; it gets its shared libraries.
    #[must_use]
    pub fn with_program(mut self, program: PathBuf) -> Self {
        self.further.push(program);
        self
    }

    /// What measures a network, for the guests there.
    #[must_use]
    pub const fn with_network(mut self) -> Self {
        self.network = true;
        self
    }

    /// Programs of Debian packages too, by their places in them; they are started as plain commands.
    #[must_use]
    pub fn with_peers(mut self, root: &Root, programs: &[&str]) -> Self {
        let programs = programs.iter().map(|name| (*name).to_owned()).collect();
        self.foreign.push(Foreign { root: root.clone(), programs });
        self
    }

    /// Makes the initrd of an outer guest with all that.
    pub(super) fn write_initrd(
        &self,
        place: &Place,
        (run, kit): (&RunDir, &Kit),
        programs: &Programs,
        path: &Path,
    ) -> Result<()> {
        let mut archive = Archive::default();
        for folder in initrd::FOLDERS.iter().chain(&["inner", "site"]) {
            archive.directory(folder);
        }
        archive.file("init", 0o755, OUTER);
        initrd::add_modules(&mut archive, kit, &OUTER_MODULES)?;
        kit.tools.add_to(&mut archive)?;
        for name in HELPERS {
            add(&mut archive, "programs", &compiled(place, name)?)?;
        }
        for program in self.of_this_machine(programs)? {
            let name = file_name(&program);
            // Later entries take the place of earlier ones, so this machine's own C library wins.
            for library in libraries::of(&program)? {
                let is_loader = library.to_string_lossy().contains("/ld-linux");
                add(&mut archive, if is_loader { "lib64" } else { LIBRARIES }, &library)?;
            }
            let stripped = libraries::stripped(&program, &run.file(&name));
            let content = fs::read(&stripped).map_err(Error::file("read", &stripped))?;
            archive.file(&format!("programs/{name}"), 0o755, &content);
        }
        for (number, foreign) in self.foreign.iter().enumerate() {
            foreign.add_to(&mut archive, &format!("peers{number}"))?;
        }
        for (name, file) in self.inner(run, kit)? {
            let content = fs::read(&file).map_err(Error::file("read", &file))?;
            archive.file(&format!("inner/{name}"), 0o644, &content);
        }
        fs::write(path, archive.finish()).map_err(Error::file("write", path))
    }

    /// Lays out the same below a folder of this machine, with links.
    pub(super) fn link(
        &self,
        place: &Place,
        (run, kit): (&RunDir, &Kit),
        programs: &Programs,
        folder: &Path,
    ) -> Result<()> {
        for folder in ["inner", "site", "programs"].map(|name| folder.join(name)) {
            fs::create_dir_all(&folder).map_err(Error::file("make", &folder))?;
        }
        let link = |target: &Path, name: String| {
            symlink(target, folder.join(name)).map_err(Error::file("link to", target))
        };
        for program in self.of_this_machine(programs)? {
            link(&program, format!("programs/{}", file_name(&program)))?;
        }
        for foreign in &self.foreign {
            foreign.write_scripts(kit, &folder.join("programs"))?;
        }
        for name in HELPERS {
            link(&compiled(place, name)?, format!("programs/guest-{name}"))?;
        }
        for (name, file) in self.inner(run, kit)? {
            link(&file, format!("inner/{name}"))?;
        }
        Ok(())
    }

    /// Kernel and initrd for the guests at the site; a job is appended to the initrd later.
    fn inner(&self, run: &RunDir, kit: &Kit) -> Result<Vec<(&'static str, PathBuf)>> {
        let path = run.file("inner-initrd");
        initrd::write(&path, kit, &INNER_MODULES, "")?;
        if self.network {
            initrd::append_network(&path, kit)?;
        }
        let kernel = kit.machine.as_ref().map(|machine| machine.kernel.clone());
        let kernel = kernel.ok_or_else(|| Error::Missing {
            what: "a kernel that boots on a PC".into(),
            how: "this kind of guest has none; use the kit of a QEMU".into(),
        })?;
        Ok(vec![("kernel", kernel), ("initrd", path)])
    }

    fn of_this_machine(&self, programs: &Programs) -> Result<Vec<PathBuf>> {
        let own = self.own.iter().map(|name| programs.path(name));
        own.chain(self.further.iter().cloned().map(Ok)).collect()
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

impl Foreign {
    /// Puts the programs into a folder of an archive, with their libraries and firmware.
    fn add_to(&self, archive: &mut Archive, folder: &str) -> Result<()> {
        let (library, share) = (format!("{folder}/lib"), format!("{folder}/share"));
        for folder in [folder, &library, &share] {
            archive.directory(folder);
        }
        let (loader, mut libraries) = (self.root.loader()?, Vec::new());
        for program in self.paths() {
            add(archive, folder, &program)?;
            libraries.extend(self.root.libraries(&program)?);
            let name = file_name(&program);
            let start = format!(
                "/{library}/{} --library-path /{library} /{folder}/{name}",
                file_name(&loader)
            );
            let script = script(&name, &start, &[format!("/{share}")]);
            archive.file(&format!("programs/{name}"), 0o755, script.as_bytes());
        }
        libraries.push(loader);
        libraries.sort();
        libraries.dedup();
        for file in libraries {
            add(archive, &library, &file)?;
        }
        for file in self.firmware().flat_map(|folder| FIRMWARE.map(|name| folder.join(name))) {
            if file.exists() {
                add(archive, &share, &file)?;
            }
        }
        Ok(())
    }

    /// Makes the programs startable by their names on this machine.
    fn write_scripts(&self, kit: &Kit, folder: &Path) -> Result<()> {
        let firmware: Vec<_> = self.firmware().map(|path| path.display().to_string()).collect();
        for program in &self.programs {
            let start = self.root.runnable(program, kit.packages())?;
            let name = file_name(Path::new(program));
            let (path, text) =
                (folder.join(&name), script(&name, &start.display().to_string(), &firmware));
            fs::write(&path, text).map_err(Error::file("write", &path))?;
            let executable = fs::Permissions::from_mode(0o755);
            fs::set_permissions(&path, executable).map_err(Error::file("change", &path))?;
        }
        Ok(())
    }

    fn paths(&self) -> impl Iterator<Item = PathBuf> {
        self.programs.iter().map(|program| self.root.path(program))
    }

    fn firmware(&self) -> impl Iterator<Item = PathBuf> {
        ["usr/share/qemu", "usr/share/seabios"].into_iter().map(|folder| self.root.path(folder))
    }
}

/// Starts a program; QEMU is told where its firmware is.
fn script(name: &str, start: &str, firmware: &[String]) -> String {
    let folders = if name.starts_with("qemu-system") { firmware } else { &[] };
    let folders: String = folders.iter().map(|folder| format!(" -L {folder}")).collect();
    format!("#!/bin/sh\nexec {start}{folders} \"$@\"\n")
}
