//! Which way to a file: whether its reads and writes can be done at once, on the worker itself.
//!
//! Handing an operation to another thread (the kernel's, for io_uring, or a pool's) costs several
//! microseconds and a wake-up. It buys nothing where the call would not have waited anyway.

use std::io::IoSliceMut;
use std::os::fd::OwnedFd;

use rustix::fs::OFlags;
use rustix::io::{Errno, ReadWriteFlags};

/// `f_type` of ramfs, which libc does not name.
const RAMFS_MAGIC: u64 = 0x8584_58f6;

/// `f_type` of tmpfs, and of a memfd.
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// The way to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Reads, writes and syncs are plain calls on the worker: they copy memory and never wait.
    /// io_uring has no non-blocking path into such a file and would hand each to a kernel thread.
    AtOnce,
    /// What is read is often in the page cache: worth a try with RWF_NOWAIT, for an engine that
    /// otherwise pays for another thread. (io_uring makes this try by itself.)
    TryRead,
    /// Everything may wait.
    Later,
}

/// What is known of a file.
#[derive(Clone, Copy, Debug)]
struct Facts {
    /// It lives in memory alone.
    in_memory: bool,
    /// The kernel can read it without waiting.
    reads_without_waiting: bool,
    /// It was opened with O_DIRECT, where even RWF_NOWAIT waits for the disk.
    direct: bool,
}

impl Way {
    /// The way to `file`. A file that cannot be asked is one that may wait.
    pub(super) fn to(file: &OwnedFd) -> Self {
        Way::choose(Facts::of(file))
    }

    fn choose(facts: Facts) -> Self {
        match facts {
            Facts { in_memory: true, reads_without_waiting: false, .. } => Way::AtOnce,
            Facts { reads_without_waiting: true, direct: false, .. } => Way::TryRead,
            _ => Way::Later,
        }
    }
}

impl Facts {
    #[expect(clippy::cast_sign_loss, reason = "a magic number: its type differs by architecture")]
    fn of(file: &OwnedFd) -> Self {
        let magic = rustix::fs::fstatfs(file).map_or(0, |stat| stat.f_type as u64 & 0xffff_ffff);
        let direct = rustix::fs::fcntl_getfl(file).is_ok_and(|f| f.contains(OFlags::DIRECT));
        Facts {
            in_memory: matches!(magic, TMPFS_MAGIC | RAMFS_MAGIC),
            reads_without_waiting: reads_without_waiting(file),
            direct,
        }
    }
}

/// Reads one byte to find out: an empty read is answered before the flag is looked at.
fn reads_without_waiting(file: &OwnedFd) -> bool {
    let mut byte = [0];
    let into = &mut [IoSliceMut::new(&mut byte)];
    matches!(rustix::io::preadv2(file, into, 0, ReadWriteFlags::NOWAIT), Ok(_) | Err(Errno::AGAIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_in_memory_are_served_at_once() {
        let file = rustix::fs::memfd_create("way", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&file, 4096).unwrap();
        // A kernel that learns to read tmpfs without waiting makes the ring the better way.
        let expected = if reads_without_waiting(&file) { Way::TryRead } else { Way::AtOnce };
        assert_eq!(Way::to(&file), expected);
    }

    #[test]
    fn files_that_cannot_be_asked_may_wait() {
        let (_reader, writer) = rustix::pipe::pipe().unwrap();
        assert_eq!(Way::to(&writer), Way::Later);
    }

    #[test]
    fn direct_reads_are_never_tried() {
        let facts = Facts { in_memory: false, reads_without_waiting: true, direct: true };
        assert_eq!(Way::choose(facts), Way::Later);
        assert_eq!(Way::choose(Facts { direct: false, ..facts }), Way::TryRead);
    }
}
