//! The dirty log of a migration.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use virtio_spec::vhost_user::{self, LOG_PAGE_SIZE};

use super::pending::Then;
use super::{Session, Workers};
use crate::Error;
use crate::device::Service;
use crate::error::Result;
use crate::memory::DirtyLog;
use crate::worker::Command;

/// Where writes are logged, and whether they are.
#[derive(Debug, Default)]
pub(super) struct Log {
    bits: Option<Arc<DirtyLog>>,
    /// Bytes of the log.
    size: u64,
    /// VHOST_F_LOG_ALL was acknowledged.
    all: bool,
}

impl Log {
    pub(super) fn set_all(&mut self, all: bool) {
        self.all = all;
    }

    /// The log, while writes are to be logged.
    pub(super) fn in_use(&self) -> Option<Arc<DirtyLog>> {
        self.bits.clone().filter(|_| self.all)
    }

    /// Whether `len` bytes from guest address `start` have their bits in the log; without a log
    /// there is nothing to exceed.
    pub(super) fn covers(&self, start: u64, len: u64) -> bool {
        let Some(last) = len.checked_sub(1).and_then(|n| start.checked_add(n)) else {
            return false;
        };
        self.bits.is_none() || last / LOG_PAGE_SIZE / 8 < self.size
    }
}

impl Session {
    pub(super) fn set_log_base<S: Service, W: Workers<S>>(
        &mut self,
        log: &vhost_user::Log,
        fd: Option<OwnedFd>,
        workers: &mut W,
    ) -> Result<Then> {
        // An address without a descriptor is of no use to another process.
        let Some(fd) = fd else { return Err(Error::LogWithoutFd) };
        let bits = match DirtyLog::map(&fd, log.mmap_offset, log.mmap_size) {
            Ok(bits) => bits,
            Err(error) => {
                tracing::warn!(%error, "the dirty log cannot be used");
                return Ok(Then::Reply(wire::Reply::ack(false)));
            }
        };
        let all = self.log.all;
        let new = Log { bits: Some(Arc::new(bits)), size: log.mmap_size, all };
        let packed = self.is_packed();
        if let Some(ring) = self.rings.iter().find(|ring| !ring.used_is_covered(&new, packed)) {
            return Err(Error::UsedLogRange { queue: ring.queue() });
        }
        self.log = new;
        if all {
            let bits = self.log.in_use();
            self.tell_all(workers, || Command::Log(bits.clone()));
        }
        // The front-end waits for this reply even though it did not ask for it: some for any, some for
        // what they sent.
        Ok(Then::Reply(wire::Reply::Log(*log)))
    }
}
