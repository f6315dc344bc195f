//! Packages unpacked side by side into a folder, and programs run from it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::progress::Progress;
use super::suite::{Apt, Available, Suite, retried};
use crate::error::{Error, Result, output_of};
use crate::place::Place;

/// Holds what was asked for, and so is complete; the versions follow.
const STAMP: &str = "packages.txt";

/// Packages that are used together, and where to look for them.
#[derive(Debug, Clone, Copy)]
pub struct PackageSet {
    /// The folder's name in the cache.
    pub name: &'static str,
    /// What it is good for, to be shown before it is fetched.
    pub purpose: &'static str,
    /// Tried in this order; a rolling suite may lack a package for some days.
    pub suites: &'static [Suite],
    /// Their dependencies are fetched as well.
    pub packages: &'static [&'static str],
    /// When not empty, only packages whose names begin so are unpacked, dependencies or not.
    pub keep: &'static [&'static str],
}

impl PackageSet {
    /// The first line of the stamp: a set that has changed is fetched again.
    fn request(&self) -> String {
        format!("{} {:?}", self.packages.join(" "), self.keep)
    }
}

/// A folder with unpacked packages, laid out as under `/`.
#[derive(Debug, Clone)]
pub struct Root {
    dir: PathBuf,
}

impl Root {
    /// The set as fetched earlier, if it is there and complete.
    #[must_use]
    pub fn cached(place: &Place, set: &PackageSet) -> Option<Self> {
        let dir = place.join(set.name);
        let stamp = fs::read_to_string(dir.join(STAMP)).ok()?;
        (stamp.lines().next() == Some(&set.request())).then_some(Self { dir })
    }

    /// The cached set, or the same fetched now, from the first suite that has it.
    ///
    /// # Errors
    /// The last suite's, when none has it.
    pub fn fetch(place: &Place, set: &PackageSet) -> Result<Self> {
        if let Some(root) = Self::cached(place, set) {
            return Ok(root);
        }
        let mut failure = None;
        for suite in set.suites {
            match Self::fetch_from(place, set, *suite) {
                Ok(root) => return Ok(root),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| Error::Packages {
            context: format!("fetching {}", set.name),
            detail: "no suite is named for it".into(),
        }))
    }

    fn fetch_from(place: &Place, set: &PackageSet, suite: Suite) -> Result<Self> {
        let apt = Apt::open(place, suite)?;
        let root = Self { dir: place.join(set.name) };
        let archives = place.join(format!("{}.archives", set.name));
        let packages = retried(|| {
            let mut packages = apt.closure(set.packages)?;
            packages.retain(|one| set.keeps(&one.name));
            empty(&archives)?;
            let what = format!("{} from {}", set.name, suite.name());
            let _progress = Progress::watch(&archives, &what, total(&packages));
            // A rolling suite may have moved on since its lists were read.
            apt.download(&packages, &archives).inspect_err(|_| drop(apt.update()))?;
            Ok(packages)
        })?;
        root.unpack(&archives)?;
        remove(&archives)?;
        root.stamp(set, suite, &packages)?;
        Ok(root)
    }

    fn unpack(&self, archives: &Path) -> Result<()> {
        empty(&self.dir)?;
        let entries = fs::read_dir(archives).map_err(Error::file("list", archives))?;
        for entry in entries.flatten() {
            output_of(Command::new("dpkg-deb").arg("-x").arg(entry.path()).arg(&self.dir))?;
        }
        for unread in ["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/iso-codes"]
        {
            remove(&self.dir.join(unread))?;
        }
        Ok(())
    }

    fn stamp(&self, set: &PackageSet, suite: Suite, packages: &[Available]) -> Result<()> {
        let mut text = format!("{}\n# from {}\n", set.request(), suite.name());
        for one in packages {
            text += &format!("{} {}\n", one.name, one.version);
        }
        let path = self.dir.join(STAMP);
        fs::write(&path, text).map_err(Error::file("write", path))
    }

