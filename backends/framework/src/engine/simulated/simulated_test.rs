use super::*;
use crate::engine::Allocate;
use crate::memory::Mapping;

const FILE: FileIndex = FileIndex(0);
const SIZE: usize = 64 * SECTOR;

fn engine(seed: u64, faults: Faults) -> (Simulated, SimulatedDisk) {
    let disk = SimulatedDisk::new(SIZE);
    (Simulated::new(seed, faults, 2, vec![disk.clone()]), disk)
}

fn memory(byte: u8) -> Mapping {
    let memory = Mapping::owned(SIZE).unwrap();
    memory.lend(0, SIZE).unwrap().write(0, &[byte; SIZE]);
    memory
}

fn run(engine: &mut Simulated, op: &Op<'_>) -> Result<u32, Errno> {
    match engine.submit(op, Token(1)) {
        Submitted::Now(result) => result,
        Submitted::Later => {
            let mut events = Vec::new();
            engine.turn(Wait::ForEver, &mut events).unwrap();
            match events[..] {
                [Event::Done(Completion { token: Token(1), result })] => result,
                _ => panic!("{events:?}"),
            }
        }
    }
}

/// Writes each sector once, with all that can go wrong, and tells what happened.
fn eventful_run(seed: u64) -> (Vec<String>, Vec<u8>) {
    let (mut engine, disk) = engine(seed, Faults::failing());
    let memory = memory(7);
    let mut story = Vec::new();
    for sector in 0..64u32 {
        let from = [memory.lend(0, 100).unwrap(), memory.lend(100, SECTOR - 100).unwrap()];
        let offset = u64::from(sector) * SECTOR as u64;
        let write = Op::Write { file: FILE, offset, from: &from, durable: false };
        story.push(format!("{:?}", engine.submit(&write, Token(sector))));
    }
    while engine.in_flight() > 0 {
        let mut events = Vec::new();
        engine.turn(Wait::ForEver, &mut events).unwrap();
        story.push(format!("{:?} {events:?}", engine.now()));
    }
    (story, disk.content())
}

#[test]
fn a_seed_replays_its_run() {
    let first = eventful_run(1);
    assert!(first == eventful_run(1));
    assert!(first != eventful_run(2));
    let story = first.0.join("\n");
    assert!(story.contains("Now(Ok(512))") && story.contains("Err("), "{story}");
}

#[test]
fn operations_overtake_each_other() {
    let (mut engine, _) = engine(3, Faults { at_once: 0.0, ..Faults::reordering() });
    let memory = memory(0);
    for token in 0..20 {
        let into = [memory.lend(0, SECTOR).unwrap()];
        let read = Op::Read { file: FILE, offset: 0, into: &into };
        assert!(matches!(engine.submit(&read, Token(token)), Submitted::Later));
    }
    let mut events = Vec::new();
    while engine.in_flight() > 0 {
        engine.turn(Wait::ForEver, &mut events).unwrap();
    }
    let done = |event: &Event| match event {
        Event::Done(completion) => completion.token.0,
        other => panic!("{other:?}"),
    };
    let order: Vec<u32> = events.iter().map(done).collect();
    assert!(!order.is_sorted());
}

#[test]
fn reads_what_was_written_and_stops_at_the_end() {
    let (mut engine, disk) = engine(4, Faults::none());
    let memory = memory(9);
    let segments = [memory.lend(0, 1000).unwrap(), memory.lend(2000, 500).unwrap()];
    let write = Op::Write { file: FILE, offset: 100, from: &segments, durable: false };
    assert_eq!(run(&mut engine, &write), Ok(1500));
    assert!(disk.content()[100..1600].iter().all(|byte| *byte == 9));
    memory.lend(0, SIZE).unwrap().zero();
    let end = SIZE as u64 - 100;
    let into = [memory.lend(0, 1000).unwrap()];
    assert_eq!(run(&mut engine, &Op::Read { file: FILE, offset: end, into: &into }), Ok(100));
    let beyond = Op::Write { file: FILE, offset: SIZE as u64, from: &into, durable: false };
    assert_eq!(run(&mut engine, &beyond), Err(Errno::NOSPC));
    let mode = Allocate::PunchHole;
    let punch = Op::Allocate { file: FILE, mode, offset: 100, len: 1500 };
    assert_eq!(run(&mut engine, &punch), Ok(0));
    assert!(disk.content().iter().all(|byte| *byte == 0));
    assert_eq!(run(&mut engine, &Op::Sync { file: FileIndex(1) }), Err(Errno::BADF));
}

#[test]
fn a_killed_engine_writes_later() {
    let (mut first, disk) = engine(5, Faults::none());
    let memory = memory(1);
    let from = [memory.lend(0, SECTOR).unwrap()];
    let write = Op::Write { file: FILE, offset: 0, from: &from, durable: false };
    assert!(matches!(first.submit(&write, Token(0)), Submitted::Later));
    drop(first);
    assert!(!disk.is_settled());
    memory.lend(0, SIZE).unwrap().zero();
    assert_eq!(disk.content()[0], 0);

    // A successor that does not wait has its own write overwritten.
    let mut second = Simulated::new(6, Faults::none(), 1, vec![disk.clone()]);
    assert_eq!(run(&mut second, &write), Ok(512));
    disk.settle();
    assert_eq!(disk.content()[0], 1);
}

#[test]
fn what_was_synced_survives() {
    for seed in 0..100 {
        let (mut engine, disk) = engine(seed, Faults::none());
        let memory = memory(1);
        let from = [memory.lend(0, SIZE / 2).unwrap()];
        let write = |offset| Op::Write { file: FILE, offset, from: &from, durable: false };
        assert_eq!(run(&mut engine, &write(0)), Ok(16384));
        assert_eq!(run(&mut engine, &Op::Sync { file: FILE }), Ok(0));
        assert_eq!(run(&mut engine, &write(SIZE as u64 / 2)), Ok(16384));
        disk.power_loss(seed);
        assert!(disk.content()[..SIZE / 2].iter().all(|byte| *byte == 1));
    }
}

#[test]
fn is_reached_from_outside() {
    let (mut engine, _) = engine(7, Faults::none());
    let outside = engine.outside();
    let mut events = Vec::new();
    outside.kick(1);
    engine.turn(Wait::ForEver, &mut events).unwrap();
    assert!(events.is_empty());
    let flags = rustix::event::EventfdFlags::NONBLOCK;
    let kick = Arc::new(rustix::event::eventfd(0, flags).unwrap());
    engine.watch_kick(1, Some(Arc::clone(&kick))).unwrap();
    engine.set_timer(Some(Duration::from_secs(1)));
    outside.commands();
    engine.turn(Wait::ForEver, &mut events).unwrap();
    assert!(matches!(events[..], [Event::Kick(1), Event::Commands]), "{events:?}");
    events.clear();
    rustix::io::write(&kick, &1u64.to_ne_bytes()).unwrap();
    outside.advance(Duration::from_secs(1));
    engine.turn(Wait::No, &mut events).unwrap();
    assert!(matches!(events[..], [Event::Kick(1), Event::Timer]), "{events:?}");
    assert_eq!(engine.now(), Duration::from_secs(1));
}
