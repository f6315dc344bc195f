//! Programs for the inside of a guest.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use crate::apt::Root;
use crate::cpio::Archive;
use crate::error::{Error, Result, output_of};
use crate::place::Place;

/// This crate's own program, which is compiled for the guest when it has changed.
const OWN_SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/guest/io.rs");
/// Programs with shared libraries, by their place in the packages.
const LINKED: [&str; 2] = ["mke2fs", "e2fsck"];

/// What goes into every guest: a shell, `/programs`, and libraries for them.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    busybox: PathBuf,
    own: PathBuf,
    linked: Vec<PathBuf>,
    libraries: Vec<PathBuf>,
    loader: PathBuf,
}

impl Tools {
    /// Finds them in the fetched packages, and compiles this crate's own.
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
            own: compiled(place)?,
            linked,
            libraries,
            loader: packages.loader()?,
        })
    }

    /// Puts them into an initrd.
    pub(crate) fn add_to(&self, archive: &mut Archive) -> Result<()> {
        add(archive, "bin", &self.busybox)?;
        for program in self.linked.iter().chain([&self.own]) {
            add(archive, "programs", program)?;
        }
        for library in &self.libraries {
            add(archive, "lib/x86_64-linux-gnu", library)?;
        }
        add(archive, "lib64", &self.loader)
    }
}

fn add(archive: &mut Archive, folder: &str, file: &Path) -> Result<()> {
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

/// Compiles `guest/io.rs` without shared libraries. It needs no crate, so the compiler is called
/// directly: a cargo that is running the tests could not be asked.
fn compiled(place: &Place) -> Result<PathBuf> {
    let program = place.join("guest-io");
    if modified(&program) > modified(Path::new(OWN_SOURCE)) {
        return Ok(program);
    }
    let draft = place.join("guest-io.draft");
    let mut command = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    command.args(["--edition", "2024", "--crate-name", "guest_io", "-O"]);
    command.args(["-C", "target-feature=+crt-static", "-C", "strip=symbols", "-o"]);
    output_of(command.arg(&draft).arg(OWN_SOURCE))?;
    fs::rename(&draft, &program).map_err(Error::file("rename", &draft))?;
    Ok(program)
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|data| data.modified()).ok()
}
