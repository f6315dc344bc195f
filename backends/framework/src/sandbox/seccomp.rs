//! seccomp: the system calls that a back-end makes once it is set up. All others fail with `EPERM`.
//!
//! Calls whose arguments decide are permitted with certain arguments only: memory is never mapped
//! executable, `clone` makes threads and no processes, `prctl` names threads, signals go to this process.
//! `clone3` keeps its arguments in memory, where seccomp cannot look; it fails with `ENOSYS`, whereupon
//! the C library uses `clone`. Of two filters the stricter answer counts, so that one has a filter of
//! its own.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, apply_filter_all_threads,
};

use super::{FileAccess, Sandbox};
use crate::error::{Error, Result};

type Number = libc::c_long;
/// For each system call the conditions under which it is permitted; none: always.
type Rules = BTreeMap<Number, Vec<SeccompRule>>;

/// Guest memory, the heap, and pages given back.
const MEMORY: &[Number] = &[
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_memfd_create,
    libc::SYS_mincore,
    libc::SYS_mlock,
    libc::SYS_mremap,
    libc::SYS_munlock,
    libc::SYS_munmap,
];

/// Threads, their signals, and the end.
const THREADS: &[Number] = &[
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getcpu,
    libc::SYS_getpid,
    libc::SYS_getrusage,
    libc::SYS_gettid,
    libc::SYS_membarrier,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
];

/// Sockets that are open already, and those that come from them.
const SOCKETS: &[Number] = &[
    libc::SYS_accept4,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
];

/// Waiting for events.
const EVENTS: &[Number] = &[
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    libc::SYS_eventfd2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
];

/// The data path. Rings are made before, with their restrictions: through one without any, most of what
/// this filter refuses could be had.
const IO_URING: &[Number] = &[libc::SYS_io_uring_enter, libc::SYS_io_uring_register];

/// Files that are open already.
const FILES: &[Number] = &[
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fallocate,
    libc::SYS_fcntl,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_lseek,
    libc::SYS_newfstatat,
    libc::SYS_pipe2,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_statx,
    libc::SYS_sync_file_range,
    libc::SYS_write,
    libc::SYS_writev,
];

/// Time and chance.
const TIME: &[Number] = &[
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getrandom,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_gettime,
    libc::SYS_timerfd_settime,
];

/// The standard library's way to make a descriptor non-blocking, close it on `execve`, and ask what can
/// be read.
const IOCTLS: &[libc::Ioctl] = &[libc::FIONBIO, libc::FIOCLEX, libc::FIONREAD];

/// A new thread has these flags as shown, whatever the others are: it is a thread, in no new namespace
/// and not traced.
const CLONE_FLAGS_MASK: libc::c_int = libc::CLONE_THREAD
    | libc::CLONE_PTRACE
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;
const CLONE_FLAGS: libc::c_int = libc::CLONE_THREAD;

/// Takes all other system calls from all threads of this process. Returns how many are left.
pub(super) fn restrict(sandbox: &Sandbox) -> Result<usize> {
    let rules = rules(sandbox).map_err(failed)?;
    let permitted = rules.len();
    let hidden = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let enosys = compile(hidden, SeccompAction::Allow, errno(libc::ENOSYS)).map_err(failed)?;
    let eperm = compile(rules, errno(libc::EPERM), SeccompAction::Allow).map_err(failed)?;
    apply_filter_all_threads(&enosys).map_err(failed)?;
    apply_filter_all_threads(&eperm).map_err(failed)?;
    Ok(permitted)
}

fn failed(error: impl Into<seccompiler::Error>) -> Error {
    Error::Confine { action: "restrict system calls (seccomp)", source: Box::new(error.into()) }
}

fn errno(number: libc::c_int) -> SeccompAction {
    SeccompAction::Errno(number.unsigned_abs())
}

fn compile(
    rules: Rules,
    others: SeccompAction,
    these: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    let architecture = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, others, these, architecture)?.try_into()
}

fn rules(sandbox: &Sandbox) -> Result<Rules, BackendError> {
    let always = [MEMORY, THREADS, SOCKETS, EVENTS, IO_URING, FILES, TIME, &sandbox.syscalls]
        .concat()
        .into_iter()
        .map(|number| (number, Vec::new()));
    let mut rules = Rules::from_iter(always);
    rules.extend(conditional_rules()?);
    rules.insert(libc::SYS_ioctl, ioctl_rules(&sandbox.ioctls)?);
    if sandbox.needs(FileAccess::Read) || sandbox.needs(FileAccess::Write) {
        // Landlock says where.
        rules.insert(libc::SYS_openat, Vec::new());
        rules.insert(libc::SYS_getdents64, Vec::new());
    }
    if sandbox.needs(FileAccess::Remove) {
        rules.insert(libc::SYS_unlinkat, Vec::new());
    }
    if sandbox.needs(FileAccess::Connect) {
        let family = condition(0, SeccompCmpOp::Eq, register(libc::AF_UNIX))?;
        rules.insert(libc::SYS_socket, vec![SeccompRule::new(vec![family])?]);
        rules.insert(libc::SYS_connect, Vec::new());
    }
    Ok(rules)
}

/// Permitted with certain arguments only.
fn conditional_rules() -> Result<Rules, BackendError> {
    let not_executable = || condition(2, SeccompCmpOp::MaskedEq(register(libc::PROT_EXEC)), 0);
    let thread = SeccompCmpOp::MaskedEq(register(CLONE_FLAGS_MASK));
    let own_process = condition(0, SeccompCmpOp::Eq, std::process::id().into())?;
    let only = |condition| SeccompRule::new(vec![condition]).map(|rule| vec![rule]);
    Ok(Rules::from([
        (libc::SYS_mmap, only(not_executable()?)?),
        (libc::SYS_mprotect, only(not_executable()?)?),
        (libc::SYS_clone, only(condition(0, thread, register(CLONE_FLAGS))?)?),
        // Left to the other filter.
        (libc::SYS_clone3, Vec::new()),
        (libc::SYS_prctl, only(condition(0, SeccompCmpOp::Eq, register(libc::PR_SET_NAME))?)?),
        // Limits are read, not set.
        (libc::SYS_prlimit64, only(condition(2, SeccompCmpOp::Eq, 0)?)?),
        (libc::SYS_tgkill, only(own_process)?),
    ]))
}

fn ioctl_rules(more: &[u32]) -> Result<Vec<SeccompRule>, BackendError> {
    let own = IOCTLS.iter().map(|&command| command & u64::from(u32::MAX));
    own.chain(more.iter().copied().map(u64::from))
        .map(|command| {
            let equal =
                SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, command)?;
            SeccompRule::new(vec![equal])
        })
        .collect()
}

fn condition(
    argument: u8,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Qword, operator, value)
}

/// A small non-negative constant of the C headers as a register's value.
const fn register(constant: libc::c_int) -> u64 {
    constant.unsigned_abs() as u64
}
