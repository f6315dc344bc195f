//! The IOAPIC, driven through its registers, against a model and against what the hypervisor was
//! asked to deliver.

use hypervisor::fake;
use proptest::prelude::*;

use super::*;

const MASK: u32 = 1 << 16;
const LEVEL: u32 = 1 << 15;
const REMOTE_IRR: u32 = 1 << 14;

struct Rig {
    machine: Arc<fake::Machine>,
    ioapic: Arc<Ioapic>,
}

impl Rig {
    fn new() -> Self {
        let machine = Arc::new(fake::Machine::new());
        Self { ioapic: Ioapic::new(Arc::clone(&machine) as Arc<dyn Machine>), machine }
    }

    fn write(&self, register: u8, value: u32) {
        self.ioapic.write(SELECT, &[register]);
        self.ioapic.write(WINDOW, &value.to_le_bytes());
    }

    fn read(&self, register: u8) -> u32 {
        self.ioapic.write(SELECT, &[register]);
        let mut data = [0; 4];
        self.ioapic.read(WINDOW, &mut data);
        u32::from_le_bytes(data)
    }

    /// Vectors delivered since the last call.
    fn vectors(&self) -> Vec<u8> {
        self.machine.messages().iter().map(|message| message.data.to_le_bytes()[0]).collect()
    }
}

fn low(pin: u8) -> u8 {
    FIRST_ENTRY + 2 * pin
}

#[test]
fn after_a_reset_every_pin_is_masked() {
    let rig = Rig::new();
    rig.write(low(3), 0x33);
    rig.ioapic.reset();
    assert_eq!(rig.read(VERSION), 0x0017_0020);
    for pin in 0..24 {
        assert_eq!((rig.read(low(pin)), rig.read(low(pin) + 1)), (MASK, 0));
        rig.ioapic.pin(pin.into()).pulse();
    }
    assert!(rig.vectors().is_empty());
}

#[test]
fn an_edge_becomes_the_message_its_entry_describes() {
    let rig = Rig::new();
    // Fixed, logical; destination 0x12, extended by 5.
    rig.write(low(4) + 1, 0x12 << 24 | 5 << 17);
    rig.write(low(4), 0x31 | 1 << 11);
    rig.ioapic.pin(4).pulse();
    let address = 0xfee0_0000 | 0x12 << 12 | 5 << 5 | 1 << 2;
    assert_eq!(rig.machine.messages(), [Msi { address, data: 0x31 }]);
    assert_eq!(rig.machine.route_of(Gsi(4)), None, "edges need no route");
}

#[test]
fn an_edge_at_a_masked_pin_is_lost() {
    let rig = Rig::new();
    rig.write(low(4), MASK | 0x31);
    rig.ioapic.pin(4).pulse();
    rig.write(low(4), 0x31);
    assert!(rig.vectors().is_empty());
    rig.ioapic.pin(4).pulse();
    assert_eq!(rig.vectors(), [0x31]);
}

#[test]
fn a_level_is_delivered_again_after_each_eoi_while_it_is_high() {
    let rig = Rig::new();
    rig.write(low(9), LEVEL | 0x51);
    rig.ioapic.set_level(9, true);
    rig.ioapic.set_level(9, true);
    assert_eq!(rig.vectors(), [0x51]);
    assert_eq!(rig.read(low(9)), LEVEL | REMOTE_IRR | 0x51);
    assert_eq!(rig.machine.route_of(Gsi(9)).unwrap().data, 0xc051, "so that its EOI exits");
    rig.ioapic.eoi(0x52);
    assert!(rig.vectors().is_empty(), "another's EOI");
    rig.ioapic.eoi(0x51);
    assert_eq!(rig.vectors(), [0x51]);
    rig.ioapic.set_level(9, false);
    rig.ioapic.eoi(0x51);
    assert_eq!((rig.vectors(), rig.read(low(9))), (vec![], LEVEL | 0x51));
}

#[test]
fn a_level_that_rose_while_masked_is_delivered_when_unmasked() {
    let rig = Rig::new();
    rig.write(low(9), LEVEL | MASK | 0x51);
    rig.ioapic.set_level(9, true);
    assert!(rig.vectors().is_empty());
    rig.write(low(9), LEVEL | 0x51);
    assert_eq!(rig.vectors(), [0x51]);
    assert_eq!(rig.machine.route_of(Gsi(9)).unwrap().data, 0xc051);
}

#[test]
fn a_level_whose_pin_is_masked_before_its_eoi_is_acknowledged_all_the_same() {
    let rig = Rig::new();
    rig.write(low(9), LEVEL | 0x51);
    rig.ioapic.set_level(9, true);
    rig.write(low(9), LEVEL | MASK | 0x51);
    assert_eq!(rig.machine.route_of(Gsi(9)).unwrap().data, 0xc051, "so that its EOI exits");
    rig.ioapic.eoi(0x51);
    rig.ioapic.set_level(9, false);
    rig.write(low(9), LEVEL | 0x51);
    assert_eq!(rig.vectors(), [0x51]);
    rig.ioapic.set_level(9, true);
    assert_eq!(rig.vectors(), [0x51]);
    rig.write(low(9), 0x51);
    assert_eq!(rig.machine.route_of(Gsi(9)), None, "edges need no route");
}

