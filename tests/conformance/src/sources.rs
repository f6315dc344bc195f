//! What the workspace's sources hold: files, and the names of tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::module_walk::Walk;
use crate::{Error, Result};

/// The sources of a workspace.
#[derive(Debug)]
pub struct Sources {
    workspace: PathBuf,
    tests: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Manifest {
    workspace: Option<Workspace>,
    package: Option<Package>,
}

#[derive(Deserialize)]
struct Workspace {
    members: Vec<String>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
}

impl Sources {
    /// Finds all tests of all packages, by following the modules of each of their targets. Tests
    /// that are ignored, or made by a macro, are none.
    ///
    /// # Errors
    /// When a manifest or a source file cannot be read.
    pub fn scan(workspace: &Path) -> Result<Self> {
        let mut tests = BTreeSet::new();
        for member in manifest(workspace)?.workspace.map(|w| w.members).unwrap_or_default() {
            let folder = workspace.join(member);
            let Some(package) = manifest(&folder)?.package else { continue };
            scan_package(&folder, &package.name, &mut tests)?;
        }
        Ok(Sources { workspace: workspace.to_owned(), tests })
    }

    /// Whether there is a test of this name.
    #[must_use]
    pub fn has_test(&self, name: &str) -> bool {
        self.tests.contains(name)
    }

    /// The names of all tests.
    pub fn tests(&self) -> impl Iterator<Item = &str> {
        self.tests.iter().map(String::as_str)
    }

    /// The text of a file of the workspace. None: there is no such file.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.workspace.join(path)).ok()
    }
}

fn manifest(folder: &Path) -> Result<Manifest> {
    let path = folder.join("Cargo.toml");
    let text = read(&path)?;
    toml::from_str(&text).map_err(|source| Error::Parse { path, source: Box::new(source) })
}

/// Units of the library and the program, then programs of integration tests.
fn scan_package(folder: &Path, package: &str, tests: &mut BTreeSet<String>) -> Result<()> {
    for root in ["src/lib.rs", "src/main.rs"].map(|root| folder.join(root)) {
        if root.is_file() {
            Walk::new(tests).root(&root, &[package])?;
        }
    }
    let Ok(entries) = fs::read_dir(folder.join("tests")) else { return Ok(()) };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let Some(name) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
        let root = if path.is_dir() { path.join("main.rs") } else { path.clone() };
        if root.is_file() && root.extension().is_some_and(|extension| extension == "rs") {
            Walk::new(tests).root(&root, &[package, name])?;
        }
    }
    Ok(())
}

pub(crate) fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}
