//! The fork, and what makes its child a process of its own.
#![expect(unsafe_code, reason = "fork, and what a new process must set right before anything else")]

use std::io;
use std::mem::MaybeUninit;
use std::ops::RangeInclusive;
use std::os::fd::RawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use rustix::process::{Pid, setsid};
use rustix::thread::set_name;

use crate::error::{Error, Result};

/// What `ps` calls the process.
const NAME: &std::ffi::CStr = c"outrigger-sup";
/// The first descriptor that is not a standard stream.
const FIRST_FD: u32 = 3;

/// A fork copies the calling thread only; locks that others held would be held for ever.
pub(crate) fn check_single_thread() -> Result<()> {
    let failed = |source| Error::System { action: "count our threads (/proc)", source };
    let count = std::fs::read_dir("/proc/self/task").map_err(failed)?.count();
    if count == 1 { Ok(()) } else { Err(Error::Threads { count }) }
}

/// Runs `child` in a new process, which ends with it.
pub(crate) fn fork(child: impl FnOnce()) -> Result<Pid> {
    // SAFETY: this process has one thread, so the child's copy of it is whole.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // A panic must not unwind into what the VMM was about to do.
        let result = catch_unwind(AssertUnwindSafe(child));
        // SAFETY: ends the process, without the VMM's exit handlers and buffered output.
        unsafe { libc::_exit(i32::from(result.is_err())) };
    }
    Pid::from_raw(pid).filter(|_| pid > 0).ok_or_else(|| Error::System {
        action: "fork the supervisor",
        source: io::Error::last_os_error(),
    })
}

/// Takes the process out of the terminal's reach, names it, and lets go of all descriptors but the
/// standard streams and `keep`, which nothing started from here inherits by itself.
pub(crate) fn become_supervisor(keep: &[RawFd]) -> io::Result<()> {
    setsid()?;
    set_name(NAME)?;
    block_signals()?;
    close_all_but(keep)
}

/// The life of the supervisor follows the VMM's and nothing else.
fn block_signals() -> io::Result<()> {
    let mut all = MaybeUninit::uninit();
    // SAFETY: the set is writable memory; sigfillset initialises it.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: the set was initialised above; the old mask is not asked for.
    match unsafe { libc::sigprocmask(libc::SIG_SETMASK, all.as_ptr(), ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn close_all_but(keep: &[RawFd]) -> io::Result<()> {
    for range in gaps(keep) {
        // SAFETY: these belong to what the VMM had open before the fork. None of that is used, or even
        // dropped, in this process: it never returns to the VMM's code, and owns only what is in `keep`.
        close_range(range, 0)?;
    }
    // Some came from whoever started the VMM, and are for one daemon only.
    close_range(FIRST_FD..=u32::MAX, libc::CLOSE_RANGE_CLOEXEC)
}

fn close_range(range: RangeInclusive<u32>, flags: libc::c_uint) -> io::Result<()> {
    let flags = libc::c_int::try_from(flags).unwrap_or(0);
    // SAFETY: the caller owns the descriptors in the range, or closes none of them.
    match unsafe { libc::close_range(*range.start(), *range.end(), flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The ranges of descriptors between those that are kept.
fn gaps(keep: &[RawFd]) -> Vec<RangeInclusive<u32>> {
    let mut keep: Vec<u32> = keep.iter().filter_map(|fd| u32::try_from(*fd).ok()).collect();
    keep.sort_unstable();
    let mut gaps = Vec::new();
    let mut next = FIRST_FD;
    for fd in keep.into_iter().filter(|fd| *fd >= FIRST_FD) {
        if fd > next {
            gaps.push(next..=fd - 1);
        }
        next = fd + 1;
    }
    gaps.push(next..=u32::MAX);
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_lies_in_no_gap() {
        assert_eq!(gaps(&[]), [3..=u32::MAX]);
        assert_eq!(gaps(&[3, 4, 9, 1, 7, 7]), [5..=6, 8..=8, 10..=u32::MAX]);
    }

    #[test]
    fn a_process_with_threads_is_not_forked() {
        let (_keep, end) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || end.recv());
        assert!(matches!(check_single_thread(), Err(Error::Threads { count: 2.. })));
        drop((_keep, thread));
    }
}
