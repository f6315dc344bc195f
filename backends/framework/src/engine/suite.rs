//! What every real engine must do: one suite, run over each of them.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::event::EventfdFlags;
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::{
    Allocate, Config, Direction, Engine, Event, FileIndex, Op, ReservedRing, Submitted, Token,
    Transfer, Uring, Wait,
};
use crate::memory::{Mapping, Segment};

const FILE: FileIndex = FileIndex(0);
const PAGE: usize = 4096;

/// An engine with one file, and memory for its operations.
struct Bench<E> {
    // Dropped before the memory.
    engine: E,
    memory: Mapping,
    file: File,
    commands: Arc<OwnedFd>,
    events: Vec<Event>,
}

impl<E: Engine> Bench<E> {
    fn new(make: fn(&Config) -> io::Result<E>, file: File) -> Self {
        let commands = eventfd();
        let config = Config { operations: 8, ..Config::new(2, Arc::clone(&commands)) };
        let mut engine = make(&config).unwrap();
        engine.files(vec![Arc::new(file.try_clone().unwrap().into())]).unwrap();
        let memory = Mapping::owned(64 * PAGE).unwrap();
        Bench { engine, memory, file, commands, events: Vec::new() }
    }

    fn segment(&self, page: usize, len: usize) -> Segment {
        self.memory.lend(page * PAGE, len).unwrap()
    }

    /// Carries out one operation to its end.
    fn run(&mut self, op: &Op<'_>) -> Result<u32, Errno> {
        match self.engine.submit(op, Token(77)) {
            Submitted::Now(result) => result,
            Submitted::Later => {
                assert_eq!(self.engine.in_flight(), 1);
                let done = self.until(|event| match event {
                    Event::Done(completion) => Some(*completion),
                    _ => None,
                });
                assert_eq!(done.token, Token(77));
                assert_eq!(self.engine.in_flight(), 0);
                done.result
            }
        }
    }

    /// Turns until there is an event that is looked for.
    fn until<T>(&mut self, wanted: impl Fn(&Event) -> Option<T>) -> T {
        for _ in 0..1000 {
            if let Some(found) = self.events.iter().position(|event| wanted(event).is_some()) {
                return wanted(&self.events.remove(found)).unwrap();
            }
            self.engine.set_timer(Some(self.engine.now() + Duration::from_secs(5)));
            self.engine.turn(Wait::ForEver, &mut self.events).unwrap();
        }
        panic!("the event did not come");
    }

    fn until_kick(&mut self) -> usize {
        self.until(|event| match event {
            Event::Kick(queue) => Some(*queue),
            _ => None,
        })
    }

    fn until_ready(&mut self, file: FileIndex, direction: Direction) {
        let wanted = (file, direction);
        self.until(|event| match event {
            Event::Ready(file, direction) => ((*file, *direction) == wanted).then_some(()),
            _ => None,
        });
    }

