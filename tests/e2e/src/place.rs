//! Where fetched and made things are kept: `target/guests/`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{Error, Result};

/// The cache folder. Everything in it can be deleted; it is fetched or made again when needed.
#[derive(Debug, Clone)]
pub struct Place {
    root: PathBuf,
}

impl Place {
    /// The workspace's own `target/guests`, made if need be.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn of_workspace() -> Result<Self> {
        let root = target_dir().join("guests");
        fs::create_dir_all(&root).map_err(Error::file("make", &root))?;
        // Debian's loader and patched programs need a path that holds from any working directory.
        let root = root.canonicalize().map_err(Error::file("resolve", &root))?;
        Ok(Self { root })
    }

    /// A path inside the cache.
    #[must_use]
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(name)
    }

    /// Waits until no other process fetches into the cache, and keeps others out until dropped.
    ///
    /// # Errors
    /// When the lock file cannot be made or locked.
    pub fn lock(&self) -> Result<File> {
        let path = self.join(".lock");
        let file = File::create(&path).map_err(Error::file("make", &path))?;
        file.lock().map_err(Error::file("lock", &path))?;
        Ok(file)
    }
}

/// Cargo's target folder for this workspace.
#[must_use]
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace_dir().join("target"), |dir| workspace_dir().join(dir))
}

/// The workspace's top folder.
#[must_use]
pub fn workspace_dir() -> PathBuf {
    // This file lives two folders below it.
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .map(Path::to_path_buf)
        .unwrap_or_default()
}

/// Before the pid in the name of a run's folder in the cache.
const RUN: &str = "run-";
/// Before the pid in the name of a run's folder of sockets in the system's temporary folder.
const SOCKETS: &str = "outrigger-";

/// A folder for one run of one guest, removed when dropped: disks, initrd, pid files.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    /// Logs stay, until a run of the same name; those of a test that failed until another one fails.
    logs: PathBuf,
    name: String,
    /// Socket paths are limited to 107 bytes, and a checkout may lie deep: sockets get their own.
    sockets: tempfile::TempDir,
}

impl RunDir {
    /// Makes a fresh one, and clears away what processes that are gone have left behind.
    ///
    /// # Errors
    /// When the folders cannot be made.
    pub fn create(place: &Place, name: &str) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let pid = std::process::id();
        sweep(&place.root, RUN);
        sweep(&std::env::temp_dir(), SOCKETS);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = place.join(format!("{RUN}{pid}-{number}"));
        let logs = place.join("logs");
        for folder in [&path, &logs] {
            fs::create_dir_all(folder).map_err(Error::file("make", folder))?;
        }
        let sockets = tempfile::Builder::new()
            .prefix(&format!("{SOCKETS}{pid}-"))
            .tempdir()
            .map_err(Error::file("make a folder in", std::env::temp_dir()))?;
        Ok(Self { path, logs, name: name.to_owned(), sockets })
    }

    /// An empty file for what a guest or daemon of this run prints; it stays for a look afterwards.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn log(&self, of: &str) -> Result<PathBuf> {
        let path = self.logs.join(format!("{}.{of}.log", self.name));
        File::create(&path).map_err(Error::file("make", &path))?;
        Ok(path)
    }

    /// What the run is called in messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A file in the folder.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A socket's path, short enough for `sockaddr_un`.
    #[must_use]
    pub fn socket(&self, name: &str) -> PathBuf {
        self.sockets.path().join(name)
    }
}

impl RunDir {
    /// A second try would write over the logs of the first: they get names of their own.
    fn keep_logs_of_failure(&self) {
        let ours = format!("{}.", self.name);
        for entry in fs::read_dir(&self.logs).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let log = name.to_str().filter(|name| name.starts_with(&ours));
            if let Some(log) = log.and_then(|name| name.strip_suffix(".log")) {
                // Without it there is the message of the failure.
                let _ = fs::copy(entry.path(), self.logs.join(format!("{log}.failed")));
            }
        }
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep_logs_of_failure();
        }
        // The next run's sweep takes what could not be removed now.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes the folders of processes that are gone; their names begin with `prefix` and a pid.
fn sweep(parent: &Path, prefix: &str) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(prefix)) else { continue };
        let Some(Ok(pid)) = rest.split('-').next().map(str::parse::<u32>) else { continue };
        if !Path::new("/proc").join(pid.to_string()).exists() {
            // What cannot be removed belongs to someone else.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
