//! seccomp: the system calls that each kind of thread makes while the guest runs. All others fail with
//! `EPERM`.
//!
//! Calls whose arguments decide are permitted with certain arguments only: memory is never mapped
//! executable, sockets are Unix sockets, signals go to this process, and of KVM's requests a thread has
//! those of its own work. No kind starts threads or processes, or opens files.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule,
};

use super::ThreadKind;

type Number = libc::c_long;
/// For each system call the conditions under which it is permitted; none: always.
type Rules = BTreeMap<Number, Vec<SeccompRule>>;

/// Memory of the process, locks, open descriptors, time, and the end.
const EVERY: &[Number] = &[
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_preadv2,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_yield,
    libc::SYS_sigaltstack,
    libc::SYS_write,
    libc::SYS_writev,
];

/// The serial port writes from a vCPU's thread, also to a socket.
const VCPU: &[Number] = &[libc::SYS_recvfrom, libc::SYS_sendto];

/// The connection to a back-end, made again and again, and what is shared over it.
const FRONT_END: &[Number] = &[
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_dup,
    libc::SYS_eventfd2,
    libc::SYS_fallocate,
    libc::SYS_ftruncate,
    libc::SYS_getsockopt,
    libc::SYS_memfd_create,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
];

/// Events, clients, loading the guest anew from files that are open, and taking everything down.
const MAIN: &[Number] = &[
    libc::SYS_accept4,
    libc::SYS_dup,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd2,
    libc::SYS_getrusage,
    libc::SYS_getsockopt,
    libc::SYS_lseek,
    libc::SYS_newfstatat,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_pwrite64,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_rt_sigaction,
    libc::SYS_sendfile,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_statx,
    libc::SYS_timerfd_settime,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_wait4,
    libc::SYS_waitid,
];

/// The type of KVM's requests, and the numbers of those that connect and raise interrupts and connect
/// doorbells, which guests cause on any thread. Which way the data goes, and how much, is not looked at.
const KVM: u32 = 0xae;
const KVM_WIRING: &[u32] = &[
    0x61, // KVM_IRQ_LINE
    0x6a, // KVM_SET_GSI_ROUTING
    0x76, // KVM_IRQFD
    0x79, // KVM_IOEVENTFD
    0xa5, // KVM_SIGNAL_MSI
];
/// A vCPU's own: running, and being read and set by its thread.
const KVM_VCPU: &[u32] = &[
    0x80, // KVM_RUN
    0x81, // KVM_GET_REGS
    0x82, // KVM_SET_REGS
    0x83, // KVM_GET_SREGS
    0x84, // KVM_SET_SREGS
    0x85, // KVM_TRANSLATE
    0x88, // KVM_GET_MSRS
    0x89, // KVM_SET_MSRS
    0x8c, // KVM_GET_FPU
    0x8d, // KVM_SET_FPU
    0x8e, // KVM_GET_LAPIC
    0x8f, // KVM_SET_LAPIC
    0x98, // KVM_GET_MP_STATE
    0x99, // KVM_SET_MP_STATE
    0x9f, // KVM_GET_VCPU_EVENTS
    0xa0, // KVM_SET_VCPU_EVENTS
    0xa1, // KVM_GET_DEBUGREGS
    0xa2, // KVM_SET_DEBUGREGS
    0xa4, // KVM_GET_XSAVE
    0xa6, // KVM_GET_XCRS
    0xa7, // KVM_SET_XCRS
    0xad, // KVM_KVMCLOCK_CTRL
    0xbe, // KVM_GET_NESTED_STATE
    0xbf, // KVM_SET_NESTED_STATE
];
/// The clock stands still while the VM is paused; what was written is known; memory goes away at the end.
const KVM_VM: &[u32] = &[
    0x42, // KVM_GET_DIRTY_LOG
    0x46, // KVM_SET_USER_MEMORY_REGION
    0x7b, // KVM_SET_CLOCK
    0x7c, // KVM_GET_CLOCK
];
/// The terminal, and the standard library's ways with sockets.
const OTHER_IOCTLS: &[libc::Ioctl] = &[
    libc::FIOCLEX,
    libc::FIONBIO,
    libc::FIONREAD,
    libc::TCGETS,
    libc::TCGETS2,
    libc::TCSETS,
    libc::TCSETS2,
    libc::TCSETSF,
    libc::TCSETSF2,
    libc::TCSETSW,
    libc::TCSETSW2,
    libc::TIOCGPTN,
    libc::TIOCGWINSZ,
];

/// The filter of a kind of thread.
pub(super) fn program(kind: ThreadKind) -> Result<BpfProgram, BackendError> {
    let (calls, requests): (_, &[&[u32]]) = match kind {
        ThreadKind::Main => (MAIN, &[KVM_WIRING, KVM_VM]),
        ThreadKind::Vcpu => (VCPU, &[KVM_WIRING, KVM_VCPU]),
        ThreadKind::FrontEnd => (FRONT_END, &[KVM_WIRING]),
    };
    let always = EVERY.iter().chain(calls).map(|number| (*number, Vec::new()));
    let mut rules = Rules::from_iter(always);
    rules.extend(conditional(kind)?);
    rules.insert(libc::SYS_ioctl, ioctls(&requests.concat())?);
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let architecture = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, refused, SeccompAction::Allow, architecture)?.try_into()
}

/// Permitted with certain arguments only.
fn conditional(kind: ThreadKind) -> Result<Rules, BackendError> {
    let not_executable = || only(2, SeccompCmpOp::MaskedEq(register(libc::PROT_EXEC)), 0);
    let own_process = || only(0, SeccompCmpOp::Eq, std::process::id().into());
    let unix = || only(0, SeccompCmpOp::Eq, register(libc::AF_UNIX));
    let mut rules = Rules::from([
        (libc::SYS_mmap, not_executable()?),
        (libc::SYS_mprotect, not_executable()?),
        (libc::SYS_tgkill, own_process()?),
    ]);
    if kind == ThreadKind::FrontEnd {
        rules.insert(libc::SYS_socket, unix()?);
        rules.insert(libc::SYS_socketpair, unix()?);
    }
    Ok(rules)
}

fn ioctls(kvm: &[u32]) -> Result<Vec<SeccompRule>, BackendError> {
    let kind_and_number = SeccompCmpOp::MaskedEq(0xffff);
    let kvm = kvm.iter().map(|number| (kind_and_number.clone(), u64::from(KVM << 8 | number)));
    let others = OTHER_IOCTLS.iter().map(|request| (SeccompCmpOp::Eq, request & 0xffff_ffff));
    kvm.chain(others)
        .map(|(operator, value)| {
            let request = SeccompCondition::new(1, SeccompCmpArgLen::Dword, operator, value)?;
            SeccompRule::new(vec![request])
        })
        .collect()
}

fn only(
    argument: u8,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<Vec<SeccompRule>, BackendError> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Qword, operator, value)?;
    Ok(vec![SeccompRule::new(vec![condition])?])
}

/// A small non-negative constant of the C headers as a register's value.
const fn register(constant: libc::c_int) -> u64 {
    constant.unsigned_abs() as u64
}
