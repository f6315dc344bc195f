//! Each test confines a thread, never the test's own: there is no way back.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use super::*;
use crate::config::settings::Settings;

fn config(toml: &str) -> Config {
    let settings: Settings = toml::from_str(&format!("kernel = 'k'\n{toml}")).unwrap();
    Config::new(settings).unwrap()
}

/// Runs `test` in a thread of its own, confined as `kind` of the machine that `toml` describes.
fn confined(toml: &str, kind: ThreadKind, test: impl FnOnce() + Send + 'static) {
    let sandbox = Sandbox::new(&config(toml)).unwrap();
    let thread = std::thread::spawn(move || {
        sandbox.enter(kind).unwrap();
        test();
    });
    thread.join().unwrap();
}

const KINDS: [ThreadKind; 3] = [ThreadKind::Main, ThreadKind::Vcpu, ThreadKind::FrontEnd];

fn is_refused<T>(result: io::Result<T>) -> bool {
    result.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

#[test]
fn nothing_is_opened_started_or_called_abroad() {
    for kind in KINDS {
        confined("", kind, || {
            assert!(is_refused(File::open("/etc/passwd")));
            assert!(is_refused(TcpStream::connect("127.0.0.1:9")));
            assert!(is_refused(std::thread::Builder::new().spawn(|| ())));
            assert!(is_refused(std::process::Command::new("/bin/true").status()));
        });
    }
}

#[test]
fn no_capability_is_left() {
    let thread = std::thread::spawn(|| {
        privileges::drop_all().unwrap();
        assert!(rustix::thread::no_new_privs().unwrap());
        let left = rustix::thread::capabilities(None).unwrap();
        assert!(left.permitted.is_empty() && left.effective.is_empty());
    });
    thread.join().unwrap();
}

#[test]
fn the_usual_goes_on() {
    for kind in KINDS {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let barrier = Arc::new(Barrier::new(2));
        let other = barrier.clone();
        let thread = std::thread::spawn(move || {
            other.wait();
        });
        let event = virtio_pci::Event::new().unwrap();
        confined("", kind, move || {
            ours.write_all(b"x").unwrap();
            theirs.read_exact(&mut [0]).unwrap();
            event.signal();
            assert!(event.is_signalled() && event.take() && !event.take());
            let large = vec![1_u8; 8 << 20];
            assert_eq!(large.last(), Some(&1));
            std::thread::sleep(Duration::from_millis(1));
            barrier.wait();
            assert!(std::collections::HashSet::from([1]).contains(&1));
        });
        thread.join().unwrap();
    }
}

#[test]
fn kvm_is_for_those_who_need_it() {
    let (pipe, _write) = io::pipe().unwrap();
    let pipe = Arc::new(pipe);
    // What a pipe does not know is ENOTTY; what is not permitted is EPERM.
    let refused = |kind, request: u32| {
        let pipe = pipe.clone();
        let (tell, told) = std::sync::mpsc::channel();
        confined("", kind, move || tell.send(is_refused(ioctl(&pipe, request))).unwrap());
        told.recv().unwrap()
    };
    const KVM_RUN: u32 = 0xae80;
    const KVM_SIGNAL_MSI: u32 = 0x4020_aea5;
    const KVM_CREATE_VM: u32 = 0xae01;
    assert_eq!(KINDS.map(|kind| refused(kind, KVM_RUN)), [true, false, true]);
    assert_eq!(KINDS.map(|kind| refused(kind, KVM_SIGNAL_MSI)), [false; 3]);
    assert_eq!(KINDS.map(|kind| refused(kind, KVM_CREATE_VM)), [true; 3]);
}

/// A request without data.
#[expect(unsafe_code, reason = "no wrapper makes requests that make no sense")]
fn ioctl(fd: &io::PipeReader, request: u32) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: a pipe knows none of these requests, so no memory is touched.
    match unsafe { libc::ioctl(fd.as_raw_fd(), request.into(), 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[test]
fn files_of_ours_can_be_removed_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    std::fs::write(&path, "").unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let other = elsewhere.path().join("precious");
    std::fs::write(&other, "").unwrap();
    let toml = format!("control = {path:?}");
    let precious = other.clone();
    confined(&toml, ThreadKind::Main, move || {
        std::fs::remove_file(&path).unwrap();
        assert!(has_no_landlock() || is_refused(std::fs::remove_file(&other)));
    });
    assert!(has_no_landlock() || precious.exists());
}

#[test]
fn a_back_end_is_connected_to_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let _listener = UnixListener::bind(&path).unwrap();
    let toml = format!("vhost-user = [{{type = 'blk', socket = {path:?}}}]");
    let socket = path.clone();
    confined(&toml, ThreadKind::FrontEnd, move || {
        UnixStream::connect(&socket).unwrap();
    });
    confined(&toml, ThreadKind::Vcpu, move || {
        assert!(is_refused(UnixStream::connect(&path)));
    });
}

fn has_no_landlock() -> bool {
    let list = std::fs::read_to_string("/sys/kernel/security/lsm");
    !list.is_ok_and(|list| list.contains("landlock"))
}

#[test]
fn the_terminal_can_be_restored() {
    let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
    let terminal = rustix::pty::openpt(flags).unwrap();
    confined("", ThreadKind::Main, move || {
        let settings = rustix::termios::tcgetattr(&terminal).unwrap();
        let now = rustix::termios::OptionalActions::Now;
        rustix::termios::tcsetattr(&terminal, now, &settings).unwrap();
    });
}

#[test]
fn off_is_off() {
    confined("sandbox = 'off'", ThreadKind::Vcpu, || {
        File::open("/etc/passwd").unwrap();
    });
}
