//! PCI configuration space: accesses of any place and width, by both mechanisms, to buses with
//! several functions, and to wherever that has put their BARs.

use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use hypervisor::{GuestAddress, Machine, fake as machine};
use virtio_pci::{Bus, Device, fake};
use virtio_spec::features;

const WINDOW: std::ops::Range<u64> = 0xc000_0000..0xd000_0000;
/// Steps of one input.
const MOST: usize = 80;
const DEVICES: u64 = 3;
/// Command and BAR registers, and the bits of the BAR that the guest cannot write.
const COMMAND: u64 = 0x04;
const BAR: u64 = 0x10;
const MEMORY: u8 = 2;
/// Bytes of the header that a guest may change: command, cache line size, BAR, interrupt line.
const WRITABLE: [std::ops::Range<usize>; 4] = [0x04..0x06, 0x0c..0x0d, 0x10..0x18, 0x3c..0x3d];

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Access {
    Ecam {
        function: Function,
        register: Register,
        data: [u8; 8],
        length: u8,
    },
    Port {
        port: u8,
        data: [u8; 8],
        length: u8,
    },
    /// The address port, with something sensible in it.
    Select {
        function: Function,
        register: u8,
    },
    /// Wherever the BAR of a device is.
    Bar {
        device: u8,
        at: u16,
        data: [u8; 8],
        length: u8,
    },
    /// Moves a BAR, decoding or not.
    Move {
        device: u8,
        to: u32,
        high: u8,
    },
    Call {
        device: u8,
        queue: u8,
    },
    Reset,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Function {
    Device(u8),
    Any(u16),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Register {
    Header(u8),
    Capabilities(u8),
    Any(u16),
}

impl Function {
    fn number(self) -> u64 {
        match self {
            Function::Device(n) => (u64::from(n) % DEVICES + 1) * 8,
            Function::Any(n) => u64::from(n),
        }
    }
}

impl Register {
    fn offset(self) -> u64 {
        match self {
            Register::Header(n) => u64::from(n % 0x40),
            Register::Capabilities(n) => 0x40 + u64::from(n % 0x80),
            Register::Any(n) => u64::from(n % 0x1008),
        }
    }
}

/// One input.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let guest = Guest::new();
    let headers: Vec<_> = (1..=DEVICES).map(|slot| guest.header(slot)).collect();
    for _ in 0..MOST {
        let Ok(access) = Access::arbitrary(&mut input) else { break };
        guest.play(access);
        for (slot, before) in (1..).zip(&headers) {
            guest.check(slot, before);
        }
        if input.is_empty() {
            break;
        }
    }
    assert_eq!(guest.machine.lost_calls(), 0);
}

struct Guest {
    bus: Bus,
    devices: Vec<Arc<fake::Device>>,
    machine: Arc<machine::Machine>,
}

impl Guest {
    /// Devices that run, with doorbells.
    fn new() -> Self {
        let device = |n| {
            let queues = 1 + 3 * n;
            fake::Device::new(fake::Config { queues, ..fake::Config::default() })
        };
        let devices: Vec<_> = (0..DEVICES as u16).map(device).collect();
        let machine = Arc::new(machine::Machine::new());
        let shared: Arc<dyn Machine> = machine.clone();
        let dynamic = devices.iter().map(as_device).collect();
        let guest = Self { bus: Bus::new(&shared, dynamic, WINDOW).unwrap(), devices, machine };
        for slot in 1..=DEVICES {
            guest.start(slot);
        }
        guest
    }

    /// Brings a device to life with its first queue.
    fn start(&self, slot: u64) {
        self.bus.write_ecam(space(slot) | COMMAND, &[6]);
        let bar = self.bar(slot);
        let write = |at, bytes: &[u8]| assert!(self.bus.write_memory(bar + at, bytes));
        write(0x08, &1_u32.to_le_bytes());
        write(0x0c, &((features::mask(features::VERSION_1) >> 32) as u32).to_le_bytes());
        write(0x14, &[0b1011]);
        write(0x1c, &[1, 0]);
        write(0x14, &[0b1111]);
    }

    fn header(&self, slot: u64) -> [u8; 0x40] {
        let mut header = [0; 0x40];
        self.bus.read_ecam(space(slot), &mut header);
        header
    }

    fn bar(&self, slot: u64) -> u64 {
        let mut bar = [0; 8];
        self.bus.read_ecam(space(slot) | BAR, &mut bar);
        u64::from_le_bytes(bar) & !0xf
    }

    fn play(&self, access: Access) {
        match access {
            Access::Ecam { function, register, data, length } => {
                let at = function.number() << 12 | register.offset();
                self.bus.write_ecam(at, part(&data, length));
                self.bus.read_ecam(at, &mut [0; 8][..usize::from(length % 9)]);
            }
            Access::Port { port, data, length } => {
                let port = 0xcf8 + u16::from(port % 10);
                self.bus.write_port(port, part(&data, length));
                self.bus.read_port(port, &mut [0; 8][..usize::from(length % 9)]);
            }
            Access::Select { function, register } => {
                let address = (1 << 31 | function.number() << 8 | u64::from(register)) as u32;
                self.bus.write_port(0xcf8, &address.to_le_bytes());
            }
            Access::Bar { device, at, data, length } => {
                let at = self.bar(u64::from(device) % DEVICES + 1).saturating_add(at.into());
                self.bus.write_memory(at, part(&data, length));
                self.bus.read_memory(at, &mut [0; 8][..usize::from(length % 9)]);
            }
            Access::Move { device, to, high } => {
                let bar = space(u64::from(device) % DEVICES + 1) | BAR;
                self.bus.write_ecam(bar, &to.to_le_bytes());
                self.bus.write_ecam(bar + 4, &u32::from(high).to_le_bytes());
            }
            Access::Call { device, queue } => {
                let device = &self.devices[usize::from(device) % self.devices.len()];
                device.call(queue.into());
            }
            Access::Reset => {
                self.bus.reset();
                assert!(self.bus.is_reset());
            }
        }
    }

    /// What holds whatever the guest writes.
    fn check(&self, slot: u64, before: &[u8; 0x40]) {
        let now = self.header(slot);
        for (at, (was, is)) in before.iter().zip(&now).enumerate() {
            let writable = WRITABLE.iter().any(|range| range.contains(&at));
            // The interrupt bit of the status register comes and goes.
            assert!(writable || was & !8 == is & !8, "byte {at:#x} of slot {slot}");
        }
        assert_eq!(now[0x10] & 0xf, 4, "a memory BAR of 64 bits");
        self.check_capabilities(slot, now[0x34]);
        let decodes = now[COMMAND as usize] & MEMORY != 0;
        let answers = self.bus.read_memory(self.bar(slot), &mut [0]);
        assert!(!answers || decodes || self.others_answer(slot));
        for GuestAddress(at) in self.machine.doorbells() {
            assert!(self.bus.read_memory(at, &mut [0]), "a doorbell where no BAR is: {at:#x}");
        }
    }

    /// The list leads to its end, without a loop.
    fn check_capabilities(&self, slot: u64, first: u8) {
        let mut at = first;
        for _ in 0..7 {
            if at == 0 {
                return;
            }
            let mut capability = [0; 2];
            self.bus.read_ecam(space(slot) | u64::from(at), &mut capability);
            assert!(matches!(capability[0], 0x09 | 0x11));
            at = capability[1];
        }
        panic!("the capabilities of slot {slot} have no end");
    }

    /// Whether a BAR that the guest put over this one answers in its stead.
    fn others_answer(&self, slot: u64) -> bool {
        let bar = self.bar(slot);
        (1..=DEVICES).filter(|&other| other != slot).any(|other| {
            self.header(other)[COMMAND as usize] & MEMORY != 0
                && bar.checked_sub(self.bar(other)).is_some_and(|offset| offset < 0x10000)
        })
    }
}

/// The configuration space of the first function in a slot.
fn space(slot: u64) -> u64 {
    slot << 15
}

fn as_device(device: &Arc<fake::Device>) -> Arc<dyn Device> {
    device.clone()
}

fn part(data: &[u8; 8], length: u8) -> &[u8] {
    &data[..usize::from(length % 9)]
}