    /// Turns a few times without waiting, and counts files that became ready.
    fn ready_now(&mut self) -> usize {
        for _ in 0..20 {
            self.engine.turn(Wait::No, &mut self.events).unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
        let ready = self.events.iter().filter(|event| matches!(event, Event::Ready(..))).count();
        self.events.clear();
        ready
    }

    /// Turns a few times without waiting, and counts kicks.
    fn kicks_now(&mut self) -> usize {
        for _ in 0..20 {
            self.engine.turn(Wait::No, &mut self.events).unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
        let kicks = self.events.iter().filter(|event| matches!(event, Event::Kick(_))).count();
        self.events.clear();
        kicks
    }
}

fn eventfd() -> Arc<OwnedFd> {
    Arc::new(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap())
}

fn signal(fd: &OwnedFd) {
    rustix::io::write(fd, &1u64.to_ne_bytes()).unwrap();
}

fn on_disk() -> File {
    tempfile::tempfile().unwrap()
}

fn in_memory() -> File {
    rustix::fs::memfd_create("suite", MemfdFlags::CLOEXEC).unwrap().into()
}

fn reads_and_writes<E: Engine>(make: fn(&Config) -> io::Result<E>) {
    for file in [on_disk(), in_memory()] {
        let mut bench = Bench::new(make, file);
        let (one, two) = (bench.segment(0, PAGE), bench.segment(2, 100));
        one.write(0, &[1; PAGE]);
        two.write(0, &[2; 100]);
        let from = [one.again(), two.again()];
        let write = Op::Write { file: FILE, offset: 512, from: &from, durable: true };
        assert_eq!(bench.run(&write), Ok(4196));
        assert_eq!(bench.run(&Op::Sync { file: FILE }), Ok(0));
        let single = [two.again()];
        let write = Op::Write { file: FILE, offset: 0, from: &single, durable: false };
        assert_eq!(bench.run(&write), Ok(100));

        let mut content = [9; 5000];
        assert_eq!(bench.file.read_at(&mut content, 0).unwrap(), 512 + 4196);
        assert!(content[..100].iter().all(|b| *b == 2) && content[100..512] == [0; 412]);
        assert!(content[512..4608] == [1; PAGE] && content[4608..4708] == [2; 100]);

        let into = [bench.segment(10, 612), bench.segment(20, PAGE)];
        assert_eq!(bench.run(&Op::Read { file: FILE, offset: 0, into: &into }), Ok(4708));
        let mut read = [0; 4708];
        into[0].read(0, &mut read[..612]);
        into[1].read(0, &mut read[612..]);
        assert!(read[..] == content[..4708]);
    }
}

fn ends_short_at_the_end_of_a_file<E: Engine>(make: fn(&Config) -> io::Result<E>) {
    for mut file in [on_disk(), in_memory()] {
        file.write_all(&[5; 1000]).unwrap();
        let mut bench = Bench::new(make, file);
        let into = [bench.segment(0, PAGE)];
        assert_eq!(bench.run(&Op::Read { file: FILE, offset: 0, into: &into }), Ok(1000));
        assert_eq!(bench.run(&Op::Read { file: FILE, offset: 1000, into: &into }), Ok(0));
        assert_eq!(bench.run(&Op::Read { file: FILE, offset: 0, into: &[] }), Ok(0));
        let far = Op::Read { file: FILE, offset: u64::MAX, into: &into };
        assert_eq!(bench.run(&far), Err(Errno::INVAL));
    }
}

fn deallocates_and_zeroes<E: Engine>(make: fn(&Config) -> io::Result<E>) {
    let mut file = on_disk();
    file.write_all(&[5; 8 * PAGE]).unwrap();
    let mut bench = Bench::new(make, file);
    let len = PAGE as u64;
    for (at, mode) in [(1, Allocate::PunchHole), (2, Allocate::ZeroRange)] {
        let op = Op::Allocate { file: FILE, mode, offset: at * len, len };
        assert_eq!(bench.run(&op), Ok(0));
    }
    for (at, unmap) in [(3, false), (4, true)] {
        let op = Op::ZeroOut { file: FILE, offset: at * len, len, unmap };
        assert_eq!(bench.run(&op), Ok(0));
    }
    let mut content = [0; 8 * PAGE];
    bench.file.read_exact_at(&mut content, 0).unwrap();
    assert!(content[..PAGE].iter().all(|b| *b == 5));
    assert!(content[PAGE..5 * PAGE].iter().all(|b| *b == 0));
    assert!(content[5 * PAGE..].iter().all(|b| *b == 5));
}

fn carries_out_many_at_once<E: Engine>(make: fn(&Config) -> io::Result<E>) {
    let mut file = on_disk();
    for page in 0..64 {
        file.write_all(&[page; PAGE]).unwrap();
    }
    let mut bench = Bench::new(make, file);
    // Far more than was configured, in two segments each, so that every queue overflows.
    let mut waiting = vec![true; 1500];
    for (number, waits) in (0u32..).zip(&mut waiting) {
        let page = number as usize % 64;
        let half = |offset| bench.memory.lend(page * PAGE + offset, PAGE / 2).unwrap();
        let into = [half(0), half(PAGE / 2)];
        let op = Op::Read { file: FILE, offset: (page * PAGE) as u64, into: &into };
        match bench.engine.submit(&op, Token(number)) {
            Submitted::Now(result) => {
                assert_eq!(result, Ok(4096));
                *waits = false;
            }
            Submitted::Later => {}
        }
    }
    while bench.engine.in_flight() > 0 {
        bench.engine.turn(Wait::ForEver, &mut bench.events).unwrap();
    }
    for event in bench.events.drain(..) {
        let Event::Done(done) = event else { continue };
        assert_eq!(done.result, Ok(4096));
        assert!(std::mem::take(&mut waiting[done.token.0 as usize]), "ended twice");
    }
    assert!(!waiting.contains(&true));
    for page in 0..64u8 {
        let mut bytes = [0; PAGE];
        bench.segment(page.into(), PAGE).read(0, &mut bytes);
        assert!(bytes == [page; PAGE]);
    }
}

fn reports_errors<E: Engine>(make: fn(&Config) -> io::Result<E>) {
    let read_only = File::open("/proc/self/exe").unwrap();
    let mut bench = Bench::new(make, read_only);
    let from = [bench.segment(0, PAGE)];
    let write = Op::Write { file: FILE, offset: 0, from: &from, durable: false };
    assert_eq!(bench.run(&write), Err(Errno::BADF));
    assert_eq!(bench.run(&Op::Sync { file: FileIndex(1) }), Err(Errno::BADF));
    // Neither is a block device's.
    let discard = Op::Discard { file: FILE, offset: 0, len: 4096 };
    assert!(bench.run(&discard).is_err());
    let erase = Op::SecureErase { file: FILE, offset: 0, len: 4096 };
    assert!(bench.run(&erase).is_err());
}

fn reports_kicks_by_eventfd<E: Engine>(make: fn(&Config) -> io::Result<E>) {
    let mut bench = Bench::new(make, in_memory());
    let (first, second) = (eventfd(), eventfd());
    signal(&second);
    bench.engine.watch_kick(0, Some(Arc::clone(&first))).unwrap();
    bench.engine.watch_kick(1, Some(Arc::clone(&second))).unwrap();
    // Readable already: reported at once. Never drained: reported once.
    assert_eq!(bench.until_kick(), 1);
    assert_eq!(bench.kicks_now(), 0);
    for _ in 0..3 {
        signal(&first);
        assert_eq!(bench.until_kick(), 0);
    }
    assert_eq!(bench.kicks_now(), 0);
    assert_eq!(rustix::io::read(&first, &mut [0; 8]).unwrap(), 8);

    // Replaced, and no longer watched.
    bench.engine.watch_kick(1, Some(Arc::clone(&first))).unwrap();
    bench.engine.watch_kick(0, None).unwrap();
    signal(&second);
    assert_eq!(bench.kicks_now(), 0);
    signal(&first);
    assert_eq!(bench.until_kick(), 1);
    bench.engine.watch_kick(1, None).unwrap();
    signal(&first);
    assert_eq!(bench.kicks_now(), 0);
    assert!(bench.engine.watch_kick(2, Some(first)).is_err());
}

fn replaces_kicks_under_fire<E: Engine>(make: fn(&Config) -> io::Result<E>) {
    let mut bench = Bench::new(make, in_memory());
    let kicks = [eventfd(), eventfd()];
    let (stop, fire) = (Arc::new(AtomicBool::new(false)), kicks.clone());
    let stopped = Arc::clone(&stop);
    let other = std::thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            fire.iter().for_each(|kick| signal(kick));
        }
    });
    for round in 0..300 {
        bench.engine.watch_kick(0, Some(Arc::clone(&kicks[round % 2]))).unwrap();
        if round % 3 == 0 {
            assert_eq!(bench.until_kick(), 0);
        }
        bench.engine.turn(Wait::No, &mut bench.events).unwrap();
        bench.events.clear();
    }
    bench.engine.watch_kick(0, None).unwrap();
    bench.kicks_now();
    let late = bench.kicks_now();
    stop.store(true, Ordering::Relaxed);
    other.join().unwrap();
    assert_eq!(late, 0);
}

