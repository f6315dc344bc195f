//! Registers of the virtio-pci transport: a driver that writes what it likes, in any order and
//! width, while the device behind them is fast or slow. The fake device panics when it is told
//! anything that a device must not be told.

use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use hypervisor::{Machine, fake as machine};
use virtio_pci::{Bus, fake};
use virtio_spec::{Status, features};

/// Where the BAR is placed.
const WINDOW: std::ops::Range<u64> = 0xc000_0000..0xd000_0000;
/// Steps of one input.
const MOST: usize = 80;
/// The configuration space of the only device.
const CONFIG: u64 = 8 << 12;
const QUEUES: u16 = 3;
const LARGEST: u16 = 256;

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Step {
    /// A field of the common configuration, and what is written.
    Field(Field, Value),
    /// A driver's steps as they should be.
    Negotiate {
        packed: bool,
        ring_reset: bool,
    },
    DriverOk,
    EnableQueue(u8),
    /// Any bytes at any place in the first pages of the BAR.
    Anything {
        at: u16,
        bytes: [u8; 8],
        length: u8,
    },
    Kick(u8),
    Call(u8),
    ChangeConfig(u8),
    NeedReset,
    BeSlow,
    Finish,
    ResetMachine,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Field {
    DeviceFeatureSelect,
    DriverFeatureSelect,
    DriverFeature,
    ConfigVector,
    Status,
    QueueSelect,
    QueueSize,
    QueueVector,
    QueueEnable,
    QueueDesc,
    QueueDriver,
    QueueDevice,
    QueueReset,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Value {
    Zero,
    One,
    Small(u8),
    Any(u32),
}

impl Field {
    /// Offset and width.
    fn place(self) -> (u64, usize) {
        match self {
            Field::DeviceFeatureSelect => (0x00, 4),
            Field::DriverFeatureSelect => (0x08, 4),
            Field::DriverFeature => (0x0c, 4),
            Field::ConfigVector => (0x10, 2),
            Field::Status => (0x14, 1),
            Field::QueueSelect => (0x16, 2),
            Field::QueueSize => (0x18, 2),
            Field::QueueVector => (0x1a, 2),
            Field::QueueEnable => (0x1c, 2),
            Field::QueueDesc => (0x20, 4),
            Field::QueueDriver => (0x28, 4),
            Field::QueueDevice => (0x30, 4),
            Field::QueueReset => (0x3a, 2),
        }
    }
}

impl Value {
    fn value(self) -> u32 {
        match self {
            Value::Zero => 0,
            Value::One => 1,
            Value::Small(n) => u32::from(n),
            Value::Any(n) => n,
        }
    }
}

/// One input.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let guest = Guest::new();
    guest.enable();
    for _ in 0..MOST {
        let Ok(step) = Step::arbitrary(&mut input) else { break };
        guest.play(step);
        guest.check();
        if input.is_empty() {
            break;
        }
    }
    assert_eq!(guest.machine.lost_calls(), 0);
    guest.device.finish();
    guest.bus.reset();
    guest.device.finish();
    assert!(guest.bus.is_reset(), "a reset has an end");
    guest.enable();
    guest.negotiate(0);
    guest.write(Field::Status, 0b1111);
    assert_eq!(guest.status(), Status::from_bits_retain(0b1111), "the device can be used again");
}

struct Guest {
    bus: Bus,
    device: Arc<fake::Device>,
    machine: Arc<machine::Machine>,
}

impl Guest {
    fn new() -> Self {
        let config =
            fake::Config { queues: QUEUES, max_queue_size: LARGEST, ..fake::Config::default() };
        let device = fake::Device::new(config);
        let machine = Arc::new(machine::Machine::new());
        let shared: Arc<dyn Machine> = machine.clone();
        let bus = Bus::new(&shared, vec![device.clone()], WINDOW).unwrap();
        Self { bus, device, machine }
    }

    /// Memory decoding, bus mastering and MSI-X on, and a message for each vector.
    fn enable(&self) {
        self.bus.write_ecam(CONFIG | 4, &[6, 0]);
        self.bus.write_ecam(CONFIG | 0x42, &[0, 0x80]);
        for vector in 0..=u64::from(QUEUES) {
            self.bus.write_memory(WINDOW.start + 0x2000 + vector * 16 + 12, &[0; 4]);
        }
    }

    fn read<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut bytes = [0; N];
        assert!(self.bus.read_memory(WINDOW.start + at, &mut bytes));
        bytes
    }

    fn write(&self, field: Field, value: u32) {
        let (at, width) = field.place();
        self.bus.write_memory(WINDOW.start + at, &value.to_le_bytes()[..width]);
    }

    fn status(&self) -> Status {
        Status::from_bits_retain(self.read::<1>(0x14)[0])
    }

    fn negotiate(&self, bits: u64) {
        self.write(Field::Status, 0);
        self.write(Field::Status, 0b0011);
        let bits = bits | features::mask(features::VERSION_1);
        for select in 0..2 {
            self.write(Field::DriverFeatureSelect, select);
            self.write(Field::DriverFeature, (bits >> (32 * select)) as u32);
        }
        self.write(Field::Status, 0b1011);
    }

    fn play(&self, step: Step) {
        match step {
            Step::Field(field, value) => self.write(field, value.value()),
            Step::Negotiate { packed, ring_reset } => {
                let bit = |on, number| u64::from(on) * features::mask(number);
                self.negotiate(
                    bit(packed, features::RING_PACKED) | bit(ring_reset, features::RING_RESET),
                );
            }
            Step::DriverOk => self.write(Field::Status, 0b1111),
            Step::EnableQueue(index) => {
                self.write(Field::QueueSelect, u32::from(index % 4));
                self.write(Field::QueueVector, u32::from(index % 4));
                self.write(Field::QueueEnable, 1);
            }
            Step::Anything { at, bytes, length } => {
                let at = WINDOW.start + u64::from(at % 0x8000);
                self.bus.write_memory(at, &bytes[..usize::from(length % 9)]);
                self.bus.read_memory(at, &mut [0; 8][..usize::from(length % 9)]);
            }
            Step::Kick(queue) => {
                self.bus.write_memory(WINDOW.start + 0x4000 + u64::from(queue), &[queue, 0]);
            }
            Step::Call(queue) => {
                self.device.call(u16::from(queue % 4));
            }
            Step::ChangeConfig(byte) => self.device.change_config(&[byte; 64]),
            Step::NeedReset => self.device.need_reset(),
            Step::BeSlow => self.device.be_slow(),
            Step::Finish => self.device.finish(),
            Step::ResetMachine => {
                self.bus.reset();
                self.enable();
            }
        }
    }

    /// What a driver can rely on in any state.
    fn check(&self) {
        let status = self.status();
        assert!(!status.contains(Status::DRIVER_OK) || status.contains(Status::FEATURES_OK));
        assert!(!status.intersects(Status::from_bits_retain(0b0011_0000)), "{status:?}");
        assert_eq!(u16::from_le_bytes(self.read(0x12)), QUEUES);
        let selected = u16::from_le_bytes(self.read(0x16));
        let size = u16::from_le_bytes(self.read(0x18));
        assert_eq!(size > 0, selected < QUEUES, "queue {selected} of size {size}");
        assert!(size <= LARGEST);
        for vector in [0x10, 0x1a].map(|at| u16::from_le_bytes(self.read(at))) {
            assert!(vector <= QUEUES || vector == 0xffff, "vector {vector}");
        }
        assert!(self.machine.doorbells().len() <= usize::from(QUEUES));
    }
}
