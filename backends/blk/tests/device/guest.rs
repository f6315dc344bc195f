//! A guest with one block device: its driver, the worker that serves it, and the medium.

use std::sync::{Arc, Mutex};

use driver::{BlockQueue, Done, Layout, Memory, Operation, Queue, RegionSpec, Token};
use framework::engine::Engine;
use framework::memory::{GuestAddress, MemoryTable, Region, UserAddress};
use framework::ring::Call;
use framework::stats::QueueStats;
use framework::worker::{Answer, Command, PollWindow, RingSetup, Worker};
use outrigger_blk::counts::Counts;
use outrigger_blk::disk::{Disk, Facts};
use outrigger_blk::image::{Alignment, Medium as Kind};
use outrigger_blk::service::BlockService;
use virtio_spec::block::{
    CONFIG_WCE, DISCARD, FLUSH, SECURE_ERASE, SEG_MAX, SIZE_MAX, Status, WRITE_ZEROES,
};
use virtio_spec::features::{EVENT_IDX, INDIRECT_DESC, Negotiated, RING_PACKED, VERSION_1, mask};

use crate::medium::{Medium, MediumEngine, Shared};

/// Bytes of the disk.
pub(crate) const DISK: usize = 1 << 20;

/// What the device is like.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) facts: Facts,
    pub(crate) features: u64,
    pub(crate) queue_size: u16,
    pub(crate) buffers: u16,
    pub(crate) writeback: bool,
    /// Where guest memory is: address and length of two regions.
    pub(crate) regions: [(u64, u64); 2],
}

impl Default for Setup {
    fn default() -> Self {
        let bits = [
            FLUSH,
            CONFIG_WCE,
            DISCARD,
            WRITE_ZEROES,
            SECURE_ERASE,
            SEG_MAX,
            SIZE_MAX,
            VERSION_1,
            EVENT_IDX,
            INDIRECT_DESC,
        ];
        Setup {
            facts: Facts {
                medium: Kind::File,
                bytes: DISK as u64,
                read_only: false,
                block_size: 512,
                direct: None,
                unmap: true,
            },
            features: bits.iter().map(|bit| mask(*bit)).sum(),
            queue_size: 128,
            buffers: 2,
            writeback: true,
            regions: [(1 << 20, 64 << 20), (1 << 32, 1 << 20)],
        }
    }
}

impl Setup {
    pub(crate) fn read_only() -> Self {
        let mut setup = Setup::default();
        setup.facts.read_only = true;
        setup.without(&[DISCARD, WRITE_ZEROES, SECURE_ERASE])
    }

    pub(crate) fn packed() -> Self {
        Setup { features: Setup::default().features | mask(RING_PACKED), ..Setup::default() }
    }

    pub(crate) fn of(medium: Kind) -> Self {
        let mut setup = Setup::default();
        setup.facts.medium = medium;
        setup
    }

    pub(crate) fn direct(memory: u32, offset: u32) -> Self {
        let mut setup = Setup::default();
        setup.facts.direct = Some(Alignment { memory, offset });
        setup.facts.block_size = offset;
        setup
    }

    pub(crate) fn writethrough() -> Self {
        Setup { writeback: false, ..Setup::default() }
    }

    pub(crate) fn without(mut self, bits: &[u32]) -> Self {
        for bit in bits {
            self.features &= !mask(*bit);
        }
        self
    }

    pub(crate) fn start(self) -> Guest {
        Guest::start(self)
    }
}

/// A disk whose every byte tells where it is.
pub(crate) fn pattern() -> Vec<u8> {
    (0..DISK).map(|n| (n / 512 + n % 251) as u8).collect()
}

/// A guest with its device, which an engine of type `E` serves from a medium of type `M`.
pub(crate) struct Guest<E = MediumEngine, M = Shared> {
    pub(crate) block: BlockQueue,
    pub(crate) medium: M,
    pub(crate) disk: Arc<Disk>,
    pub(crate) memory: Memory,
    pub(crate) answers: Arc<Mutex<Vec<Answer>>>,
    worker: Worker<BlockService, E>,
}

impl Guest {
    fn start(setup: Setup) -> Self {
        let medium = Shared::new(Medium::new(pattern()));
        medium.lock().direct = setup.facts.direct;
        Guest::over(setup, MediumEngine::new(medium.clone(), setup.buffers), medium)
    }

    /// The device still serves requests.
    pub(crate) fn assert_alive(&mut self) {
        let expected = self.medium.lock().bytes[..512].to_vec();
        assert!(self.read(0, 512) == expected);
    }
}

