//! Each test confines a process of its own: this test binary, started again for that test alone.
#![expect(unsafe_code, reason = "what the sandbox refuses is mostly not wrapped")]

use std::{
    env,
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::AsFd,
        unix::net::{UnixListener, UnixStream},
    },
    process::Command,
    ptr,
    sync::Arc,
    time::Duration,
};

use rustix::{
    fs::{FallocateFlags, MemfdFlags},
    io::Errno,
};

use super::*;
use crate::engine::{
    Config, Engine, Event, FileIndex, Io, Op, ReservedRing, Submitted, Token, Uring, Wait,
};
use crate::memory::Mapping;
use crate::program::{listener::Connector, socket_file::SocketAccess};

/// Names the test that the started process is for.
const CHILD: &str = "OUTRIGGER_SANDBOX_TEST";

/// Runs `body` in a process of its own, on its main thread.
fn in_a_process(name: &str, body: impl FnOnce()) {
    if env::var(CHILD).as_deref() == Ok(name) {
        return body();
    }
    let test = format!("{}::{name}", module_path!().split_once("::").unwrap().1);
    let output = Command::new(env::current_exe().unwrap())
        .args([&test, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, name)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {text}{complaint}", output.status);
    assert!(text.contains("1 passed"), "{text}");
}

fn confine() -> Report {
    Sandbox::new(SandboxMode::On).apply().unwrap()
}

fn outcome(result: libc::c_long) -> Result<libc::c_long, Errno> {
    if result < 0 {
        Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap())
    } else {
        Ok(result)
    }
}

/// A system call without a wrapper; `arguments` must suit it.
macro_rules! syscall {
    ($number:expr $(, $argument:expr)*) => {
        // SAFETY: the arguments are numbers, null pointers or pointers to constants, as the call wants.
        outcome(unsafe { libc::syscall($number $(, $argument)*) })
    };
}

fn map(protection: libc::c_int) -> Result<(), Errno> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping at a place that the kernel chooses overlaps nothing.
    let place = unsafe { libc::mmap(ptr::null_mut(), 4096, protection, flags, -1, 0) };
    if place == libc::MAP_FAILED {
        return Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap());
    }
    // SAFETY: the mapping was just made and nobody points into it.
    assert_eq!(unsafe { libc::madvise(place, 4096, libc::MADV_DONTNEED) }, 0);
    // SAFETY: as above.
    let executable = unsafe { libc::mprotect(place, 4096, libc::PROT_READ | libc::PROT_EXEC) };
    assert_eq!(outcome(executable.into()), Err(Errno::PERM));
    // SAFETY: as above.
    assert_eq!(unsafe { libc::munmap(place, 4096) }, 0);
    Ok(())
}

