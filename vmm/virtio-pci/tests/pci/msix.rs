//! MSI-X against a model: what is delivered, what waits, and that nothing is lost or doubled.

use proptest::prelude::*;
use virtio_pci::fake;

use crate::guest::{COMMAND, Driver, Guest, NO_VECTOR};

const QUEUES: u16 = 3;
const VECTORS: u16 = QUEUES + 1;

fn guest() -> Guest {
    Guest::new(fake::Config { queues: QUEUES, ..fake::Config::default() })
}

/// Live, with vector `n + 1` for queue `n`, each with a message and not masked.
fn live(guest: &Guest) -> Driver<'_> {
    let driver = guest.driver();
    driver.set_msix(true, false);
    for vector in 0..VECTORS {
        driver.set_vector(vector, 0x40 + u32::from(vector), false);
    }
    driver.go_live(0);
    for queue in 0..QUEUES {
        assert_eq!(driver.map_queue(queue, queue + 1), queue + 1);
    }
    driver
}

fn pending(driver: &Driver<'_>) -> u64 {
    u64::from_le_bytes(driver.read(driver.pending))
}

#[test]
fn a_masked_vector_keeps_what_comes_and_delivers_it_once() {
    let guest = guest();
    let driver = live(&guest);
    driver.mask_vector(2, true);
    for _ in 0..3 {
        assert!(guest.device.call(1));
    }
    assert_eq!((driver.messages(), pending(&driver)), (vec![], 1 << 2));
    driver.mask_vector(2, false);
    assert_eq!((driver.messages(), pending(&driver)), (vec![0x42], 0));
    driver.mask_vector(2, true);
    driver.mask_vector(2, false);
    driver.hears_nothing();
}

#[test]
fn what_is_on_its_way_is_not_pending() {
    let guest = guest();
    let driver = live(&guest);
    assert!(guest.device.call(1));
    assert_eq!(pending(&driver), 0);
    assert_eq!(driver.messages(), [0x42]);
}

#[test]
fn the_function_mask_covers_all_vectors() {
    let guest = guest();
    let driver = live(&guest);
    driver.set_msix(true, true);
    assert!(guest.device.call(0) && guest.device.call(2));
    assert_eq!((driver.messages(), pending(&driver)), (vec![], 0b1010));
    driver.set_msix(true, false);
    assert_eq!(driver.messages(), [0x41, 0x43]);
}

#[test]
fn a_function_that_is_not_bus_master_sends_nothing() {
    let guest = guest();
    let driver = live(&guest);
    guest.set_config(COMMAND, &[2, 0]);
    assert!(guest.device.call(0));
    driver.hears_nothing();
    guest.enable();
    assert_eq!(driver.messages(), [0x41]);
}

#[test]
fn a_new_message_is_used_from_then_on() {
    let guest = guest();
    let driver = live(&guest);
    driver.mask_vector(1, true);
    driver.set_vector(1, 0x99, false);
    assert!(guest.device.call(0));
    assert_eq!(driver.messages(), [0x99]);
    let updates = guest.machine.route_updates();
    driver.mask_vector(1, true);
    driver.mask_vector(1, false);
    assert_eq!(guest.machine.route_updates(), updates, "the same message costs nothing");
}

#[test]
fn queues_that_share_a_vector_share_its_pending_bit() {
    let guest = guest();
    let driver = live(&guest);
    for queue in 0..QUEUES {
        assert_eq!(driver.map_queue(queue, 1), 1);
    }
    assert!(guest.device.call(0));
    assert_eq!(driver.messages(), [0x41]);
    assert!(guest.device.call(2));
    assert_eq!(driver.messages(), [0x41]);
    driver.mask_vector(1, true);
    assert!(guest.device.call(0) && guest.device.call(1) && guest.device.call(2));
    driver.mask_vector(1, false);
    assert_eq!(driver.messages(), [0x41]);
}

#[test]
fn the_table_is_written_in_bytes_words_and_quadwords() {
    let guest = guest();
    let driver = guest.driver();
    let entry = driver.table + 16;
    driver.write(entry, &0xfee0_3000_u64.to_le_bytes());
    driver.write(entry + 8, &0x1_0000_0045_u64.to_le_bytes());
    assert_eq!(u64::from_le_bytes(driver.read(entry)), 0xfee0_3000);
    assert_eq!(u64::from_le_bytes(driver.read(entry + 8)), 0x1_0000_0045);
    driver.write(entry + 8, &[0x46]);
    driver.write(entry + 10, &[1, 2]);
    assert_eq!(u32::from_le_bytes(driver.read(entry + 8)), 0x0201_0046);
    driver.write(entry + 12, &[0xff; 4]);
    assert_eq!(driver.read::<4>(entry + 12), [1, 0, 0, 0]);
    driver.write(driver.pending, &[0xff; 8]);
    assert_eq!(pending(&driver), 0, "pending bits are read-only");
}

