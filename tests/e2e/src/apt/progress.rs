//! A line that shows how far a download is.

use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

/// Watches a folder fill up until dropped.
#[derive(Debug)]
pub(super) struct Progress {
    stop: Option<Sender<()>>,
    watcher: Option<JoinHandle<()>>,
}

impl Progress {
    /// Starts to report on standard error: on a terminal in place, else a line each quarter.
    pub(super) fn watch(folder: &Path, what: &str, total: u64) -> Self {
        let (stop, stopped) = mpsc::channel();
        let (folder, what) = (folder.to_path_buf(), what.to_owned());
        let watcher = std::thread::spawn(move || {
            let mut shown = 0;
            loop {
                let ended = !matches!(
                    stopped.recv_timeout(Duration::from_millis(200)),
                    Err(RecvTimeoutError::Timeout)
                );
                shown = report(&what, size_of(&folder), total, shown, ended);
                if ended {
                    return;
                }
            }
        });
        Self { stop: Some(stop), watcher: Some(watcher) }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.stop.take());
        // The watcher only prints; a panic of its own is no reason to fail a download.
        let _ = self.watcher.take().map(JoinHandle::join);
    }
}

/// Returns the quarter that was shown last.
fn report(what: &str, done: u64, total: u64, shown: u64, ended: bool) -> u64 {
    let mut out = std::io::stderr();
    let line = format!("  {what}: {} of {}", megabytes(done), megabytes(total));
    let quarter = done.saturating_mul(4) / total.max(1);
    // A progress line that cannot be printed is not worth an error.
    let _ = if out.is_terminal() {
        write!(out, "\r{line}{}", if ended { "\n" } else { "" })
    } else if quarter > shown || (ended && shown < 4) {
        writeln!(out, "{line}")
    } else {
        Ok(())
    };
    quarter
}

fn size_of(folder: &Path) -> u64 {
    let mut folders: Vec<PathBuf> = vec![folder.to_path_buf()];
    let mut size = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(data) if data.is_dir() => folders.push(entry.path()),
                Ok(data) => size += data.len(),
                Err(_) => {}
            }
        }
    }
    size
}

/// A size in megabytes with one decimal, as Debian prints package sizes.
fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}
