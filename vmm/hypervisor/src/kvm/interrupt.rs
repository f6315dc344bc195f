//! Interrupting a vCPU that may be inside `KVM_RUN` on another thread.
//!
//! A flag in the page that a vCPU shares with KVM (`immediate_exit`) makes the next `KVM_RUN` return
//! at once; a signal makes the current one return. The flag is raised first, so whenever the signal
//! comes, before, in or after `KVM_RUN`, the interrupt is seen. The signal's handler does nothing.
#![expect(unsafe_code, reason = "a page shared with KVM, and signals to threads")]

use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, Ordering::SeqCst};

use kvm_bindings::kvm_run;
use rustix::mm::{MapFlags, ProtFlags};

use crate::{Error, Result, VcpuHandle};

/// How much of the shared page is mapped: what is needed is at its beginning.
const MAPPED: usize = 4096;

/// A vCPU, as seen by those who interrupt it.
#[derive(Debug)]
pub(super) struct Interrupt {
    page: NonNull<AtomicU8>,
    /// Somebody interrupted, and the vCPU has not noticed yet.
    pending: AtomicBool,
    /// The thread that runs the vCPU; 0 before the first run.
    thread: AtomicI32,
}

// SAFETY: the page is mapped as long as this lives, and only atomics in it are used.
unsafe impl Send for Interrupt {}
// SAFETY: as above.
unsafe impl Sync for Interrupt {}

impl Interrupt {
    /// For the vCPU behind `fd`.
    pub(super) fn new(fd: &impl AsRawFd) -> Result<Self> {
        let failed = Error::system("mapping a vCPU's page");
        // SAFETY: the descriptor is open as long as `fd` is borrowed.
        let fd = unsafe { BorrowedFd::borrow_raw(fd.as_raw_fd()) };
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice replaces nothing.
        let page = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), MAPPED, prot, MapFlags::SHARED, fd.as_fd(), 0)
        };
        let page = NonNull::new(page.map_err(&failed)?.cast());
        let page = page.ok_or_else(|| failed(rustix::io::Errno::FAULT))?;
        Ok(Interrupt { page, pending: AtomicBool::new(false), thread: AtomicI32::new(0) })
    }

    fn immediate_exit(&self) -> &AtomicU8 {
        let at = self.page.as_ptr().wrapping_add(offset_of!(kvm_run, immediate_exit));
        // SAFETY: within the mapping, which `self` keeps; KVM only reads this byte, and everything
        // in this process goes through this atomic.
        unsafe { &*at }
    }

    /// To be called by the vCPU's thread before it runs the guest.
    pub(super) fn running_here(&self) {
        let here = THREAD.with(|thread| *thread);
        if self.thread.load(SeqCst) != here {
            self.thread.store(here, SeqCst);
            unblock_signal();
        }
    }

    /// To be called by the vCPU's thread when a run was interrupted.
    pub(super) fn noticed(&self) {
        self.immediate_exit().store(0, SeqCst);
        self.pending.store(false, SeqCst);
    }

    /// Makes the vCPU's next run return at once, without this being an interrupt.
    pub(super) fn pass_through(&self) {
        self.immediate_exit().store(1, SeqCst);
    }

    /// Ends what [`Interrupt::pass_through`] began. Interrupts that came meanwhile are kept.
    pub(super) fn passed_through(&self) {
        self.immediate_exit().store(0, SeqCst);
        if self.pending.load(SeqCst) {
            self.immediate_exit().store(1, SeqCst);
        }
    }

    /// To be called when the vCPU is gone: no thread is signalled any more.
    pub(super) fn retire(&self) {
        self.thread.store(0, SeqCst);
    }
}

impl VcpuHandle for Interrupt {
    fn interrupt(&self) {
        self.pending.store(true, SeqCst);
        self.immediate_exit().store(1, SeqCst);
        let thread = self.thread.load(SeqCst);
        if thread != 0 {
            let process = std::process::id();
            // SAFETY: takes numbers only. If the thread is gone, nothing is signalled; if its number
            // belongs to another thread of ours by now, the handler does nothing there.
            unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGRTMIN()) };
        }
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this size; nobody can have a reference into it any more.
        let _ = unsafe { rustix::mm::munmap(self.page.as_ptr().cast(), MAPPED) };
    }
}

thread_local! {
    /// This thread's number: asked for once, not at each run.
    static THREAD: i32 = rustix::thread::gettid().as_raw_nonzero().get();
}

/// Installs the handler of the signal that interrupts `KVM_RUN`, once for the process.
pub(super) fn install_handler() -> Result<()> {
    static INSTALLED: OnceLock<Option<i32>> = OnceLock::new();
    let result = INSTALLED.get_or_init(|| {
        extern "C" fn nothing(_: libc::c_int) {}
        // SAFETY: all zeroes is a valid `sigaction`: no flags, so that system calls are interrupted.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
        // SAFETY: the handler does nothing, which is safe in any thread at any time.
        let result =
            unsafe { libc::sigaction(libc::SIGRTMIN(), &raw const action, std::ptr::null_mut()) };
        (result != 0).then(|| std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
    });
    match result {
        None => Ok(()),
        Some(errno) => Err(Error::Kvm {
            action: "handling signals",
            source: std::io::Error::from_raw_os_error(*errno),
        }),
    }
}

/// Lets this thread have the signal, whatever it inherited.
fn unblock_signal() {
    // SAFETY: all zeroes is a valid signal set.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is a signal set, and the signal exists.
    unsafe { libc::sigaddset(&raw mut set, libc::SIGRTMIN()) };
    // SAFETY: `set` is a signal set; the old one is not asked for. It cannot fail with this request.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut()) };
}
