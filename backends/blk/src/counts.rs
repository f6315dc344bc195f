//! What `stats` shows of a disk: requests by kind.

use std::sync::Arc;

use framework::stats::Counter;
use serde_json::{Map, Value};

use crate::request::{EraseKind, Request};

/// Counters of one worker, its only writer.
#[derive(Debug, Default)]
pub struct Counts {
    /// Read requests.
    pub reads: Counter,
    /// Write requests.
    pub writes: Counter,
    /// Flush requests.
    pub flushes: Counter,
    /// Requests for the serial.
    pub get_ids: Counter,
    /// Discard requests.
    pub discards: Counter,
    /// Write-zeroes requests.
    pub write_zeroes: Counter,
    /// Secure-erase requests.
    pub secure_erases: Counter,
    /// Bytes that were to be read from the image.
    pub bytes_read: Counter,
    /// Bytes that were to be written to the image.
    pub bytes_written: Counter,
    /// Requests that ended with S_IOERR.
    pub errors: Counter,
    /// Requests that ended with S_UNSUPP.
    pub unsupported: Counter,
}

impl Counts {
    /// Counts a request that begins.
    #[inline]
    pub(crate) fn begins(&self, request: &Request) {
        match request {
            Request::Read(extent) => {
                self.reads.add(1);
                self.bytes_read.add(extent.len);
            }
            Request::Write(extent) => {
                self.writes.add(1);
                self.bytes_written.add(extent.len);
            }
            Request::Flush => self.flushes.add(1),
            Request::GetId => self.get_ids.add(1),
            Request::Erase(EraseKind::Discard, _) => self.discards.add(1),
            Request::Erase(EraseKind::WriteZeroes, _) => self.write_zeroes.add(1),
            Request::Erase(EraseKind::SecureErase, _) => self.secure_erases.add(1),
        }
    }

    fn rows(&self) -> [(&'static str, u64); 11] {
        [
            ("reads", self.reads.get()),
            ("writes", self.writes.get()),
            ("flushes", self.flushes.get()),
            ("get_ids", self.get_ids.get()),
            ("discards", self.discards.get()),
            ("write_zeroes", self.write_zeroes.get()),
            ("secure_erases", self.secure_erases.get()),
            ("bytes_read", self.bytes_read.get()),
            ("bytes_written", self.bytes_written.get()),
            ("errors", self.errors.get()),
            ("unsupported", self.unsupported.get()),
        ]
    }

    /// The sums over all workers.
    pub(crate) fn sum(workers: &[Arc<Counts>]) -> Map<String, Value> {
        let mut sums = Counts::default().rows();
        for counts in workers {
            for ((_, sum), (_, value)) in sums.iter_mut().zip(counts.rows()) {
                *sum = sum.wrapping_add(value);
            }
        }
        sums.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Extent;

    #[test]
    fn sums_run_over_all_workers() {
        let workers = [Arc::new(Counts::default()), Arc::new(Counts::default())];
        for counts in &workers {
            counts.begins(&Request::Read(Extent { offset: 0, len: 4096 }));
            counts.begins(&Request::Flush);
        }
        let sums = Counts::sum(&workers);
        assert_eq!(sums["reads"], 2);
        assert_eq!(sums["bytes_read"], 8192);
        assert_eq!(sums["flushes"], 2);
        assert_eq!(sums["errors"], 0);
    }
}