#[test]
fn files_programs_and_networks_are_out_of_reach() {
    in_a_process("files_programs_and_networks_are_out_of_reach", || {
        confine();
        let refused = Err(Errno::PERM);
        assert_eq!(File::open("/etc/passwd").unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert!(File::create("/tmp/outrigger-sandbox-test").is_err());
        assert!(std::fs::read_dir("/").is_err());
        assert!(std::fs::remove_file("/tmp/outrigger-sandbox-test").is_err());
        assert!(Command::new("/bin/true").status().is_err());
        let nothing = ptr::null::<libc::c_char>();
        assert_eq!(syscall!(libc::SYS_execve, c"/bin/true".as_ptr(), nothing, nothing), refused);
        for family in [libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, libc::AF_UNIX] {
            assert_eq!(syscall!(libc::SYS_socket, family, libc::SOCK_DGRAM, 0), refused);
        }
        assert_eq!(syscall!(libc::SYS_ptrace, libc::PTRACE_TRACEME, 0, 0, 0), refused);
        assert_eq!(syscall!(libc::SYS_kill, 1, 0), refused);
        assert_eq!(syscall!(libc::SYS_tgkill, 1, 1, 0), refused);
        assert_eq!(syscall!(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0), refused);
        assert_eq!(syscall!(libc::SYS_clone, libc::CLONE_NEWUSER, 0, 0, 0, 0), refused);
        assert_eq!(syscall!(libc::SYS_unshare, libc::CLONE_NEWUSER), refused);
        assert_eq!(syscall!(libc::SYS_clone3, 0, 0), Err(Errno::NOSYS));
        assert_eq!(syscall!(libc::SYS_ioctl, 0, libc::TIOCSTI, c"x".as_ptr()), refused);
        assert_eq!(syscall!(libc::SYS_prctl, libc::PR_SET_DUMPABLE, 1), refused);
        assert_eq!(syscall!(libc::SYS_setuid, 0), refused);
        assert_eq!(syscall!(libc::SYS_mount, 0, 0, 0, 0, 0), refused);
        assert_eq!(syscall!(libc::SYS_bpf, 0, 0, 0), refused);
    });
}

#[test]
fn memory_is_mapped_but_never_executable() {
    in_a_process("memory_is_mapped_but_never_executable", || {
        confine();
        map(libc::PROT_READ | libc::PROT_WRITE).unwrap();
        assert_eq!(map(libc::PROT_READ | libc::PROT_EXEC), Err(Errno::PERM));
        let big = vec![1_u8; 64 << 20];
        assert_eq!(big.last(), Some(&1));
    });
}

#[test]
fn threads_are_started_named_and_pinned() {
    in_a_process("threads_are_started_named_and_pinned", || {
        let cpu = rustix::thread::sched_getcpu();
        confine();
        let worker = std::thread::Builder::new().name("worker".into()).spawn(move || {
            crate::cpus::pin_current_thread(cpu).unwrap();
            std::thread::sleep(Duration::from_millis(1));
            assert!(File::open("/etc/passwd").is_err());
            std::thread::current().name().map(str::to_owned)
        });
        assert_eq!(worker.unwrap().join().unwrap().as_deref(), Some("worker"));
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || sender.send(7).unwrap());
        assert_eq!(receiver.recv_timeout(Duration::from_secs(5)), Ok(7));
    });
}

#[test]
fn a_panic_in_a_thread_is_survived() {
    in_a_process("a_panic_in_a_thread_is_survived", || {
        confine();
        assert!(std::thread::spawn(|| panic!("as planned")).join().is_err());
    });
}

#[test]
fn open_sockets_and_events_go_on() {
    use rustix::event::{EventfdFlags, epoll, eventfd};
    in_a_process("open_sockets_and_events_go_on", || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let mut client = UnixStream::connect(&path).unwrap();
        confine();
        let (mut server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        client.write_all(b"ping").unwrap();
        let mut buffer = [0; 4];
        server.read_exact(&mut buffer).unwrap();
        send_and_receive_a_descriptor(&client, &server);

        let event = eventfd(1, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        epoll::add(&epoll, &event, epoll::EventData::new_u64(1), epoll::EventFlags::IN).unwrap();
        let none =
            epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };
        assert_eq!(epoll::wait(&epoll, &mut [none; 4], None), Ok(1));
        // The folder cannot be removed from in here.
        std::mem::forget(folder);
    });
}

fn send_and_receive_a_descriptor(from: &UnixStream, to: &UnixStream) {
    use rustix::net::{
        RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
        recvmsg, sendmsg,
    };
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [from.as_fd()];
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    sendmsg(from, &[io::IoSlice::new(b"x")], &mut control, SendFlags::empty()).unwrap();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(to, &mut [io::IoSliceMut::new(&mut byte)], &mut control, RecvFlags::empty()).unwrap();
    assert_eq!(control.drain().count(), 1);
}

#[test]
fn open_files_go_on() {
    use rustix::{fs, io::ReadWriteFlags};
    in_a_process("open_files_go_on", || {
        let file = tempfile::tempfile().unwrap();
        confine();
        fs::fallocate(&file, FallocateFlags::empty(), 0, 8192).unwrap();
        let data = [io::IoSlice::new(b"data")];
        rustix::io::pwritev2(&file, &data, 4096, ReadWriteFlags::empty()).unwrap();
        fs::fdatasync(&file).unwrap();
        let mut found = [0; 4];
        let mut buffers = [io::IoSliceMut::new(&mut found)];
        rustix::io::preadv2(&file, &mut buffers, 4096, ReadWriteFlags::empty()).unwrap();
        assert_eq!(&found, b"data");
        fs::fcntl_lock(&file, fs::FlockOperation::NonBlockingLockExclusive).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 8192);
        file.set_len(100).unwrap();
        let memfd = fs::memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
        fs::ftruncate(&memfd, 4096).unwrap();
    });
}

