//! The files behind the device: written in full before a run, and settled between cells.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::fs::{Advice, fadvise};

use super::plan::Medium;

/// Each block of this size begins with a stamp, so that a reader can tell what it got.
pub(crate) const STAMPED_BLOCK: usize = 4096;
/// Bytes written at once; a whole number of blocks.
const CHUNK: usize = 1 << 20;

/// The stamp of the block at `offset`: never zero, and unlike those of its neighbours.
pub(crate) fn stamp(offset: u64) -> u64 {
    (offset / STAMPED_BLOCK as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A medium ready to be served.
pub(crate) struct Prepared {
    pub(crate) medium: Medium,
    /// Its file; none for null.
    pub(crate) path: Option<PathBuf>,
    pub(crate) size: u64,
}

impl Prepared {
    /// Makes a medium of `size` bytes, with a file in `directory` unless it is null.
    ///
    /// # Errors
    /// No room, or what the operating system says.
    pub(crate) fn new(medium: Medium, directory: &Path, size: u64) -> Result<Self> {
        if medium == Medium::Null {
            return Ok(Self { medium, path: None, size });
        }
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot make the directory {}", directory.display()))?;
        let name = format!("outrigger-bench-{:?}.img", medium).to_lowercase();
        let path = directory.join(name);
        // From here on the file is removed when this is dropped, however far it was written.
        let prepared = Self { medium, path: Some(path.clone()), size };
        write_stamped(&path, size)
            .with_context(|| format!("cannot write {size} bytes to {}", path.display()))?;
        prepared.settle()?;
        Ok(prepared)
    }

    /// Brings the medium into the state in which each cell is to find it: nothing waiting to be
    /// written, and in the page cache all of it (`Cached`) or none of it (`Direct`).
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) fn settle(&self) -> Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        match self.medium {
            Medium::Null | Medium::Tmpfs => {}
            Medium::Cached => {
                file.sync_all()?;
                read_all(file)?;
            }
            Medium::Direct => {
                file.sync_all()?;
                fadvise(&file, 0, None, Advice::DontNeed)?;
            }
        }
        Ok(())
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}

/// Writes a file of stamped blocks, otherwise random so that no storage can make it small.
fn write_stamped(path: &Path, size: u64) -> Result<()> {
    ensure!(size > 0 && size.is_multiple_of(CHUNK as u64), "the size is to be whole MiB");
    let mut file = File::create(path)?;
    let mut chunk = vec![0; CHUNK];
    fastrand::fill(&mut chunk);
    let mut offset = 0;
    while offset < size {
        for block in chunk.chunks_exact_mut(STAMPED_BLOCK) {
            let (head, _) = block.split_at_mut(size_of::<u64>());
            head.copy_from_slice(&stamp(offset).to_le_bytes());
            offset += STAMPED_BLOCK as u64;
        }
        file.write_all(&chunk)?;
    }
    file.sync_all()?;
    Ok(())
}

fn read_all(mut file: File) -> Result<()> {
    let mut chunk = vec![0; CHUNK];
    while file.read(&mut chunk)? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn every_block_carries_its_stamp_and_the_file_goes_with_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let prepared = Prepared::new(Medium::Cached, directory.path(), 2 << 20).unwrap();
        let path = prepared.path.clone().unwrap();
        let file = File::open(&path).unwrap();
        for offset in [0, 4096, (2 << 20) - 4096] {
            let mut bytes = [0; 8];
            file.read_exact_at(&mut bytes, offset).unwrap();
            assert_eq!(u64::from_le_bytes(bytes), stamp(offset));
        }
        drop(prepared);
        assert!(!path.exists());
    }

    #[test]
    fn odd_sizes_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Prepared::new(Medium::Tmpfs, directory.path(), 12345).is_err());
    }
}