#[test]
fn the_eoi_register_acknowledges_too_and_an_edge_forgets_remote_irr() {
    let rig = Rig::new();
    rig.write(low(9), LEVEL | 0x51);
    rig.ioapic.set_level(9, true);
    rig.ioapic.set_level(9, false);
    rig.ioapic.write(EOI, &0x51_u32.to_le_bytes());
    assert_eq!(rig.read(low(9)) & REMOTE_IRR, 0);
    rig.ioapic.set_level(9, true);
    rig.write(low(9), 0x51);
    assert_eq!(rig.read(low(9)), 0x51);
}

/// One thing that happens to an IOAPIC.
#[derive(Clone, Debug)]
enum Step {
    Write { pin: u8, low: u32 },
    Level { pin: u8, high: bool },
    Eoi(u8),
    Reset,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Few pins and vectors, so that steps meet.
    let vector = 0x30u32..0x33;
    let entry =
        (vector.clone(), any::<bool>(), any::<bool>()).prop_map(|(vector, level, masked)| {
            vector | (u32::from(level) * LEVEL) | (u32::from(masked) * MASK) | REMOTE_IRR
        });
    let step = prop_oneof![
        3 => (0u8..3, entry).prop_map(|(pin, low)| Step::Write { pin, low }),
        4 => (0u8..3, any::<bool>()).prop_map(|(pin, high)| Step::Level { pin, high }),
        3 => vector.prop_map(|vector| Step::Eoi(vector.to_le_bytes()[0])),
        1 => Just(Step::Reset),
    ];
    prop::collection::vec(step, 0..60)
}

/// A pin, as the data sheet words it.
#[derive(Clone, Copy, Default)]
struct Model {
    vector: u8,
    level: bool,
    masked: bool,
    remote_irr: bool,
    line: bool,
    routed: bool,
}

impl Model {
    fn due(&mut self) -> Option<u8> {
        let due = self.level && self.line && !self.masked && !self.remote_irr;
        self.remote_irr |= due;
        due.then_some(self.vector)
    }

    fn step(&mut self, step: &Step, is_this: bool) -> Option<u8> {
        match *step {
            Step::Write { low, .. } if is_this => {
                (self.level, self.masked) = (low & LEVEL != 0, low & MASK != 0);
                self.vector = low.to_le_bytes()[0];
                self.remote_irr &= self.level;
                self.routed = self.level && (self.routed || !self.masked);
                self.due()
            }
            Step::Level { high, .. } if is_this => {
                let rises = high && !self.line;
                self.line = high;
                if self.level { self.due() } else { (rises && !self.masked).then_some(self.vector) }
            }
            Step::Eoi(vector) if self.level && self.remote_irr && self.vector == vector => {
                self.remote_irr = false;
                self.due()
            }
            Step::Reset => {
                *self = Self { masked: true, line: self.line, ..Self::default() };
                None
            }
            _ => None,
        }
    }
}

proptest! {
    #[test]
    fn it_delivers_what_the_model_delivers(steps in steps()) {
        let rig = Rig::new();
        let mut model = [Model { masked: true, ..Model::default() }; 3];
        for step in &steps {
            match *step {
                Step::Write { pin, low: value } => rig.write(low(pin), value),
                Step::Level { pin, high } => rig.ioapic.set_level(pin.into(), high),
                Step::Eoi(vector) => rig.ioapic.eoi(vector),
                Step::Reset => rig.ioapic.reset(),
            }
            let about = match *step {
                Step::Write { pin, .. } | Step::Level { pin, .. } => Some(pin),
                _ => None,
            };
            let expected: Vec<u8> = (0..)
                .zip(&mut model)
                .filter_map(|(pin, model)| model.step(step, about == Some(pin)))
                .collect();
            prop_assert_eq!(rig.vectors(), expected);
            for (pin, model) in (0..).zip(&model) {
                let entry = rig.read(low(pin));
                prop_assert_eq!(entry & REMOTE_IRR != 0, model.remote_irr);
                let routed = rig.machine.route_of(Gsi(pin.into())).is_some();
                prop_assert_eq!(routed, model.routed, "its EOI exits");
            }
        }
    }

    #[test]
    fn accesses_of_any_shape_do_no_harm(
        accesses in prop::collection::vec((0u64..0x50, prop::collection::vec(any::<u8>(), 0..9), 0u32..40), 0..60),
    ) {
        let rig = Rig::new();
        for (offset, mut data, pin) in accesses {
            rig.ioapic.write(offset, &data);
            rig.ioapic.read(offset, &mut data);
            rig.ioapic.set_level(pin, true);
        }
    }
}
