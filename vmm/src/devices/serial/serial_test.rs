//! The port from both ends: a driver at the registers, and somebody at the socket, pseudoterminal
//! or file.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::*;
use crate::bus::Device;

const DATA: u64 = 0;
const INTERRUPT_ENABLE: u64 = 1;
const LINE_STATUS: u64 = 5;
const DATA_READY: u8 = 1;

/// A line that counts.
#[derive(Clone, Default)]
struct Counter(Arc<AtomicUsize>);

impl Line for Counter {
    fn set_level(&self, high: bool) {
        self.0.fetch_add(usize::from(high), Ordering::Relaxed);
    }
}

struct Rig {
    serial: Arc<Serial>,
    port: Port,
    line: Counter,
}

impl Rig {
    fn new(to: &SerialPort) -> Self {
        Self::try_new(to).unwrap()
    }

    fn try_new(to: &SerialPort) -> Result<Self, Error> {
        let line = Counter::default();
        let (serial, port) = open(to, Box::new(line.clone()), Arc::new(|_| {}))?;
        Ok(Self { serial, port, line })
    }

    /// As the main loop does: serves the port while its descriptor is readable. False after a
    /// second.
    fn serve_until(&mut self, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = Instant::now() + Duration::from_secs(1);
        while !done(self) {
            if Instant::now() > end {
                return false;
            }
            if self.is_readable(Duration::from_millis(10)) {
                self.port.serve();
            }
        }
        true
    }

    fn is_readable(&self, within: Duration) -> bool {
        let within = Timespec::try_from(within).unwrap();
        let mut fds = [PollFd::from_borrowed_fd(self.port.as_fd(), PollFlags::IN)];
        poll(&mut fds, Some(&within)).unwrap() > 0
    }

    fn print(&self, text: &[u8]) {
        for byte in text {
            self.serial.write(DATA, &[*byte]);
        }
    }

    fn listen(&self) {
        self.serial.write(INTERRUPT_ENABLE, &[1]);
    }

    fn register(&self, register: u64) -> u8 {
        let mut data = [0];
        self.serial.read(register, &mut data);
        data[0]
    }

    /// Takes what is in the receive FIFO.
    fn take(&self) -> Vec<u8> {
        let mut taken = Vec::new();
        while self.register(LINE_STATUS) & DATA_READY != 0 {
            taken.push(self.register(DATA));
        }
        taken
    }

    /// Whether exactly this input arrives.
    fn receives(&mut self, expected: &[u8]) -> bool {
        let mut received = Vec::new();
        self.serve_until(|rig| {
            received.extend(rig.take());
            received.len() >= expected.len()
        }) && received == expected
    }
}

fn socket() -> (tempfile::TempDir, SerialPort) {
    let directory = tempfile::tempdir().unwrap();
    let to = SerialPort::Socket(directory.path().join("serial"));
    (directory, to)
}

