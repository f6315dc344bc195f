//! The status machine, as a driver climbs it and as it should not.

use virtio_pci::fake::{self, Call};
use virtio_spec::{Offered, features};

use crate::guest::{
    ACKNOWLEDGE, DRIVER, DRIVER_OK, Driver, FAILED, FEATURES_OK, Guest, NEEDS_RESET, NO_VECTOR,
    common,
};

const VERSION_1: u64 = features::mask(features::VERSION_1);
const PACKED: u64 = features::mask(features::RING_PACKED);

fn guest() -> Guest {
    Guest::new(fake::Config::default())
}

#[test]
fn a_driver_climbs_to_driver_ok() {
    let guest = guest();
    let driver = guest.driver();
    assert_eq!(driver.status(), 0);
    assert!(driver.negotiate(PACKED));
    driver.enable_queue(0, 16, 0x1000);
    driver.enable_queue(1, 32, 0x8000);
    driver.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    assert_eq!(driver.status(), ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    let agreed = VERSION_1 | PACKED;
    let calls = [Call::Reset, Call::AcceptFeatures(agreed), Call::Start(agreed, vec![0, 1])];
    assert_eq!(guest.device.calls(), calls);
    let queue = guest.device.queue(1).unwrap();
    assert_eq!(
        (queue.size, queue.desc.0, queue.driver.0, queue.device.0),
        (32, 0x8000, 0x9000, 0xa000)
    );
}

#[test]
fn features_are_shown_in_words_and_the_rest_is_zero() {
    let guest = guest();
    let driver = guest.driver();
    assert_eq!(driver.offered(), guest.device_offer());
    for select in [2, 3, u32::MAX] {
        driver.set32(common::DEVICE_FEATURE_SELECT, select);
        assert_eq!(driver.common32(common::DEVICE_FEATURE), 0);
    }
    driver.accept(0x1_2000_0003);
    driver.set32(common::DRIVER_FEATURE_SELECT, 1);
    assert_eq!(driver.common32(common::DRIVER_FEATURE), 1);
    driver.set32(common::DRIVER_FEATURE_SELECT, 2);
    driver.set32(common::DRIVER_FEATURE, 7);
    assert_eq!(driver.common32(common::DRIVER_FEATURE), 0);
}

#[test]
fn bits_that_the_transport_cannot_carry_are_not_offered() {
    let guest =
        Guest::new(fake::Config { offered: Offered::new(u64::MAX), ..fake::Config::default() });
    let offered = Offered::new(guest.driver().offered());
    assert!(offered.has(features::VERSION_1) && offered.has(features::RING_RESET));
    for bit in [26, 30, features::NOTIFICATION_DATA, features::ADMIN_VQ, features::SUSPEND] {
        assert!(!offered.has(bit), "{bit}");
    }
}

#[test]
fn features_that_were_not_offered_do_not_pass() {
    let guest = guest();
    let driver = guest.driver();
    assert!(!driver.negotiate(features::mask(features::IN_ORDER)));
    assert_eq!(guest.device.calls(), [Call::Reset], "the device is not even asked");
    driver.accept(VERSION_1);
    driver.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK);
    assert_eq!(driver.status(), ACKNOWLEDGE | DRIVER | FEATURES_OK, "a second attempt");
}

#[test]
fn a_device_can_refuse_features() {
    let guest = guest();
    guest.device.refuse_features();
    assert!(!guest.driver().negotiate(0));
}

#[test]
fn features_are_frozen_by_features_ok() {
    let guest = guest();
    let driver = guest.driver();
    assert!(driver.negotiate(0));
    driver.accept(VERSION_1 | PACKED);
    assert_eq!(driver.common32(common::DRIVER_FEATURE), 1);
    driver.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    assert_eq!(guest.device.calls().pop(), Some(Call::Start(VERSION_1, vec![])));
}

#[test]
fn driver_ok_needs_features_ok_and_a_driver_that_has_not_failed() {
    let guest = guest();
    let driver = guest.driver();
    driver.set_status(ACKNOWLEDGE | DRIVER | DRIVER_OK);
    assert_eq!(driver.status(), ACKNOWLEDGE | DRIVER);
    assert!(driver.negotiate(0));
    driver.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK | FAILED);
    driver.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK | FAILED | DRIVER_OK);
    assert_eq!(driver.status(), ACKNOWLEDGE | DRIVER | FEATURES_OK | FAILED);
    assert!(!guest.device.calls().iter().any(|call| matches!(call, Call::Start(..))));
}

