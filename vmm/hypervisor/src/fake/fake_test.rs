//! The fake behaves as KVM does.

use std::os::fd::AsFd;
use std::time::Duration;

use super::*;
use crate::memory::{Config, Memory};
use crate::{Exit, Gsi, GuestAddress, Machine as _, Msi, Slot, SlotOptions};

const MSI: Msi = Msi { address: 0xfee0_0000, data: 0x41 };

#[test]
fn a_doorbell_signals_its_eventfd_and_nothing_else_does() {
    let machine = Machine::new();
    let kick = eventfd();
    machine.connect_kick(GuestAddress(0x1000), kick.as_fd()).unwrap();
    assert!(machine.connect_kick(GuestAddress(0x1000), kick.as_fd()).is_err());
    assert!(!machine.write_mmio(GuestAddress(0x1004)));
    assert!(machine.write_mmio(GuestAddress(0x1000)));
    assert_eq!(take(kick.as_fd()), 1);
    machine.disconnect_kick(GuestAddress(0x1000), kick.as_fd()).unwrap();
    assert!(!machine.write_mmio(GuestAddress(0x1000)));
    assert!(machine.disconnect_kick(GuestAddress(0x1000), kick.as_fd()).is_err());
}

#[test]
fn a_call_counts_while_disconnected_and_is_delivered_when_connected() {
    let machine = Machine::new();
    let call = eventfd();
    let line = machine.allocate_vectors(1).unwrap()[0];
    machine.route(line, Some(MSI)).unwrap();
    signal(call.as_fd());
    assert!(machine.messages().is_empty());
    machine.connect_call(line, call.as_fd()).unwrap();
    assert_eq!(machine.messages(), [MSI]);
    machine.disconnect_call(line, call.as_fd()).unwrap();
    signal(call.as_fd());
    assert!(machine.messages().is_empty());
    assert_eq!(take(call.as_fd()), 1);
}

#[test]
fn a_call_is_delivered_by_the_route_it_was_signalled_under() {
    let machine = Machine::new();
    let call = eventfd();
    let line = machine.allocate_vectors(1).unwrap()[0];
    machine.connect_call(line, call.as_fd()).unwrap();
    signal(call.as_fd());
    machine.route(line, Some(MSI)).unwrap();
    assert_eq!((machine.lost_calls(), machine.messages()), (1, vec![]));
    signal(call.as_fd());
    machine.route(line, Some(Msi { data: 0x42, ..MSI })).unwrap();
    assert_eq!(machine.messages(), [MSI]);
    machine.route(line, Some(Msi { data: 0x42, ..MSI })).unwrap();
    assert_eq!(machine.route_updates(), 2);
}

#[test]
fn a_message_is_waited_for() {
    let machine = Machine::new();
    assert!(machine.wait_messages(Duration::from_millis(1)).is_empty());
    std::thread::scope(|scope| {
        scope.spawn(|| machine.signal(MSI));
        assert_eq!(machine.wait_messages(Duration::from_secs(10)), [MSI]);
    });
}

#[test]
fn lines_run_out_and_come_back() {
    let machine = Machine::with_vectors(3);
    let lines = machine.allocate_vectors(3).unwrap();
    assert_eq!(lines, [Gsi(24), Gsi(25), Gsi(26)]);
    assert!(machine.allocate_vectors(1).is_err());
    machine.free_vectors(&lines[1..2]).unwrap();
    assert!(machine.free_vectors(&lines[1..2]).is_err());
    assert!(machine.route(lines[1], Some(MSI)).is_err());
    assert_eq!(machine.allocate_vectors(1).unwrap(), [Gsi(25)]);
    machine.route(Gsi(4), Some(MSI)).unwrap();
    assert!(machine.free_vectors(&[Gsi(4)]).is_err());
}

#[test]
fn dirty_pages_are_told_once() {
    let machine = Machine::new();
    let memory = Memory::new(&Config::new(1 << 20)).unwrap();
    let logged = SlotOptions { log_dirty: true, ..Default::default() };
    machine.map(Slot(0), &memory.regions()[0], logged).unwrap();
    machine.touch(GuestAddress(0x4_1234));
    assert_eq!(machine.take_dirty(Slot(0)).unwrap(), [0, 2, 0, 0]);
    assert_eq!(machine.take_dirty(Slot(0)).unwrap(), [0, 0, 0, 0]);
    machine.unmap(Slot(0)).unwrap();
    assert!(machine.take_dirty(Slot(0)).is_err());
}

#[test]
fn a_script_runs_step_by_step_until_it_is_interrupted() {
    let machine = Machine::new();
    let kick = eventfd();
    machine.connect_kick(GuestAddress(0x1000), kick.as_fd()).unwrap();
    let ring = Step::MmioWrite(0x1000, vec![0, 0]);
    machine.script(0, [ring, Step::PortRead(0x60, 1), Step::MmioWrite(0x2000, vec![7])]);
    let mut vcpu = machine.create_vcpu(0).unwrap();
    assert!(machine.create_vcpu(0).is_err());
    match vcpu.run().unwrap() {
        Exit::PortRead { port: 0x60, width: 1, data } => data.fill(5),
        other => panic!("{other:?}"),
    }
    assert_eq!(take(kick.as_fd()), 1);
    assert!(matches!(vcpu.run().unwrap(), Exit::MmioWrite { data: [7], .. }));
    assert_eq!(machine.answers(0), [[5]]);
    vcpu.handle().interrupt();
    assert!(matches!(vcpu.run().unwrap(), Exit::Interrupted));
}