/// Asked for the first time after the sandbox has closed: whoever wants to read it in `/proc` finds
/// that shut, and some libraries take that as a reason to panic.
#[test]
fn the_kernel_is_asked_about_itself() {
    in_a_process("the_kernel_is_asked_about_itself", || {
        confine();
        assert!(rustix::param::page_size().is_power_of_two());
        assert!(rustix::param::clock_ticks_per_second() > 0);
        let _ = rustix::param::linux_hwcap();
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        assert!(now.tv_sec > 0 || now.tv_nsec > 0);
        assert!(std::thread::available_parallelism().is_ok());
    });
}

#[test]
fn time_goes_on() {
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    in_a_process("time_goes_on", || {
        confine();
        std::thread::sleep(Duration::from_millis(1));
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC).unwrap();
        let soon = Timespec { tv_sec: 0, tv_nsec: 1000 };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: soon };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &once).unwrap();
        assert_eq!(rustix::io::read(&timer, &mut [0; 8]), Ok(8));
        // A hash map wants random keys.
        assert!(std::collections::HashMap::from([(1, 2)]).contains_key(&1));
    });
}

#[test]
fn an_io_uring_that_was_set_aside_goes_on() {
    in_a_process("an_io_uring_that_was_set_aside_goes_on", || {
        let Ok(mut ring) = ReservedRing::make(1, 8, true) else {
            eprintln!("io_uring is not permitted on this machine: nothing to show");
            return;
        };
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        confine();
        let memory = Mapping::owned(4096).unwrap();
        // One engine after the other on the thread that the ring has come to belong to.
        let worker = std::thread::spawn(move || {
            for _ in 0..2 {
                assert_eq!(write_by(&mut ring, &file, &memory), 4096);
            }
        });
        worker.join().unwrap();
    });
}

/// Writes by an engine on this ring. Returns how much that was.
fn write_by(ring: &mut ReservedRing, file: &File, memory: &Mapping) -> u32 {
    let commands = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
    let mut engine = Uring::new(ring, &Config::new(1, Arc::new(commands))).unwrap();
    engine.files(vec![Arc::new(file.try_clone().unwrap().into())]).unwrap();
    let from = [memory.lend(0, 4096).unwrap()];
    let write = Op::Write { file: FileIndex(0), offset: 0, from: &from, durable: false };
    if let Submitted::Now(result) = engine.submit(&write, Token(1)) {
        return result.unwrap();
    }
    let mut events = Vec::new();
    loop {
        engine.turn(Wait::ForEver, &mut events).unwrap();
        for event in events.drain(..) {
            if let Event::Done(completion) = event {
                return completion.result.unwrap();
            }
        }
    }
}

#[test]
fn a_hijacked_daemon_makes_no_io_uring_of_its_own() {
    in_a_process("a_hijacked_daemon_makes_no_io_uring_of_its_own", || {
        let reserved = ReservedRing::make(1, 8, true);
        confine();
        assert_eq!(
            io_uring::IoUring::new(4).err().and_then(|error| error.raw_os_error()),
            Some(libc::EPERM)
        );
        // 120 bytes of parameters, zeroed: anything beyond the sandbox would take them.
        let parameters = [0_u8; 120];
        let refused = Err(Errno::PERM);
        assert_eq!(syscall!(libc::SYS_io_uring_setup, 4, parameters.as_ptr()), refused);
        // One that was set aside gives no more: not even a nop, which is not among its operations.
        let Ok(mut reserved) = reserved else { return };
        assert_eq!(reserved.try_nop(), Err(Errno::ACCESS));
    });
}

#[test]
fn the_socket_file_is_removed_at_the_end() {
    in_a_process("the_socket_file_is_removed_at_the_end", || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let listener = Listener::bind(&path, SocketAccess::default()).unwrap();
        Sandbox::new(SandboxMode::On).listener(&listener).apply().unwrap();
        drop(listener);
        assert!(!path.exists());
        std::mem::forget(folder);
    });
}

