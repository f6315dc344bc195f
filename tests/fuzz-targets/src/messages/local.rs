//! The workers of a connection, in the same thread.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use framework::Error;
use framework::device::Assembly;
use framework::engine::{Faults, Simulated, SimulatedDisk};
use framework::session::Workers;
use framework::stats::QueueStats;
use framework::worker::{Answer, Command, Flow, PollWindow, Worker};
use outrigger_blk::service::BlockService;

type Answers = Arc<Mutex<VecDeque<(u16, Answer)>>>;

/// Workers that go on when they are told to.
pub(crate) struct Local {
    seed: u64,
    workers: BTreeMap<u16, Worker<BlockService, Simulated>>,
    answers: Answers,
}

impl Local {
    pub(crate) fn new(seed: u64) -> Self {
        Local { seed, workers: BTreeMap::new(), answers: Answers::default() }
    }

    /// One turn of each.
    pub(super) fn turn(&mut self) {
        self.workers.retain(|_, worker| worker.turn() != Flow::Ended);
    }

    /// What one of them has said.
    pub(super) fn next_answer(&mut self) -> Option<(u16, Answer)> {
        self.answers.lock().unwrap().pop_front()
    }

    /// How many have not ended.
    pub(super) fn left(&self) -> usize {
        self.workers.len()
    }
}

impl Workers<BlockService> for Local {
    fn spawn(
        &mut self,
        worker: u16,
        queues: &[u16],
        assembly: Assembly<BlockService>,
    ) -> Result<(), Error> {
        let disk = SimulatedDisk::new(64 << 10);
        let count = queues.len() as u16;
        let engine = Simulated::new(self.seed, Faults::failing(), count, vec![disk]);
        let queues = queues.iter().map(|queue| (*queue, QueueStats::new())).collect();
        let answers = Arc::clone(&self.answers);
        let tell = Box::new(move |answer| answers.lock().unwrap().push_back((worker, answer)));
        let polling = PollWindow::Fixed(Duration::ZERO);
        let made = Worker::new(assembly.service, engine, queues, polling, tell);
        assert!(self.workers.insert(worker, made).is_none(), "a worker was started twice");
        Ok(())
    }

    fn command(&mut self, worker: u16, command: Command) {
        // One that has broken down is gone, as the session will hear.
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.command(command);
        }
    }
}
