//! Finding the functions, as Linux does.

use std::sync::Arc;

use hypervisor::{Machine, fake as machine};
use virtio_pci::{Bus, Device, Error, fake};
use virtio_spec::DeviceType;

use crate::guest::{BAR0, COMMAND, Guest, WINDOW};

fn bus(count: usize) -> Result<Bus, Error> {
    let machine: Arc<dyn Machine> = Arc::new(machine::Machine::with_vectors(4000));
    let device = || -> Arc<dyn Device> {
        fake::Device::new(fake::Config { queues: 1, ..fake::Config::default() })
    };
    Bus::new(&machine, (0..count).map(|_| device()).collect(), WINDOW)
}

fn read32(bus: &Bus, function: u64, register: u64) -> u32 {
    let mut bytes = [0; 4];
    bus.read_ecam(function << 12 | register, &mut bytes);
    u32::from_le_bytes(bytes)
}

/// Slot by slot; further functions only where the header type says so.
fn scan(bus: &Bus) -> Vec<u64> {
    let mut found = Vec::new();
    for slot in 0..32 {
        if read32(bus, slot * 8, 0) == u32::MAX {
            continue;
        }
        let multi_function = read32(bus, slot * 8, 0x0c) >> 16 & 0x80 != 0;
        let functions = if multi_function { 8 } else { 1 };
        let there = |function: &u64| read32(bus, *function, 0) != u32::MAX;
        found.extend((slot * 8..).take(functions).filter(there));
    }
    found
}

#[test]
fn every_device_is_found_in_a_slot_of_its_own() {
    let bus = bus(31).unwrap();
    assert_eq!(scan(&bus), (0..32).map(|slot| slot * 8).collect::<Vec<_>>());
}

#[test]
fn more_devices_share_slots() {
    let bus = bus(40).unwrap();
    let found = scan(&bus);
    assert_eq!(found.len(), 41);
    assert!(found.contains(&9) && !found.contains(&(10 * 8 + 1)));
    let addresses: Vec<u64> = bus.addresses().map(|address| address.number().into()).collect();
    assert!(addresses.iter().all(|address| found.contains(address)));
}

#[test]
fn too_many_devices_are_refused() {
    let machine: Arc<dyn Machine> = Arc::new(machine::Machine::new());
    let device: Arc<dyn Device> =
        fake::Device::new(fake::Config { queues: 0, ..fake::Config::default() });
    assert!(Bus::new(&machine, vec![device.clone(); 248], WINDOW).is_ok());
    let refused = Bus::new(&machine, vec![device; 249], WINDOW);
    assert!(matches!(refused, Err(Error::TooManyDevices { count: 249, max: 248 })));
}

#[test]
fn the_host_bridge_is_one() {
    let bus = bus(0).unwrap();
    assert_eq!(read32(&bus, 0, 0x08) >> 16, 0x0600);
    bus.write_ecam(0, &[0; 8]);
    assert_eq!(read32(&bus, 0, 0x00), 0x0008_1b36);
}

#[test]
fn ids_follow_the_device_type() {
    for (kind, id) in [(1, 0x1041), (2, 0x1042), (5, 0x1045), (26, 0x105a)] {
        let guest =
            Guest::new(fake::Config { device_type: DeviceType(kind), ..fake::Config::default() });
        assert_eq!(guest.config32(0), id << 16 | 0x1af4);
        assert!(guest.config8(0x08) >= 1, "revision");
        assert!(guest.config16(0x2e) >= 0x40, "subsystem id");
        assert_eq!(guest.config8(0x3d), 0, "no interrupt pin");
    }
}

#[test]
fn devices_that_are_not_for_pci_are_refused() {
    let machine: Arc<dyn Machine> = Arc::new(machine::Machine::new());
    let refused = |config: fake::Config| {
        Bus::new(&machine, vec![fake::Device::new(config)], WINDOW).err().unwrap().to_string()
    };
    let like = fake::Config::default;
    assert!(
        refused(fake::Config { device_type: DeviceType(64), ..like() }).contains("PCI device id")
    );
    assert!(refused(fake::Config { queues: 2000, ..like() }).contains("2000 queues"));
    assert!(refused(fake::Config { max_queue_size: 48, ..like() }).contains("power of two"));
    assert!(refused(fake::Config { space: vec![0; 4097], ..like() }).contains("4097 bytes"));
}

