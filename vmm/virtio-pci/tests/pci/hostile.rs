//! Class: registers written by the guest that index out of bounds or assert. Any write to any
//! register, and what must hold nevertheless.

use proptest::prelude::*;
use virtio_pci::fake;
use virtio_spec::features;

use crate::guest::{Guest, common};

/// An access, to places that exist more often than not.
#[derive(Debug, Clone)]
enum Access {
    Config(u64, Vec<u8>),
    Bar(u64, Vec<u8>),
    Common(u64, Vec<u8>),
    Port(u16, Vec<u8>),
    Call(u16),
    NeedReset,
    Slow,
    Finish,
    MachineReset,
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let small = prop::collection::vec(prop_oneof![0..4_u8, any::<u8>()], 1..9);
    prop_oneof![small, Just(vec![0xff; 4]), Just(vec![1, 0]), Just(vec![0x0f])]
}

fn access() -> impl Strategy<Value = Access> {
    prop_oneof![
        4 => (0_u64..0x110, bytes()).prop_map(|(at, bytes)| Access::Config(at, bytes)),
        1 => (any::<u64>(), bytes()).prop_map(|(at, bytes)| Access::Config(at, bytes)),
        6 => (0_u64..0x9000, bytes()).prop_map(|(at, bytes)| Access::Bar(at, bytes)),
        16 => (0_u64..0x44, bytes()).prop_map(|(at, bytes)| Access::Common(at, bytes)),
        2 => (0xcf0_u16..0xd04, bytes()).prop_map(|(port, bytes)| Access::Port(port, bytes)),
        2 => any::<u16>().prop_map(|queue| Access::Call(queue % 4)),
        1 => Just(Access::NeedReset),
        1 => Just(Access::Slow),
        1 => Just(Access::Finish),
        1 => Just(Access::MachineReset),
    ]
}

fn play(guest: &Guest, access: &Access) {
    let mut into = [0; 8];
    match access {
        Access::Config(at, bytes) => {
            guest.bus.write_ecam(0x8000_u64.saturating_add(*at), bytes);
            guest.bus.read_ecam(0x8000_u64.saturating_add(*at), &mut into[..bytes.len()]);
        }
        Access::Bar(at, bytes) => bar(guest, *at, bytes),
        Access::Common(at, bytes) => bar(guest, *at, bytes),
        Access::Port(port, bytes) => {
            guest.bus.write_port(*port, bytes);
            guest.bus.read_port(*port, &mut into[..bytes.len()]);
        }
        Access::Call(queue) => {
            guest.device.call(*queue);
        }
        Access::NeedReset => guest.device.need_reset(),
        Access::Slow => guest.device.be_slow(),
        Access::Finish => guest.device.finish(),
        Access::MachineReset => guest.bus.reset(),
    }
}

fn bar(guest: &Guest, at: u64, bytes: &[u8]) {
    let at = guest.bar().saturating_add(at);
    guest.bus.write_memory(at, bytes);
    guest.bus.read_memory(at, &mut [0; 8][..bytes.len()]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// The fake device checks what it is told.
    #[test]
    fn whatever_is_written_the_device_is_told_only_what_is_in_order(
        accesses in prop::collection::vec(access(), 1..120),
        live: bool,
    ) {
        let guest = Guest::new(fake::Config::default());
        if live {
            guest.driver().go_live(features::mask(features::RING_RESET));
        } else {
            guest.enable();
        }
        for access in &accesses {
            play(&guest, access);
            prop_assert!(guest.machine.doorbells().len() <= 2);
        }
        // And it can be used afterwards.
        guest.device.finish();
        guest.bus.reset();
        guest.device.finish();
        prop_assert!(guest.bus.is_reset());
        let driver = guest.driver();
        driver.go_live(0);
        driver.write(driver.notify, &[0, 0]);
        prop_assert!(guest.device.queue(0).unwrap().kick.take());
    }

    #[test]
    fn reads_change_nothing_that_a_driver_configured(
        reads in prop::collection::vec((0_u64..0x9000, 1_usize..9), 1..60),
    ) {
        let guest = Guest::new(fake::Config::default());
        let driver = guest.driver();
        driver.go_live(0);
        let _ = guest.device.calls();
        for (at, len) in reads {
            guest.bus.read_memory(guest.bar() + at, &mut [0; 8][..len]);
            guest.bus.read_ecam(0x8000 + at % 0x1000, &mut [0; 8][..len]);
        }
        prop_assert_eq!(guest.device.calls(), []);
        prop_assert_eq!(driver.status(), 15);
        driver.set16(common::QUEUE_SELECT, 1);
        prop_assert_eq!(driver.common16(common::QUEUE_SIZE), 16);
    }
}
