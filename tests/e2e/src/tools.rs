//! Programs for the inside of a guest.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use crate::apt::Root;
use crate::cpio::Archive;
use crate::error::{Error, Result, output_of};
use crate::place::Place;

/// This crate's own programs, which are compiled for the guest when they have changed: `guest-io` of
/// `guest/io.rs`, and so on.
const OWN: [&str; 5] = ["io", "memory", "port", "kexec", "vsock"];
/// Programs with shared libraries, by their place in the packages.
const LINKED: [&str; 2] = ["mke2fs", "e2fsck"];

/// What goes into every guest: a shell, `/programs`, and libraries for them.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    busybox: PathBuf,
    own: Vec<PathBuf>,
    linked: Vec<PathBuf>,
    libraries: Vec<PathBuf>,
    loader: PathBuf,
}

impl Tools {
    /// Finds them in the fetched packages, and compiles this crate's own ones.
    pub(crate) fn prepare(place: &Place, packages: &Root) -> Result<Self> {
        let mut linked = Vec::new();
        let mut libraries = Vec::new();
        for name in LINKED {
            let program = find(packages, &["sbin", "usr/sbin"], name)?;
            libraries.extend(packages.libraries(&program)?);
            linked.push(program);
        }
        libraries.sort();
        libraries.dedup();
        Ok(Self {
            busybox: find(packages, &["bin", "usr/bin"], "busybox")?,
            own: OWN.iter().map(|name| compiled(place, name)).collect::<Result<_>>()?,
            linked,
            libraries,
            loader: packages.loader()?,
        })
    }

    /// The shell.
    pub(crate) fn busybox(&self) -> &Path {
        &self.busybox
    }

    /// Puts them into an initrd.
    pub(crate) fn add_to(&self, archive: &mut Archive) -> Result<()> {
        add(archive, "bin", &self.busybox)?;
        for program in self.linked.iter().chain(&self.own) {
            add(archive, "programs", program)?;
        }
        for library in &self.libraries {
            add(archive, "lib/x86_64-linux-gnu", library)?;
        }
        add(archive, "lib64", &self.loader)
    }
}

/// Puts a file, as a program, into a folder of an archive.
pub(crate) fn add(archive: &mut Archive, folder: &str, file: &Path) -> Result<()> {
    let content = fs::read(file).map_err(Error::file("read", file))?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    archive.file(&format!("{folder}/{name}"), 0o755, &content);
    Ok(())
}

fn find(packages: &Root, folders: &[&str], name: &str) -> Result<PathBuf> {
    let mut found = folders.iter().map(|folder| packages.path(folder).join(name));
    found.find(|path| path.is_file()).ok_or_else(|| Error::Missing {
        what: format!("the program {name} among the fetched tools"),
        how: "delete target/guests/tools and run the command again".into(),
    })
}

/// Compiles a file of `guest/` without shared libraries. It needs no crate, so the compiler is called
/// directly: a cargo that is running the tests could not be asked.
pub(crate) fn compiled(place: &Place, name: &str) -> Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("guest/{name}.rs"));
    let program = place.join(format!("guest-{name}"));
    if modified(&program) > modified(&source) {
        return Ok(program);
    }
    let draft = place.join(format!("guest-{name}.draft"));
    let mut command = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    command.args(["--edition", "2024", "--crate-name", &format!("guest_{name}"), "-O"]);
    command.args(["-C", "target-feature=+crt-static", "-C", "strip=symbols", "-o"]);
    output_of(command.arg(&draft).arg(&source))?;
    fs::rename(&draft, &program).map_err(Error::file("rename", &draft))?;
    Ok(program)
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|data| data.modified()).ok()
}