#[test]
fn a_front_end_that_listens_is_connected_to_again() {
    in_a_process("a_front_end_that_listens_is_connected_to_again", || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("front.sock");
        let _front_end = UnixListener::bind(&path).unwrap();
        let endpoint = Endpoint::Connecting(Connector::new(&path).unwrap());
        Sandbox::new(SandboxMode::On).endpoint(&endpoint).apply().unwrap();
        let Endpoint::Connecting(mut connector) = endpoint else { unreachable!() };
        assert!(connector.attempt().unwrap().is_some());
        assert!(connector.attempt().unwrap().is_some());
        let refused = syscall!(libc::SYS_socket, libc::AF_INET, libc::SOCK_STREAM, 0);
        assert_eq!(refused, Err(Errno::PERM));
        std::mem::forget(folder);
    });
}

#[test]
fn only_named_directories_stay_reachable() {
    in_a_process("only_named_directories_stay_reachable", || {
        let folder = tempfile::tempdir().unwrap();
        let (read, write) = (folder.path().join("r"), folder.path().join("w"));
        for directory in [&read, &write] {
            std::fs::create_dir(directory).unwrap();
            std::fs::write(directory.join("file"), "x").unwrap();
        }
        let report = Sandbox::new(SandboxMode::On)
            .directory(&read, FileAccess::Read)
            .directory(&write, FileAccess::Write)
            .apply()
            .unwrap();
        assert_eq!(std::fs::read(read.join("file")).unwrap(), b"x");
        std::fs::write(write.join("new"), "y").unwrap();
        assert!(std::fs::remove_file(write.join("new")).is_err());
        if matches!(report, Report::On { landlock: LandlockState::Abi(_), .. }) {
            assert!(std::fs::write(read.join("new"), "y").is_err());
            assert!(File::open("/etc/passwd").is_err());
        } else {
            eprintln!("this kernel has no Landlock: files outside are not out of reach");
        }
        std::mem::forget(folder);
    });
}

#[test]
fn a_device_keeps_its_own_calls() {
    in_a_process("a_device_keeps_its_own_calls", || {
        let (pipe, _writer) = io::pipe().unwrap();
        // BLKGETSIZE64, which a pipe does not know.
        const SIZE: u32 = 0x8008_1272;
        let report = Sandbox::new(SandboxMode::On)
            .ioctls(&[SIZE])
            .syscalls(&[libc::SYS_getppid])
            .apply()
            .unwrap();
        let raw = std::os::fd::AsRawFd::as_raw_fd(&pipe);
        assert_eq!(syscall!(libc::SYS_ioctl, raw, SIZE, 0), Err(Errno::NOTTY));
        assert_eq!(syscall!(libc::SYS_ioctl, raw, 0x1277, 0), Err(Errno::PERM));
        assert!(syscall!(libc::SYS_getppid).is_ok());
        assert!(report.to_string().contains("system calls, capabilities 0x0"), "{report}");
    });
}

#[test]
fn threads_that_run_already_are_confined_too() {
    in_a_process("threads_that_run_already_are_confined_too", || {
        let (go, wait) = std::sync::mpsc::channel();
        let early = std::thread::spawn(move || {
            wait.recv().unwrap();
            File::open("/etc/passwd").is_err()
        });
        confine();
        go.send(()).unwrap();
        assert!(early.join().unwrap());
    });
}

#[test]
fn off_is_off() {
    in_a_process("off_is_off", || {
        let report = Sandbox::new(SandboxMode::Off).apply().unwrap();
        assert_eq!(report, Report::Off);
        assert_eq!(report.to_string(), "off");
        assert_eq!(serde_json::to_value(&report).unwrap(), serde_json::json!({"mode": "off"}));
        File::open("/etc/passwd").unwrap();
    });
}

#[test]
fn a_directory_that_is_missing_is_named() {
    in_a_process("a_directory_that_is_missing_is_named", || {
        let sandbox = Sandbox::new(SandboxMode::On).directory("/no/such/place", FileAccess::Read);
        let error = sandbox.apply().unwrap_err();
        assert!(error.to_string().contains("/no/such/place"), "{error}");
    });
}
