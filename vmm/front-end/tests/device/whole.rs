//! From a guest's registers through the transport and the front-end to a back-end process, and back
//! as an interrupt: everything between a guest and its disk but the CPU.

use std::sync::Arc;
use std::time::Duration;

use driver::{BlockQueue, Deadline, Disk, Notifier, Queue};
use front_end::FrontEnd;
use hypervisor::{GuestAddress, Machine, fake};
use virtio_pci::{Bus, Device};
use virtio_spec::Negotiated;
use virtio_spec::features::{EVENT_IDX, INDIRECT_DESC, RING_PACKED, VERSION_1, mask};

use crate::guest::LONG;
use crate::outrigger_blk::Rig;

const WINDOW: std::ops::Range<u64> = 0xc000_0000..0xe000_0000;
/// Device 1, function 0.
const FUNCTION: u64 = 1 << 15;

const DEVICE_FEATURE_SELECT: u64 = 0x00;
const DEVICE_FEATURE: u64 = 0x04;
const DRIVER_FEATURE_SELECT: u64 = 0x08;
const DRIVER_FEATURE: u64 = 0x0c;
const STATUS: u64 = 0x14;
const QUEUE_SELECT: u64 = 0x16;
const QUEUE_SIZE: u64 = 0x18;
const QUEUE_VECTOR: u64 = 0x1a;
const QUEUE_ENABLE: u64 = 0x1c;
const QUEUE_DESC: u64 = 0x20;
const QUEUE_DRIVER: u64 = 0x28;
const QUEUE_DEVICE: u64 = 0x30;

/// A guest's view of the device: reads and writes as a CPU makes them.
#[derive(Clone)]
struct Card {
    bus: Arc<Bus>,
    machine: Arc<fake::Machine>,
}

impl Card {
    fn new(device: Arc<FrontEnd>) -> Self {
        let machine = Arc::new(fake::Machine::new());
        let shared: Arc<dyn Machine> = machine.clone();
        let bus = Arc::new(Bus::new(&shared, vec![device as Arc<dyn Device>], WINDOW).unwrap());
        Self { bus, machine }
    }

    /// Memory decoding and bus mastering on.
    fn enable(&self) {
        self.bus.write_ecam(FUNCTION | 4, &6_u16.to_le_bytes());
    }

