//! Where the BAR answers, and where the doorbells are.

use std::os::fd::AsFd;
use std::sync::Arc;

use hypervisor::{GuestAddress, Machine, fake as machine};
use virtio_pci::{Bus, Device, Error, fake};

use crate::enumeration::bar_size;
use crate::guest::{BAR0, COMMAND, Guest, WINDOW};

fn move_bar(guest: &Guest, to: u64) {
    guest.set_config(BAR0, &to.to_le_bytes()[..4]);
    guest.set_config(BAR0 + 4, &to.to_le_bytes()[4..]);
}

#[test]
fn bars_are_placed_in_the_window_and_answer_once_decoding_is_on() {
    let guest = Guest::new(fake::Config::default());
    let (bar, size) = (guest.bar(), bar_size(&guest));
    assert!(WINDOW.contains(&bar) && bar.is_multiple_of(size));
    let mut bytes = [0; 4];
    assert!(!guest.bus.read_memory(bar, &mut bytes));
    guest.enable();
    assert!(guest.bus.read_memory(bar, &mut bytes));
    assert!(guest.bus.read_memory(bar + size - 1, &mut bytes));
    assert!(!guest.bus.read_memory(bar + size, &mut bytes));
    assert!(!guest.bus.write_memory(bar - 1, &bytes));
}

#[test]
fn bars_of_different_sizes_do_not_overlap() {
    let machine: Arc<dyn Machine> = Arc::new(machine::Machine::with_vectors(4000));
    let device = |queues| -> Arc<dyn Device> {
        fake::Device::new(fake::Config { queues, ..fake::Config::default() })
    };
    let devices = || vec![device(2), device(900), device(5), device(300), device(0)];
    let bus = Bus::new(&machine, devices(), WINDOW).unwrap();
    let mut spans = Vec::new();
    for address in bus.addresses() {
        let at = u64::from(address.number()) << 12;
        let mut bytes = [0; 8];
        bus.read_ecam(at | BAR0, &mut bytes);
        let start = u64::from_le_bytes(bytes) & !0xf;
        bus.write_ecam(at | BAR0, &[0xff; 8]);
        bus.read_ecam(at | BAR0, &mut bytes);
        let size = !(u64::from_le_bytes(bytes) & !0xf) + 1;
        assert!(start.is_multiple_of(size));
        spans.push(start..start + size);
    }
    spans.sort_by_key(|span| span.start);
    assert!(spans.windows(2).all(|pair| pair[0].end <= pair[1].start));
    let narrow = Bus::new(&machine, devices(), 0..0x1_0000);
    assert!(matches!(narrow, Err(Error::WindowTooSmall { .. })));
}

#[test]
fn doorbells_follow_the_bar() {
    let guest = Guest::new(fake::Config::default());
    let driver = guest.driver();
    driver.go_live(0);
    let doorbells = |bar: u64| {
        let at = bar + driver.notify;
        vec![GuestAddress(at), GuestAddress(at + 4)]
    };
    let first = guest.bar();
    assert_eq!(guest.machine.doorbells(), doorbells(first));

    guest.set_config(COMMAND, &[0, 0]);
    assert_eq!(guest.machine.doorbells(), []);
    move_bar(&guest, 0x8_0000_0000);
    assert_eq!(guest.machine.doorbells(), []);
    guest.enable();
    assert_eq!(guest.machine.doorbells(), doorbells(0x8_0000_0000));
    let mut bytes = [0; 4];
    assert!(!guest.bus.read_memory(first, &mut bytes));
    driver.write(driver.notify, &[0, 0]);
    assert!(guest.device.queue(0).unwrap().kick.take());

    // A guest that does not switch decoding off first.
    move_bar(&guest, 0xd000_0000);
    assert_eq!(guest.machine.doorbells(), doorbells(0xd000_0000));
}

#[test]
fn sizing_with_decoding_on_leaves_no_doorbell_anywhere_else() {
    let guest = Guest::new(fake::Config::default());
    let driver = guest.driver();
    driver.go_live(0);
    let before = guest.machine.doorbells();
    bar_size(&guest);
    assert_eq!(guest.machine.doorbells(), before);
    move_bar(&guest, u64::MAX);
    assert_eq!(guest.machine.doorbells(), [], "there are no such addresses");
    move_bar(&guest, 0);
    assert_eq!(guest.machine.doorbells(), [], "zero is no place");
    let mut bytes = [0; 4];
    assert!(!guest.bus.read_memory(0, &mut bytes));
    assert!(!guest.bus.read_memory(u64::MAX, &mut bytes));
}

#[test]
fn two_bars_at_one_place_cost_only_speed() {
    let guest = Guest::new(fake::Config::default());
    let driver = guest.driver();
    let occupied = guest.bar() + driver.notify;
    let other = machine::eventfd();
    guest.machine.connect_kick(GuestAddress(occupied), other.as_fd()).unwrap();
    driver.go_live(0);
    assert!(guest.bus.write_memory(occupied, &[0, 0]));
    assert!(guest.device.queue(0).unwrap().kick.take(), "the kick took the slow way");
    move_bar(&guest, 0xd800_0000);
    assert_eq!(guest.machine.doorbells().len(), 3);
}

#[test]
fn a_machine_reset_puts_everything_back() {
    let guest = Guest::new(fake::Config::default());
    let (first, driver) = (guest.bar(), guest.driver());
    driver.go_live(0);
    driver.set_msix(true, false);
    driver.set_vector(1, 0x41, false);
    move_bar(&guest, 0xd000_0000);
    guest.bus.reset();
    assert!(guest.bus.is_reset());
    assert_eq!((guest.bar(), guest.config16(COMMAND)), (first, 0));
    assert_eq!(guest.config16(driver.msix + 2) >> 14, 0);
    assert_eq!(guest.machine.doorbells(), []);
    guest.enable();
    assert_eq!(driver.status(), 0);
    let mut masked = [0; 16];
    masked[12] = 1;
    assert_eq!(driver.read::<16>(driver.table + 16), masked);
    driver.go_live(0);
}