fn connect(rig: &mut Rig) -> UnixStream {
    let stream = UnixStream::connect(rig.port.path().unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    rig.serve_until(|rig| !rig.is_readable(Duration::ZERO));
    stream
}

fn read(from: &mut impl Read, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn what_the_guest_prints_before_somebody_connects_is_kept() {
    let (_directory, to) = socket();
    let mut rig = Rig::new(&to);
    rig.print(b"booting\r\n");
    let mut stream = connect(&mut rig);
    rig.print(b"login: ");
    rig.port.serve();
    assert_eq!(read(&mut stream, 16), b"booting\r\nlogin: ");
}

#[test]
fn who_comes_when_there_is_no_descriptor_is_let_in_later() {
    let (_directory, to) = socket();
    let mut rig = Rig::new(&to);
    let stream = UnixStream::connect(rig.port.path().unwrap()).unwrap();
    assert!(rig.is_readable(Duration::ZERO));
    rig.port.rest_after(Err(rustix::io::Errno::MFILE));
    rig.port.serve();
    assert!(!rig.is_readable(Duration::ZERO), "nothing keeps the main loop busy");
    assert!(rig.is_readable(Duration::from_secs(10)));
    rig.port.serve();
    rig.print(b"hello");
    rig.port.serve();
    assert_eq!(read(&mut &stream, 5), b"hello");
}

#[test]
fn input_waits_for_a_driver_that_listens_and_none_of_it_is_lost() {
    let (_directory, to) = socket();
    let mut rig = Rig::new(&to);
    let mut stream = connect(&mut rig);
    let typed: Vec<u8> = (0..20_000_u32).map(|n| n.to_le_bytes()[n as usize % 2]).collect();
    let writer = std::thread::spawn({
        let typed = typed.clone();
        move || {
            stream.write_all(&typed).unwrap();
            stream
        }
    });
    // A driver that looks for the device tries its registers, and empties the data register.
    for _ in 0..3 {
        rig.serial.write(INTERRUPT_ENABLE, &[0x0f]);
        rig.port.serve();
        rig.serial.write(INTERRUPT_ENABLE, &[0]);
        rig.port.serve();
        assert_eq!(rig.register(LINE_STATUS) & DATA_READY, 0);
        assert_eq!(rig.register(DATA), 0);
        rig.register(2);
    }
    rig.listen();
    assert!(rig.receives(&typed), "all of it, in order, through a FIFO of 64 bytes");
    assert!(rig.line.0.load(Ordering::Relaxed) > 0, "by interrupt");
    drop(writer.join().unwrap());
}

#[test]
fn a_driver_that_polls_gets_input_without_interrupts() {
    let (_directory, to) = socket();
    let mut rig = Rig::new(&to);
    let mut stream = connect(&mut rig);
    stream.write_all(b"hello").unwrap();
    assert!(rig.receives(b"hello"));
    assert_eq!(rig.line.0.load(Ordering::Relaxed), 0);
}

#[test]
fn a_driver_that_talks_to_itself_hears_itself() {
    let mut rig = Rig::new(&SerialPort::Null);
    rig.serial.write(4, &[1 << 4]);
    rig.print(b"loop");
    rig.port.serve();
    assert_eq!(rig.take(), b"loop");
}

#[test]
fn input_waits_while_the_driver_talks_to_itself() {
    let (_directory, to) = socket();
    let mut rig = Rig::new(&to);
    let mut stream = connect(&mut rig);
    rig.listen();
    rig.serial.write(4, &[1 << 4]);
    stream.write_all(b"later").unwrap();
    rig.port.serve();
    rig.print(b"loop");
    assert_eq!(rig.take(), b"loop");
    rig.serial.write(4, &[0]);
    assert!(rig.receives(b"later"));
}

#[test]
fn an_idle_port_does_not_wake_the_main_loop() {
    let (_directory, to) = socket();
    let mut rig = Rig::new(&to);
    let idle = |rig: &Rig| !rig.is_readable(Duration::from_millis(20));
    assert!(idle(&rig), "nobody is there");
    let mut stream = connect(&mut rig);
    assert!(idle(&rig), "somebody is");
    stream.write_all(b"typed ahead").unwrap();
    assert!(idle(&rig), "the guest does not listen yet");
    rig.listen();
    rig.serve_until(idle);
    // Hung up, with input in the FIFO that the guest does not take.
    drop(stream);
    rig.serve_until(idle);
    assert!(idle(&rig));
    assert_eq!(rig.take(), b"typed ahead");
}

#[test]
fn the_next_one_can_connect_when_one_is_gone_and_their_input_is_not_lost() {
    let (_directory, to) = socket();
    let mut rig = Rig::new(&to);
    let mut first = connect(&mut rig);
    first.write_all(b"first,").unwrap();
    drop(first);
    let mut second = connect(&mut rig);
    second.write_all(b"second").unwrap();
    rig.print(b"hello, second");
    rig.port.serve();
    assert_eq!(read(&mut second, 13), b"hello, second");
    rig.listen();
    assert!(rig.receives(b"first,second"));
}

#[test]
fn who_only_sends_still_gets_the_answer() {
    let (_directory, to) = socket();
    let mut rig = Rig::new(&to);
    let mut stream = connect(&mut rig);
    stream.write_all(b"uname\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    rig.listen();
    assert!(rig.receives(b"uname\n"));
    rig.port.serve();
    rig.print(b"Linux\r\n");
    rig.port.serve();
    assert_eq!(read(&mut stream, 7), b"Linux\r\n");
}

#[test]
fn a_reader_that_does_not_read_does_not_stop_the_guest() {
    let (_directory, to) = socket();
    let mut rig = Rig::new(&to);
    let _stream = connect(&mut rig);
    let start = Instant::now();
    for _ in 0..300 {
        rig.print(&[b'x'; 4096]);
        rig.port.serve();
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(!rig.is_readable(Duration::from_millis(20)), "nor keeps the main loop busy");
}

#[test]
fn a_socket_in_use_is_refused_and_a_stale_one_replaced() {
    let (directory, to) = socket();
    let rig = Rig::new(&to);
    let refusal = Rig::try_new(&to).err().unwrap().to_string();
    assert!(refusal.contains("serial port") && refusal.contains("in use"), "{refusal}");
    drop(rig);
    let path = directory.path().join("serial");
    assert!(!path.exists(), "removed at the end");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    drop(Rig::new(&to));
    fs::write(&path, "precious").unwrap();
    assert!(Rig::try_new(&to).is_err());
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn a_pseudoterminal_is_a_plain_cable() {
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("serial");
    symlink("/nonexistent", &link).unwrap();
    let mut rig = Rig::new(&SerialPort::Pty(Some(link.clone())));
    assert_eq!(rig.port.path(), Some(link.as_path()));
    rig.print(b"ab\ncd\x04\x03");
    rig.port.serve();
    let mut there = OpenOptions::new().read(true).write(true).open(&link).unwrap();
    assert_eq!(read(&mut there, 7), b"ab\ncd\x04\x03", "no line discipline");
    there.write_all(b"root\r\x01x").unwrap();
    rig.listen();
    assert!(rig.receives(b"root\r\x01x"), "no escapes, no echo");
    // Whoever leaves does not hang up, and can come back.
    drop(there);
    rig.port.serve();
    assert!(!rig.is_readable(Duration::from_millis(20)));
    rig.print(b"again");
    rig.port.serve();
    assert_eq!(read(&mut File::open(&link).unwrap(), 5), b"again");
    drop(rig);
    assert!(fs::symlink_metadata(&link).is_err(), "the link is removed");
}

#[test]
fn a_file_is_appended_to() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    fs::write(&path, "before\n").unwrap();
    let mut rig = Rig::new(&SerialPort::File(path.clone()));
    rig.print(b"after\n");
    rig.port.flush(Duration::from_secs(1));
    assert_eq!(fs::read_to_string(&path).unwrap(), "before\nafter\n");
    let bad = SerialPort::File(Path::new("/nonexistent/log").to_owned());
    assert!(Rig::try_new(&bad).err().unwrap().to_string().contains("/nonexistent/log"));
}

#[test]
fn nowhere_takes_everything_and_wakes_nobody() {
    let mut rig = Rig::new(&SerialPort::Null);
    for _ in 0..30 {
        rig.print(&[b'x'; 4096]);
    }
    rig.port.serve();
    assert!(!rig.is_readable(Duration::from_millis(20)));
    rig.port.flush(Duration::from_secs(1));
}

#[test]
fn a_reset_forgets_what_the_driver_set_up() {
    let (_directory, to) = socket();
    let mut rig = Rig::new(&to);
    let mut stream = connect(&mut rig);
    rig.listen();
    rig.serial.write(7, &[0x55]);
    rig.serial.reset();
    assert_eq!((rig.register(7), rig.register(INTERRUPT_ENABLE)), (0, 0));
    stream.write_all(b"for the next kernel").unwrap();
    rig.port.serve();
    rig.listen();
    assert!(rig.receives(b"for the next kernel"));
}

proptest! {
    /// Any registers, any widths, in any order, with input at the same time.
    #[test]
    fn accesses_of_any_shape_do_no_harm(
        accesses in prop::collection::vec((0u64..300, prop::collection::vec(any::<u8>(), 0..9), any::<bool>()), 0..80),
    ) {
        let (_directory, to) = socket();
        let mut rig = Rig::new(&to);
        let mut stream = connect(&mut rig);
        stream.write_all(&[b'i'; 300]).unwrap();
        for (offset, mut data, read) in accesses {
            if read {
                rig.serial.read(offset % 8, &mut data);
            } else {
                rig.serial.write(offset % 8, &data);
            }
            rig.port.serve();
        }
    }
}