fn drains_kicks_by_pipe<E: Engine>(make: fn(&Config) -> io::Result<E>) {
    let mut bench = Bench::new(make, in_memory());
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    bench.engine.watch_kick(0, Some(Arc::new(reader))).unwrap();
    assert_eq!(bench.kicks_now(), 0);
    // Far more than a pipe holds: it would block if nobody read.
    for _ in 0..40 {
        assert_eq!(rustix::io::write(&writer, &[0; PAGE]).unwrap(), PAGE);
        assert_eq!(bench.until_kick(), 0);
    }
    drop(writer);
    let lost = bench.until(|event| match event {
        Event::KickLost(queue, why) => Some((*queue, *why)),
        _ => None,
    });
    assert_eq!(lost, (0, Errno::PIPE));
    bench.engine.watch_kick(0, None).unwrap();
}

fn reports_lost_kicks<E: Engine>(make: fn(&Config) -> io::Result<E>) {
    let mut bench = Bench::new(make, in_memory());
    bench.engine.watch_kick(1, Some(Arc::new(on_disk().into()))).unwrap();
    let lost = bench.until(|event| match event {
        Event::KickLost(queue, why) => Some((*queue, *why)),
        _ => None,
    });
    assert_eq!(lost, (1, Errno::PERM));
    let kick = eventfd();
    bench.engine.watch_kick(1, Some(Arc::clone(&kick))).unwrap();
    signal(&kick);
    assert_eq!(bench.until_kick(), 1);
}