    fn config<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.bus.read_ecam(FUNCTION | at, &mut bytes);
        bytes
    }

    /// Where the capability with this id is whose structure is of this kind, if it has kinds.
    fn capability(&self, id: u8, kind: Option<u8>) -> u64 {
        let mut at = u64::from(self.config::<1>(0x34)[0]);
        while at != 0 {
            let [found, next, _, its_kind] = self.config(at);
            if found == id && kind.is_none_or(|kind| kind == its_kind) {
                return at;
            }
            at = next.into();
        }
        panic!("no capability {id} of kind {kind:?}");
    }

    /// Guest address of a virtio structure.
    fn structure(&self, kind: u8) -> u64 {
        let offset: [u8; 4] = self.config(self.capability(9, Some(kind)) + 8);
        self.bar() + u64::from(u32::from_le_bytes(offset))
    }

    fn bar(&self) -> u64 {
        u64::from_le_bytes(self.config(0x10)) & !0xf
    }

    fn read<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut bytes = [0; N];
        assert!(self.bus.read_memory(at, &mut bytes));
        bytes
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        if !self.machine.write_mmio(GuestAddress(at)) {
            assert!(self.bus.write_memory(at, bytes));
        }
    }

    fn set(&self, field: u64, bytes: &[u8]) {
        self.write(self.structure(1) + field, bytes);
    }

    fn set_address(&self, field: u64, address: u64) {
        let [low, high] = [address & 0xffff_ffff, address >> 32];
        self.set(field, &low.to_le_bytes()[..4]);
        self.set(field + 4, &high.to_le_bytes()[..4]);
    }

    fn status(&self) -> u8 {
        self.read::<1>(self.structure(1) + STATUS)[0]
    }

    /// Resets the device and waits until it says that it is.
    fn reset(&self) {
        self.set(STATUS, &[0]);
        let deadline = Deadline::after(LONG);
        while self.status() != 0 {
            assert!(!deadline.is_past(), "the reset is never over");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Takes these features of those offered.
    fn negotiate(&self, wanted: u64) -> Negotiated {
        self.enable();
        self.reset();
        self.set(STATUS, &[1]);
        self.set(STATUS, &[3]);
        let mut agreed = 0;
        for half in 0..2_u32 {
            self.set(DEVICE_FEATURE_SELECT, &half.to_le_bytes());
            let offered = u32::from_le_bytes(self.read(self.structure(1) + DEVICE_FEATURE));
            let bits = u64::from(offered) << (32 * half) & wanted;
            agreed |= bits;
            self.set(DRIVER_FEATURE_SELECT, &half.to_le_bytes());
            self.set(DRIVER_FEATURE, &(bits >> (32 * half)).to_le_bytes()[..4]);
        }
        self.set(STATUS, &[11]);
        assert_eq!(self.status(), 11, "the features are not accepted");
        Negotiated::assume(agreed)
    }

    /// Lets vector 1 send a message for queue 0, which is started.
    fn start(&self, queue: &Queue) {
        let msix = self.capability(0x11, None);
        let table = self.bar() + u64::from(u32::from_le_bytes(self.config(msix + 4)) & !7);
        for (word, value) in (0..).zip([0xfee0_0000_u32, 0, 0x41, 0]) {
            self.write(table + 16 + 4 * word, &value.to_le_bytes());
        }
        self.bus.write_ecam(FUNCTION | (msix + 2), &0x8000_u16.to_le_bytes());
        let at = queue.addresses();
        self.set(QUEUE_SELECT, &[0, 0]);
        self.set(QUEUE_SIZE, &queue.size().to_le_bytes());
        self.set(QUEUE_VECTOR, &[1, 0]);
        self.set_address(QUEUE_DESC, at.descriptor);
        self.set_address(QUEUE_DRIVER, at.driver);
        self.set_address(QUEUE_DEVICE, at.device);
        self.set(QUEUE_ENABLE, &[1, 0]);
        self.set(STATUS, &[15]);
    }
}

/// Queue 0 of a card, as its driver kicks and is interrupted.
struct Interrupts(Card);

impl Notifier for Interrupts {
    fn kick(&mut self) -> driver::Result<()> {
        // Queue 0's doorbell is the first.
        self.0.write(self.0.structure(2), &[0, 0]);
        Ok(())
    }

    fn wait(&mut self, deadline: Deadline) -> driver::Result<bool> {
        Ok(!self.0.machine.wait_messages(deadline.left()).is_empty())
    }
}

fn disk(rig: &Rig, card: &Card, more: u64) -> Disk<Interrupts> {
    let features = card.negotiate(mask(VERSION_1) | mask(EVENT_IDX) | mask(INDIRECT_DESC) | more);
    let queue = Queue::new(&rig.guest.memory, 64, features).unwrap();
    card.start(&queue);
    Disk::new(BlockQueue::new(queue, &rig.guest.memory), Interrupts(card.clone())).with_limit(LONG)
}

#[test]
fn a_guests_driver_uses_its_disk_through_resets_reboots_and_deaths() {
    let mut rig = Rig::new("front-end-whole");
    let card = Card::new(Arc::clone(&rig.guest.device));
    card.enable();
    let capacity = u64::from_le_bytes(card.read(card.structure(4)));
    assert_eq!(capacity, (4 << 20) / 512);
    for (round, more) in [(1, 0), (2, mask(RING_PACKED)), (3, 0)] {
        let mut disk = disk(&rig, &card, more);
        disk.write(8, &[round; 4096]).unwrap();
        assert_eq!(disk.read(8, 4096).unwrap(), [round; 4096]);
        rig.kill();
        // Nobody is there to see the kick. The request is served by the successor.
        let token =
            disk.submit(driver::Operation::Write { sector: 16, data: vec![round; 512] }).unwrap();
        rig.start_again();
        disk.wait_for(token).unwrap().into_data().unwrap();
        assert_eq!(disk.read(16, 512).unwrap(), [round; 512]);
        if round == 2 {
            // The machine is reset under the driver.
            card.bus.reset();
            rig.guest.wait("the bus is reset", || card.bus.is_reset());
        }
    }
    card.enable();
    card.reset();
    assert_eq!(rig.guest.device.report().losses, 3);
}