#[derive(Debug, Clone)]
enum Step {
    Switch { enabled: bool, masked: bool },
    Mask(u16, bool),
    Message(u16, u32),
    Map(u16, u16),
    Call(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (any::<bool>(), any::<bool>())
            .prop_map(|(enabled, masked)| Step::Switch { enabled, masked }),
        1 => (0..VECTORS, any::<bool>()).prop_map(|(vector, masked)| Step::Mask(vector, masked)),
        1 => (0..VECTORS, 1_u32..1000).prop_map(|(vector, data)| Step::Message(vector, data)),
        1 => (0..QUEUES, prop_oneof![0..VECTORS + 1, Just(NO_VECTOR)])
            .prop_map(|(queue, vector)| Step::Map(queue, vector)),
        3 => (0..QUEUES).prop_map(Step::Call),
    ]
}

/// MSI-X as the specification describes it: a message for each event whose vector may speak, a
/// pending bit otherwise, and one message for a pending bit when it may.
#[derive(Debug, Default)]
struct Model {
    enabled: bool,
    masked: bool,
    vectors: [Vector; VECTORS as usize],
    queues: [ModelQueue; QUEUES as usize],
}

#[derive(Debug, Clone, Copy)]
struct Vector {
    masked: bool,
    data: u32,
}

#[derive(Debug, Clone, Copy)]
struct ModelQueue {
    vector: u16,
    waiting: bool,
}

impl Default for Vector {
    fn default() -> Self {
        Self { masked: true, data: 0 }
    }
}

impl Default for ModelQueue {
    fn default() -> Self {
        Self { vector: NO_VECTOR, waiting: false }
    }
}

impl Model {
    fn speaks(&self, queue: usize) -> bool {
        let vector = self.vectors.get(usize::from(self.queues[queue].vector));
        self.enabled && !self.masked && vector.is_some_and(|vector| !vector.masked)
    }

    fn take(&mut self, step: &Step) -> Vec<u32> {
        match *step {
            Step::Switch { enabled, masked } => (self.enabled, self.masked) = (enabled, masked),
            Step::Mask(vector, masked) => self.vectors[usize::from(vector)].masked = masked,
            Step::Message(vector, data) => self.vectors[usize::from(vector)].data = data,
            Step::Map(queue, vector) => {
                let queue = &mut self.queues[usize::from(queue)];
                queue.waiting &= queue.vector != NO_VECTOR;
                queue.vector = if vector < VECTORS { vector } else { NO_VECTOR };
            }
            Step::Call(queue) => self.queues[usize::from(queue)].waiting = true,
        }
        let mut vectors = Vec::new();
        for queue in 0..self.queues.len() {
            if self.speaks(queue) && std::mem::take(&mut self.queues[queue].waiting) {
                vectors.push(self.queues[queue].vector);
            }
        }
        vectors.sort_unstable();
        vectors.dedup();
        let mut data: Vec<u32> =
            vectors.iter().map(|&vector| self.vectors[usize::from(vector)].data).collect();
        data.sort_unstable();
        data
    }

    fn pending(&self) -> u64 {
        let waiting = (0..self.queues.len()).filter(|&queue| {
            let at = self.queues[queue];
            at.waiting && at.vector != NO_VECTOR && !self.speaks(queue)
        });
        waiting.fold(0, |bits, queue| bits | 1 << self.queues[queue].vector)
    }
}

fn play(driver: &Driver<'_>, step: &Step) {
    match *step {
        Step::Switch { enabled, masked } => driver.set_msix(enabled, masked),
        Step::Mask(vector, masked) => driver.mask_vector(vector, masked),
        Step::Message(vector, data) => {
            let entry = driver.table + u64::from(vector) * 16;
            driver.write(entry + 8, &data.to_le_bytes());
        }
        Step::Map(queue, vector) => {
            driver.map_queue(queue, vector);
        }
        Step::Call(queue) => assert!(driver.guest.device.call(queue)),
    }
}

proptest! {
    #[test]
    fn messages_and_pending_bits_are_those_of_the_model(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let guest = guest();
        let driver = guest.driver();
        driver.go_live(0);
        let mut model = Model::default();
        for step in &steps {
            play(&driver, step);
            prop_assert_eq!(driver.messages(), model.take(step), "{:?}", step);
            prop_assert_eq!(pending(&driver), model.pending(), "{:?}", step);
        }
        prop_assert_eq!(guest.machine.lost_calls(), 0);
    }
}