fn is_woken_by_commands<E: Engine>(make: fn(&Config) -> io::Result<E>) {
    let mut bench = Bench::new(make, in_memory());
    for _ in 0..3 {
        let commands = Arc::clone(&bench.commands);
        let other = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(10));
            signal(&commands);
        });
        bench.until(|event| matches!(event, Event::Commands).then_some(()));
        other.join().unwrap();
    }
}

fn keeps_time<E: Engine>(make: fn(&Config) -> io::Result<E>) {
    let mut bench = Bench::new(make, in_memory());
    let when = bench.engine.now() + Duration::from_millis(20);
    bench.engine.set_timer(Some(when));
    while bench.events.is_empty() {
        bench.engine.turn(Wait::ForEver, &mut bench.events).unwrap();
    }
    assert!(matches!(bench.events[..], [Event::Timer]));
    assert!(bench.engine.now() >= when);
    bench.events.clear();
    bench.engine.set_timer(Some(bench.engine.now()));
    bench.engine.set_timer(None);
    bench.engine.turn(Wait::No, &mut bench.events).unwrap();
    assert!(bench.events.is_empty());
}

/// A pair of packet sockets that never wait.
fn packets() -> (Arc<OwnedFd>, OwnedFd) {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    (Arc::new(ours), theirs)
}

fn receives_and_sends_packets<E: Engine>(make: fn(&Config) -> io::Result<E>) {
    let mut bench = Bench::new(make, in_memory());
    let (ours, theirs) = packets();
    let file = bench.engine.open_file(ours).unwrap();
    assert_ne!(file, FILE);
    let into = [bench.segment(0, 3), bench.segment(1, PAGE)];
    let engine = &mut bench.engine;
    let mut results = Vec::new();
    for round in 0..3 {
        rustix::io::write(&theirs, b"packet").unwrap();
        rustix::io::write(&theirs, b"next").unwrap();
        assert!(engine.stage(&Transfer::Receive { into: &into }));
        assert!(engine.stage(&Transfer::Receive { into: &into[..1] }));
        assert!(engine.stage_more(&into[1..]));
        assert!(engine.stage(&Transfer::Receive { into: &into }));
        engine.carry_out(file, &mut results);
        assert_eq!(results, [Ok(6), Ok(4), Err(Errno::AGAIN)], "round {round}");
        let mut start = [0; 3];
        into[0].read(0, &mut start);
        assert_eq!(&start, b"nex");

        // One alone, and several.
        for count in [1, 2] {
            for number in 0..count {
                let header = [b'a' + number; 4];
                let send = Transfer::Send { header: &header, from: &into[..1] };
                assert!(engine.stage(&send));
            }
            engine.carry_out(file, &mut results);
            assert_eq!(results, vec![Ok(7); count.into()]);
            for expected in [b"aaaanex", b"bbbbnex"].iter().take(count.into()) {
                let mut sent = [0; 64];
                assert_eq!(rustix::io::read(&theirs, &mut sent).unwrap(), 7);
                assert_eq!(&sent[..7], *expected);
            }
        }
    }
    // What is left in the batch is forgotten.
    assert!(engine.stage(&Transfer::Send { header: b"x", from: &[] }));
    engine.turn(Wait::No, &mut bench.events).unwrap();
    bench.engine.carry_out(file, &mut results);
    assert_eq!(results, []);
    assert_eq!(rustix::io::read(&theirs, &mut [0; 8]), Err(Errno::AGAIN));
    assert!(bench.engine.stage(&Transfer::Send { header: b"x", from: &[] }));
    bench.engine.carry_out(FileIndex(9), &mut results);
    assert_eq!(results, [Err(Errno::BADF)]);
}