#[test]
fn the_first_port_mechanism_is_found_and_used_as_by_linux() {
    let guest = Guest::new(fake::Config::default());
    let bus = &guest.bus;
    let inl = |port| {
        let mut bytes = [0; 4];
        bus.read_port(port, &mut bytes);
        u32::from_le_bytes(bytes)
    };
    let outl = |port, value: u32| bus.write_port(port, &value.to_le_bytes());
    bus.write_port(0xcfb, &[1]);
    outl(0xcf8, 0x8000_0000);
    assert_eq!(inl(0xcf8), 0x8000_0000);
    outl(0xcf8, 0x8000_0000 | 8 << 8);
    assert_eq!(inl(0xcfc), guest.config32(0));
    outl(0xcf8, 0x8000_0000 | 8 << 8 | 0x08);
    let mut class = [0; 2];
    bus.read_port(0xcfe, &mut class);
    assert_eq!(u16::from_le_bytes(class), guest.config16(0x0a));
    let mut revision = [0];
    bus.read_port(0xcfc, &mut revision);
    assert_eq!(revision, [guest.config8(0x08)]);
}

#[test]
fn ports_write_bytes_words_and_whole_registers() {
    let guest = Guest::new(fake::Config::default());
    let address = |register: u32| {
        guest.bus.write_port(0xcf8, &(0x8000_0000 | 8 << 8 | register).to_le_bytes());
    };
    address(0x04);
    guest.bus.write_port(0xcfc, &[6]);
    assert_eq!(guest.config16(COMMAND), 6);
    guest.bus.write_port(0xcfc, &0x0402_u16.to_le_bytes());
    assert_eq!(guest.config16(COMMAND), 0x0402);
    guest.bus.write_port(0xcfd, &[0]);
    assert_eq!(guest.config16(COMMAND), 2);
    address(0x10);
    guest.bus.write_port(0xcfc, &0xd000_0000_u32.to_le_bytes());
    assert_eq!(guest.config32(BAR0), 0xd000_0004);
}

#[test]
fn other_buses_and_a_closed_port_answer_with_ones() {
    let guest = Guest::new(fake::Config::default());
    for address in [8_u32 << 8, 0x8001_0000, 0x8000_0000 | 9 << 8] {
        guest.bus.write_port(0xcf8, &address.to_le_bytes());
        let mut bytes = [0; 4];
        guest.bus.read_port(0xcfc, &mut bytes);
        assert_eq!(bytes, [0xff; 4], "{address:#x}");
        guest.bus.write_port(0xcfc, &[0; 4]);
    }
    let mut bytes = [0; 4];
    guest.bus.read_ecam(0x10_0000, &mut bytes);
    assert_eq!(bytes, [0xff; 4]);
    guest.bus.write_ecam(0x10_0000, &bytes);
}

#[test]
fn the_five_structures_are_announced_and_in_the_bar() {
    let guest = Guest::new(fake::Config::default());
    let size = bar_size(&guest);
    for kind in 1..=4 {
        let at = guest.virtio_capability(kind).unwrap();
        assert!(guest.config8(at + 2) >= 16, "length");
        assert_eq!(guest.config8(at + 4), 0, "BAR");
        let (offset, length) = (guest.config32(at + 8), guest.config32(at + 12));
        assert_eq!(offset % 4, 0);
        assert!(u64::from(offset) + u64::from(length) <= size);
    }
    let notify = guest.virtio_capability(2).unwrap();
    assert_eq!((guest.config8(notify + 2), guest.config32(notify + 16)), (20, 4));
    assert!(guest.config32(notify + 12) >= 4 + 2, "room for the last queue's doorbell");
    let window = guest.virtio_capability(5).unwrap();
    assert_eq!(guest.config8(window + 2), 20);
    let msix = guest.capabilities(0x11)[0];
    assert_eq!(guest.config16(msix + 2), 2, "the last of three vectors");
}

#[test]
fn a_device_without_configuration_announces_none() {
    let guest = Guest::new(fake::Config { space: Vec::new(), ..fake::Config::default() });
    assert_eq!(guest.virtio_capability(4), None);
    assert!(guest.virtio_capability(5).is_some());
}

/// What a guest finds out by writing ones.
pub(crate) fn bar_size(guest: &Guest) -> u64 {
    let before: [u8; 8] = guest.ecam(8, BAR0);
    guest.set_config(BAR0, &[0xff; 4]);
    guest.set_config(BAR0 + 4, &[0xff; 4]);
    let ones = u64::from_le_bytes(guest.ecam(8, BAR0));
    guest.set_config(BAR0, &before[..4]);
    guest.set_config(BAR0 + 4, &before[4..]);
    assert_eq!(ones & 0xf, 4, "memory, 64 bits, not prefetchable");
    !(ones & !0xf) + 1
}