    /// The version of a package whose name begins so.
    #[must_use]
    pub fn version(&self, prefix: &str) -> String {
        let stamp = fs::read_to_string(self.dir.join(STAMP)).unwrap_or_default();
        let line = stamp.lines().skip(2).find(|line| line.starts_with(prefix));
        line.and_then(|line| line.split_once(' ')).map_or("", |(_, version)| version).to_owned()
    }

    /// A path inside, whether it exists or not.
    #[must_use]
    pub fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        self.dir.join(inside)
    }

    /// The folders with shared libraries, for the loader.
    #[must_use]
    pub fn library_path(&self) -> OsString {
        let dirs = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"].map(|dir| self.path(dir));
        let present = dirs.iter().filter(|dir| dir.exists());
        present.map(|dir| dir.as_os_str()).collect::<Vec<_>>().join(":".as_ref())
    }

    /// The set's own program loader. (`lib64` has a link to it that leads out of the folder.)
    ///
    /// # Errors
    /// When the set has no C library.
    pub fn loader(&self) -> Result<PathBuf> {
        let dirs = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];
        let mut found = dirs.iter().map(|dir| self.path(dir).join("ld-linux-x86-64.so.2"));
        found.find(|path| path.exists()).ok_or_else(|| Error::Packages {
            context: format!("looking for the loader in {}", self.dir.display()),
            detail: "there is none".into(),
        })
    }

    /// A program of this set, run by the set's loader. It does not know its own path then, which
    /// few programs mind; see [`Self::runnable`] for those.
    ///
    /// # Errors
    /// When the set has no C library.
    pub fn command(&self, program: &str) -> Result<Command> {
        let mut command = Command::new(self.loader()?);
        command.arg("--library-path").arg(self.library_path()).arg(self.path(program));
        Ok(command)
    }

    /// The shared libraries that a program of this set loads, the loader not among them.
    ///
    /// # Errors
    /// When the loader cannot be run or finds one missing.
    pub fn libraries(&self, program: &Path) -> Result<Vec<PathBuf>> {
        let mut command = Command::new(self.loader()?);
        command.arg("--library-path").arg(self.library_path()).arg("--list").arg(program);
        let listed = output_of(&mut command)?;
        let paths = listed.lines().filter_map(|line| line.split_once(" => ")?.1.split(" (").next());
        Ok(paths.map(PathBuf::from).collect())
    }

    /// The folder of programs that [`Self::runnable`] has made.
    #[must_use]
    pub fn runnables(&self) -> PathBuf {
        self.path("runnable")
    }

    /// Copies a program of this set so that it runs with the set's own loader and libraries from
    /// anywhere, even when it executes itself again, and returns the copy's path. Done once.
    ///
    /// # Errors
    /// When the program is not there or cannot be changed.
    pub fn runnable(&self, program: &str, patchelf: &Self) -> Result<PathBuf> {
        let (original, folder) = (self.path(program), self.runnables());
        let patched = folder.join(original.file_name().unwrap_or_default());
        if patched.exists() {
            return Ok(patched);
        }
        fs::create_dir_all(&folder).map_err(Error::file("make", &folder))?;
        let draft = patched.with_extension("draft");
        fs::copy(&original, &draft).map_err(Error::file("copy", &original))?;
        let mut command = patchelf.command("usr/bin/patchelf")?;
        command.arg("--set-interpreter").arg(self.loader()?);
        command.args(["--force-rpath", "--set-rpath"]).arg(self.library_path()).arg(&draft);
        output_of(&mut command)?;
        fs::rename(&draft, &patched).map_err(Error::file("rename", &draft))?;
        Ok(patched)
    }
}

impl PackageSet {
    fn keeps(&self, name: &str) -> bool {
        self.keep.is_empty() || self.keep.iter().any(|prefix| name.starts_with(prefix))
    }
}

fn total(packages: &[Available]) -> u64 {
    packages.iter().map(|one| one.size).sum()
}

fn empty(dir: &Path) -> Result<()> {
    remove(dir)?;
    fs::create_dir_all(dir).map_err(Error::file("make", dir))
}

fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::file("remove", dir)(error))
        }
        _ => Ok(()),
    }
}