#[test]
fn bits_stay_set_and_reserved_ones_do_not_stick() {
    let guest = guest();
    let driver = guest.driver();
    driver.go_live(0);
    driver.set_status(ACKNOWLEDGE | 16 | 32 | NEEDS_RESET);
    assert_eq!(driver.status(), ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
}

#[test]
fn driver_ok_starts_once() {
    let guest = guest();
    let driver = guest.driver();
    driver.go_live(0);
    let _ = guest.device.calls();
    driver.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    assert_eq!(guest.device.calls(), []);
}

#[test]
fn needs_reset_shows_until_the_reset() {
    let guest = guest();
    let driver = guest.driver();
    driver.go_live(0);
    guest.device.need_reset();
    assert_ne!(driver.status() & NEEDS_RESET, 0);
    driver.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    assert_ne!(driver.status() & NEEDS_RESET, 0);
    driver.reset();
    driver.go_live(0);
    assert_eq!(driver.status() & NEEDS_RESET, 0);
}

/// Drivers wait for zero, some of them for ever.
#[test]
fn needs_reset_does_not_keep_a_reset_from_ending() {
    let guest = guest();
    let driver = guest.driver();
    driver.go_live(0);
    driver.reset();
    guest.device.need_reset();
    assert_eq!(driver.status(), 0);
    driver.set_status(ACKNOWLEDGE);
    assert_eq!(driver.status(), ACKNOWLEDGE | NEEDS_RESET);
    driver.reset();
}

#[test]
fn a_slow_reset_reads_as_not_done_until_it_is() {
    let guest = guest();
    let driver = guest.driver();
    driver.go_live(0);
    guest.device.be_slow();
    driver.set_status(0);
    for _ in 0..3 {
        assert_ne!(driver.status(), 0);
    }
    let _ = guest.device.calls();
    // What a driver without patience does has no effect.
    driver.set_status(0);
    driver.set_status(ACKNOWLEDGE);
    driver.accept(0);
    driver.enable_queue(0, 8, 0);
    driver.write(driver.config, &[9]);
    assert_eq!(guest.device.calls(), []);
    guest.device.finish();
    assert_eq!(driver.status(), 0);
    assert_eq!(driver.common16(common::QUEUE_SIZE), 256);
}

#[test]
fn a_reset_leaves_nothing_behind() {
    let guest = guest();
    let driver = guest.driver();
    driver.go_live(PACKED);
    driver.set_msix(true, false);
    driver.set_vector(1, 0x41, false);
    assert_eq!(driver.map_queue(0, 1), 1);
    driver.set16(common::CONFIG_VECTOR, 0);
    let call = guest.device.queue(0).unwrap().call;
    driver.reset();
    call.signal();
    driver.hears_nothing();
    assert_eq!(driver.common16(common::CONFIG_VECTOR), NO_VECTOR);
    driver.set16(common::QUEUE_SELECT, 0);
    assert_eq!(driver.common16(common::QUEUE_VECTOR), NO_VECTOR);
    assert_eq!(driver.common16(common::QUEUE_ENABLE), 0);
    assert_eq!(driver.common16(common::QUEUE_SIZE), 256);
    assert_eq!(driver.common32(common::QUEUE_DESC), 0);
    driver.set32(common::DRIVER_FEATURE_SELECT, 1);
    assert_eq!(driver.common32(common::DRIVER_FEATURE), 0);
}

#[test]
fn a_driver_comes_and_goes_and_the_events_stay_the_same() {
    let guest = guest();
    let driver = guest.driver();
    let events = |driver: &Driver<'_>| {
        driver.go_live(0);
        let queue = driver.guest.device.queue(0).unwrap();
        (std::sync::Arc::as_ptr(&queue.kick), std::sync::Arc::as_ptr(&queue.call))
    };
    let first = events(&driver);
    for _ in 0..5 {
        assert_eq!(events(&driver), first);
    }
}

#[test]
fn a_machine_reset_waits_for_a_slow_device() {
    let guest = guest();
    guest.driver().go_live(0);
    guest.device.be_slow();
    guest.bus.reset();
    assert!(!guest.bus.is_reset());
    guest.device.finish();
    assert!(guest.bus.is_reset());
}

impl Guest {
    fn device_offer(&self) -> u64 {
        virtio_pci::Device::offered(&*self.device).bits()
    }
}