impl<E: Engine, M> Guest<E, M> {
    /// A guest whose device this engine serves.
    pub(crate) fn over(setup: Setup, engine: E, medium: M) -> Self {
        let features = Negotiated::assume(setup.features);
        let disk = Arc::new(Disk::new(setup.facts));
        disk.set_cache_mode(setup.writeback, features);
        let service = BlockService::new(
            Arc::clone(&disk),
            *b"serial-0123456789abc",
            Arc::new(Counts::default()),
        );
        let answers = Arc::new(Mutex::new(Vec::new()));
        let tell = Arc::clone(&answers);
        let worker = Worker::new(
            service,
            engine,
            vec![(0, QueueStats::new())],
            PollWindow::Fixed(std::time::Duration::ZERO),
            Box::new(move |answer| tell.lock().unwrap().push(answer)),
        );
        let memory =
            Memory::with_regions(&setup.regions.map(|(at, size)| RegionSpec::new(at, size)));
        let memory = memory.unwrap();
        let queue = Queue::new(&memory, setup.queue_size, features).unwrap();
        let block = BlockQueue::new(queue, &memory);
        let mut guest = Guest { block, medium, disk, memory, answers, worker };
        guest.start_ring(setup.queue_size, features);
        guest
    }

    fn start_ring(&mut self, size: u16, features: Negotiated) {
        let base = self.block.queue().reaped_base();
        let addresses = self.block.queue().addresses();
        let user = |addr| UserAddress(self.memory.user_addr(addr, 1).unwrap());
        let setup = RingSetup {
            queue: 0,
            size,
            features,
            descriptors: user(addresses.descriptor),
            driver: user(addresses.driver),
            device: user(addresses.device),
            base,
            memory: Arc::new(self.memory_table()),
            log: None,
            used_log: None,
            in_flight: None,
            kick: None,
            call: Call::None,
            error: None,
            enabled: true,
            serve_disabled: false,
        };
        self.worker.command(Command::Start(Box::new(setup)));
        match self.answers.lock().unwrap().drain(..).next() {
            Some(Answer::Started { result: Ok(()), .. }) => {}
            other => panic!("the ring does not start: {other:?}"),
        }
    }

    fn memory_table(&self) -> MemoryTable {
        let regions = self.memory.regions().into_iter().map(|region| {
            let file = self.memory.file(region.guest_addr).unwrap();
            let (guest, user) = (GuestAddress(region.guest_addr), UserAddress(region.user_addr));
            Region::map(guest, user, region.size, file, region.mmap_offset).unwrap()
        });
        MemoryTable::new(regions.collect()).unwrap()
    }

    /// Puts a request into the ring, and shows it.
    pub(crate) fn submit(&mut self, operation: Operation) -> Token {
        self.submit_as(operation, &Layout::default())
    }

    /// Puts a request of this layout into the ring, and shows it.
    pub(crate) fn submit_as(&mut self, operation: Operation, layout: &Layout) -> Token {
        let token = self.block.submit(operation, layout).unwrap();
        self.block.publish();
        token
    }

    /// Lets the worker work for a turn.
    pub(crate) fn turn(&mut self) {
        self.worker.turn();
    }

    /// Asks the worker for something.
    pub(crate) fn command(&mut self, command: Command) {
        self.worker.command(command);
    }

    /// The next request that the device has used, after as many turns as it takes.
    pub(crate) fn next_done(&mut self) -> Done {
        for _ in 0..1000 {
            if let Some(done) = self.block.reap().unwrap() {
                return done;
            }
            self.turn();
        }
        panic!("the device does not answer");
    }

    /// Runs a request to its end.
    pub(crate) fn run(&mut self, operation: Operation) -> Done {
        self.run_as(operation, &Layout::default())
    }

    /// Runs a request of this layout to its end.
    pub(crate) fn run_as(&mut self, operation: Operation, layout: &Layout) -> Done {
        let token = self.submit_as(operation, layout);
        let done = self.next_done();
        assert_eq!(done.token, token);
        done
    }

    /// The status of a request.
    pub(crate) fn status(&mut self, operation: Operation) -> Status {
        let number = self.run(operation).status;
        Status::from_u8(number).unwrap()
    }

    /// Reads and expects success.
    pub(crate) fn read(&mut self, sector: u64, len: usize) -> Vec<u8> {
        self.run(Operation::Read { sector, len }).into_data().unwrap()
    }

    /// Writes and expects success.
    pub(crate) fn write(&mut self, sector: u64, data: &[u8]) {
        self.run(Operation::Write { sector, data: data.to_vec() }).into_data().unwrap();
    }
}
