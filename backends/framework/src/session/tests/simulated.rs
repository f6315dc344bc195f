//! A session over workers that a test steps by hand, with the simulated engine under them.

use std::cell::RefCell;
use std::rc::Rc;

use driver::{Memory, Placement, Queue};
use virtio_spec::Negotiated;

use super::*;
use crate::engine::{Faults, Outside, Simulated};
use crate::worker::LocalWorkers;

/// The front-end's way to everything: messages to the session, kicks to the engine.
struct Simulation {
    session: Session,
    device: Echo,
    workers: LocalWorkers<EchoService, Simulated>,
    outside: Rc<RefCell<Option<Outside>>>,
    memory: Memory,
}

impl Simulation {
    fn new() -> Self {
        let knobs = Arc::default();
        let device = Echo::new(&knobs);
        let session = Session::new(&device, RingOffer::default(), &Arc::new(event()));
        let outside = Rc::new(RefCell::new(None));
        let seen = Rc::clone(&outside);
        let workers = LocalWorkers::new(move |_, queues| {
            let queues = u16::try_from(queues).unwrap();
            let engine = Simulated::new(7, Faults::none(), queues, Vec::new());
            *seen.borrow_mut() = Some(engine.outside());
            engine
        });
        Simulation { session, device, workers, outside, memory: Memory::new(1 << 20).unwrap() }
    }

    /// Steps all workers once, and hands their answers over.
    fn step(&mut self) -> Option<Seen> {
        for number in self.workers.numbers() {
            self.workers.step(number);
        }
        let (worker, answer) = self.workers.take_answer()?;
        Some(seen(self.session.answered(&mut self.device, worker, answer)))
    }

    fn ask(&mut self, request: Request) -> Seen {
        let mut last =
            seen(self.session.handle(&mut self.device, request, false, &mut self.workers));
        for _ in 0..100 {
            if !matches!(last, Seen::Waits) {
                return last;
            }
            last = self.step().unwrap_or(Seen::Waits);
        }
        panic!("no answer after a hundred steps");
    }
}

#[test]
fn a_simulated_connection_serves_and_drains() {
    let mut simulation = Simulation::new();
    simulation.ask(Request::SetFeatures(mask(VERSION_1)));
    let memory = simulation.memory.clone();
    let table = memory.regions().into_iter();
    let table = table.map(|region| (region, memory.file(region.guest_addr).unwrap()));
    simulation.ask(Request::SetMemTable(table.collect()));
    let mut queue = Queue::new(&memory, 16, Negotiated::assume(mask(VERSION_1))).unwrap();
    let at = queue.addresses();
    let user = |addr| memory.user_addr(addr, 1).unwrap();
    simulation.ask(Request::SetVringNum(VringState { index: 0, num: 16 }));
    simulation.ask(Request::SetVringAddr(VringAddr {
        index: 0,
        flags: 0,
        descriptor: user(at.descriptor),
        used: user(at.device),
        available: user(at.driver),
        log: 0,
    }));
    simulation.ask(Request::SetVringKick { index: 0, fd: Some(event()) });

    let (out, back) = (memory.alloc_with(b"simulated").unwrap(), memory.alloc(9).unwrap());
    queue.add(&[out.readable(), back.writable()], Placement::Direct).unwrap();
    queue.publish();
    simulation.outside.borrow().as_ref().unwrap().kick(0);
    while queue.reap().unwrap().is_none() {
        simulation.step();
    }
    assert_eq!(back.to_vec(), b"simulated");
    assert_eq!(simulation.ask(Request::GetVringBase { index: 0 }).base(), 1);

    simulation.session.close(&mut simulation.device, &mut simulation.workers);
    while !simulation.session.is_closed() {
        simulation.step();
    }
    assert!(simulation.workers.numbers().is_empty());
}
