//! The disk that a series works on.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use e2e::RunDir;
use tempfile::TempDir;

use crate::error::{Error, Result};
use crate::sector::SECTOR;
use crate::series::Medium;
use crate::slow::{Delays, SlowDisk};

/// Where files lie in memory.
const MEMORY: &str = "/dev/shm";

/// A fresh disk, removed when dropped.
#[derive(Debug)]
pub(crate) struct Disk {
    path: PathBuf,
    sectors: u64,
    slow: Option<SlowDisk>,
    _folder: Option<TempDir>,
}

impl Disk {
    /// Makes a disk of zeroes. A slow one is seen by the calling thread and its children only.
    pub(crate) fn make(medium: Medium, run: &RunDir, seed: u64) -> Result<Self> {
        let sectors: u64 = if medium == Medium::Slow { 2048 } else { 8192 };
        let bytes = sectors * SECTOR as u64;
        let mut disk = Self { path: run.file("disk.img"), sectors, slow: None, _folder: None };
        match medium {
            Medium::Slow => {
                let folder = run.file("slow");
                std::fs::create_dir_all(&folder).map_err(Error::system("make a folder"))?;
                let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
                let slow = SlowDisk::mount(&folder, bytes, Delays::default(), seed)?;
                disk.path = slow.path().to_path_buf();
                disk.slow = Some(slow);
                return Ok(disk);
            }
            Medium::Tmpfs => {
                let folder = tempfile::tempdir_in(MEMORY);
                let folder = folder.map_err(Error::system("make a folder in /dev/shm"))?;
                disk.path = folder.path().join("disk.img");
                disk._folder = Some(folder);
            }
            Medium::Cached | Medium::Direct => {}
        }
        let file = File::create(&disk.path).map_err(Error::system("make the image"))?;
        file.set_len(bytes).map_err(Error::system("set the image's size"))?;
        Ok(disk)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn sectors(&self) -> u64 {
        self.sectors
    }

    pub(crate) fn slow(&self) -> Option<&SlowDisk> {
        self.slow.as_ref()
    }

    /// All its bytes, read past the daemon.
    pub(crate) fn read(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut file = File::open(&self.path).map_err(Error::system("open the image"))?;
        file.read_to_end(&mut bytes).map_err(Error::system("read the image"))?;
        Ok(bytes)
    }
}
