//! An eventfd that somebody else owns, as kvm-ioctls wants it.
#![expect(unsafe_code, reason = "kvm-ioctls takes an owned eventfd where a borrowed one would do")]

use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd};

use vmm_sys_util::eventfd::EventFd;

/// Calls `with` with the eventfd behind `fd`. KVM, which it is for, takes a reference of its own.
pub(super) fn lend<T>(fd: BorrowedFd<'_>, with: impl FnOnce(&EventFd) -> T) -> T {
    // SAFETY: the descriptor is open while `fd` is borrowed, which is as long as this function
    // runs, and is not closed here, since the `EventFd` is never dropped.
    let eventfd = ManuallyDrop::new(unsafe { EventFd::from_raw_fd(fd.as_raw_fd()) });
    with(&eventfd)
}