fn tells_once_that_a_file_is_ready<E: Engine>(make: fn(&Config) -> io::Result<E>) {
    let mut bench = Bench::new(make, in_memory());
    let (ours, theirs) = packets();
    let file = bench.engine.open_file(ours).unwrap();
    for _ in 0..2 {
        bench.engine.watch(file, Direction::Writable);
        bench.until_ready(file, Direction::Writable);
    }
    // Asked for twice, told once.
    bench.engine.watch(file, Direction::Readable);
    bench.engine.watch(file, Direction::Readable);
    assert_eq!(bench.ready_now(), 0);
    rustix::io::write(&theirs, b"x").unwrap();
    bench.until_ready(file, Direction::Readable);
    assert_eq!(bench.ready_now(), 0);
    // It is readable still: told at once, if asked again.
    bench.engine.watch(file, Direction::Readable);
    bench.until_ready(file, Direction::Readable);
    assert_eq!(rustix::io::read(&theirs, &mut [0; 8]), Err(Errno::AGAIN));
    drop(theirs);
    bench.engine.watch(file, Direction::Readable);
    bench.until_ready(file, Direction::Readable);
}

fn forgets_files_that_are_closed<E: Engine>(make: fn(&Config) -> io::Result<E>) {
    let mut bench = Bench::new(make, in_memory());
    for round in 0..300 {
        let (ours, theirs) = packets();
        let file = bench.engine.open_file(ours).unwrap();
        assert_eq!(file, FileIndex(1), "the place is free again");
        bench.engine.watch(file, Direction::Readable);
        if round % 2 == 0 {
            bench.engine.turn(Wait::No, &mut bench.events).unwrap();
        }
        if round % 3 == 0 {
            rustix::io::write(&theirs, b"x").unwrap();
        }
        bench.engine.close_file(file);
        // Nobody else has it open.
        let end = rustix::io::read(&theirs, &mut [0; 8]);
        assert!(matches!(end, Ok(0) | Err(Errno::CONNRESET)), "{end:?}");
        bench.events.clear();
    }
    assert_eq!(bench.ready_now(), 0);
    let many: Vec<_> = (0..Config::MOST_FILES).map(|_| bench.engine.open_file(eventfd())).collect();
    assert_eq!(many.iter().filter(|opened| opened.is_err()).count(), 1);
}

fn waits_for_operations_when_dropped<E: Engine>(make: fn(&Config) -> io::Result<E>) {
    let mut bench = Bench::new(make, on_disk());
    let from = [bench.segment(0, PAGE), bench.segment(1, PAGE)];
    from[0].write(0, &[3; PAGE]);
    let write = Op::Write { file: FILE, offset: 0, from: &from, durable: false };
    assert!(matches!(bench.engine.submit(&write, Token(0)), Submitted::Later));
    let Bench { engine, file, memory, .. } = bench;
    drop(engine);
    assert_eq!(file.metadata().unwrap().len(), 2 * PAGE as u64);
    drop(memory);
}

/// An engine on a ring that nothing else uses, and that stays until the process ends.
fn uring(config: &Config) -> io::Result<Uring<'static>> {
    // So that a leak detector finds them.
    static KEPT: Mutex<Vec<usize>> = Mutex::new(Vec::new());
    let ring = ReservedRing::make(config.queues, config.operations, config.restricted)?;
    let ring = Box::leak(Box::new(ring));
    KEPT.lock().unwrap().push(std::ptr::from_ref(ring).addr());
    Uring::new(ring, config)
}

macro_rules! run_over {
    ($make:expr, $module:ident: $($test:ident)*) => {
        mod $module {
            $(#[test]
            fn $test() {
                super::$test($make);
            })*
        }
    };
}

macro_rules! run_over_all {
    ($($test:ident)*) => {
        run_over!(super::uring, uring: $($test)*);
        run_over!(crate::engine::Threads::new, threads: $($test)*);
    };
}

run_over_all! {
    reads_and_writes
    ends_short_at_the_end_of_a_file
    deallocates_and_zeroes
    carries_out_many_at_once
    reports_errors
    reports_kicks_by_eventfd
    replaces_kicks_under_fire
    drains_kicks_by_pipe
    reports_lost_kicks
    is_woken_by_commands
    keeps_time
    receives_and_sends_packets
    tells_once_that_a_file_is_ready
    forgets_files_that_are_closed
    waits_for_operations_when_dropped
}
