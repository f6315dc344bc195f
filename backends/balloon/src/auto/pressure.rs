//! The host's memory pressure (PSI): how much of the time work waits for memory.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};

/// A file such as `/proc/pressure/memory`, opened before the process was confined.
#[derive(Clone, Debug)]
pub struct Pressure(Arc<OwnedFd>);

impl Pressure {
    /// Opens the file and tries it.
    ///
    /// # Errors
    /// [`Error::Pressure`] when it is not there, or not such a file.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |source| Error::Pressure { path: path.to_path_buf(), source };
        let pressure = Pressure(Arc::new(File::open(path).map_err(failed)?.into()));
        match pressure.read() {
            Some(_) => Ok(pressure),
            None => Err(failed(std::io::ErrorKind::InvalidData.into())),
        }
    }

    /// Share of the last ten seconds in which something waited for memory, in percent.
    pub fn read(&self) -> Option<f64> {
        let mut text = [0; 512];
        let length = rustix::io::pread(&self.0, &mut text, 0).ok()?;
        parse(str::from_utf8(text.get(..length)?).ok()?)
    }
}

/// Finds `avg10` of the line `some`.
fn parse(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let word = line.split_whitespace().find_map(|word| word.strip_prefix("avg10="))?;
    word.parse().ok().filter(|share| (0.0..=100.0).contains(share))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words() {
        let text = "some avg10=12.50 avg60=1.00 avg300=0.10 total=123\n\
                    full avg10=3.00 avg60=0.00 avg300=0.00 total=1\n";
        assert_eq!(parse(text), Some(12.5));
        assert_eq!(parse("full avg10=3.00 avg60=0.00"), None);
        assert_eq!(parse("some avg10=nan"), None);
        assert_eq!(parse(""), None);
    }
}
