//! Queues: their registers, when they are frozen, and the reset of one.

use virtio_pci::fake::{self, Call};
use virtio_spec::features;

use crate::guest::{ACKNOWLEDGE, DRIVER, DRIVER_OK, Driver, FEATURES_OK, Guest, NO_VECTOR, common};

const PACKED: u64 = features::mask(features::RING_PACKED);
const RING_RESET: u64 = features::mask(features::RING_RESET);

fn guest() -> Guest {
    Guest::new(fake::Config::default())
}

fn go(driver: &Driver<'_>) {
    driver.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
}

#[test]
fn a_queue_starts_at_its_largest_size_and_disabled() {
    let guest = guest();
    let driver = guest.driver();
    assert_eq!(driver.common16(common::NUM_QUEUES), 2);
    for index in 0..2 {
        driver.set16(common::QUEUE_SELECT, index);
        assert_eq!(driver.common16(common::QUEUE_SELECT), index);
        assert_eq!(driver.common16(common::QUEUE_SIZE), 256);
        assert_eq!(driver.common16(common::QUEUE_ENABLE), 0);
        assert_eq!(driver.common16(common::QUEUE_NOTIFY_OFF), index);
        assert_eq!(driver.common16(common::QUEUE_VECTOR), NO_VECTOR);
    }
}

#[test]
fn only_one_enables_and_only_one_resets() {
    let guest = guest();
    let driver = guest.driver();
    assert!(driver.negotiate(RING_RESET));
    for value in [0, 2, 3, 0x101] {
        driver.set16(common::QUEUE_ENABLE, value);
        assert_eq!(driver.common16(common::QUEUE_ENABLE), 0, "{value}");
    }
    driver.set16(common::QUEUE_ENABLE, 1);
    for value in [0, 2, 3, 0x101] {
        driver.set16(common::QUEUE_RESET, value);
        assert_eq!(driver.common16(common::QUEUE_ENABLE), 1, "{value}");
    }
}

#[test]
fn a_queue_that_does_not_exist_has_size_zero_and_takes_nothing() {
    let guest = guest();
    let driver = guest.driver();
    assert!(driver.negotiate(RING_RESET));
    for index in [2, 0x7fff, 0xffff] {
        driver.enable_queue(index, 16, 0x1000);
        assert_eq!(driver.map_queue(index, 0), NO_VECTOR);
        driver.set16(common::QUEUE_RESET, 1);
        assert_eq!(driver.common16(common::QUEUE_SIZE), 0);
        assert_eq!(driver.common16(common::QUEUE_ENABLE), 0);
        assert_eq!(driver.common32(common::QUEUE_DESC), 0);
    }
}

#[test]
fn split_rings_have_a_power_of_two_of_entries() {
    let guest = guest();
    let driver = guest.driver();
    assert!(driver.negotiate(0));
    for (written, read) in [(64, 64), (48, 64), (0, 64), (512, 64), (256, 256), (1, 1)] {
        driver.set16(common::QUEUE_SIZE, written);
        assert_eq!(driver.common16(common::QUEUE_SIZE), read, "{written}");
    }
}

#[test]
fn packed_rings_have_any_number_of_entries() {
    let guest = guest();
    let driver = guest.driver();
    assert!(driver.negotiate(PACKED));
    for (written, read) in [(48, 48), (0, 48), (257, 48), (255, 255)] {
        driver.set16(common::QUEUE_SIZE, written);
        assert_eq!(driver.common16(common::QUEUE_SIZE), read, "{written}");
    }
}

/// Class: queue size or address changed after the device is live.
#[test]
fn an_enabled_queue_is_frozen() {
    let guest = guest();
    let driver = guest.driver();
    assert!(driver.negotiate(0));
    driver.enable_queue(0, 16, 0x1000);
    driver.enable_queue(0, 32, 0x8000);
    driver.set16(common::QUEUE_ENABLE, 0);
    assert_eq!(driver.common16(common::QUEUE_ENABLE), 1);
    go(&driver);
    driver.enable_queue(0, 64, 0xf000);
    assert_eq!(driver.common16(common::QUEUE_SIZE), 16);
    assert_eq!(driver.common32(common::QUEUE_DESC), 0x1000);
    let queue = guest.device.queue(0).unwrap();
    assert_eq!((queue.size, queue.desc.0), (16, 0x1000));
}

#[test]
fn without_ring_reset_no_queue_is_configured_after_driver_ok() {
    let guest = guest();
    let driver = guest.driver();
    assert!(driver.negotiate(0));
    driver.enable_queue(0, 16, 0x1000);
    go(&driver);
    let _ = guest.device.calls();
    driver.enable_queue(1, 16, 0x1000);
    assert_eq!(driver.common16(common::QUEUE_ENABLE), 0);
    assert_eq!(driver.common16(common::QUEUE_SIZE), 256);
    for index in 0..2 {
        driver.set16(common::QUEUE_SELECT, index);
        driver.set16(common::QUEUE_RESET, 1);
    }
    assert_eq!(guest.device.calls(), []);
}

#[test]
fn with_ring_reset_a_queue_can_come_later() {
    let guest = guest();
    let driver = guest.driver();
    assert!(driver.negotiate(RING_RESET));
    go(&driver);
    let _ = guest.device.calls();
    driver.enable_queue(1, 64, 0x4000);
    assert_eq!(guest.device.calls(), [Call::StartQueue(1)]);
    driver.write(driver.notify + 4, &[1, 0]);
    assert!(guest.device.queue(1).unwrap().kick.take());
}

#[test]
fn a_queue_is_reset_and_enabled_anew() {
    let guest = guest();
    let driver = guest.driver();
    driver.go_live(RING_RESET);
    driver.map_queue(1, 1);
    let _ = guest.device.calls();
    driver.set16(common::QUEUE_RESET, 1);
    assert_eq!(guest.device.calls(), [Call::ResetQueue(1)]);
    assert_eq!(driver.common16(common::QUEUE_RESET), 0);
    assert_eq!(driver.common16(common::QUEUE_ENABLE), 0);
    assert_eq!(driver.common16(common::QUEUE_SIZE), 256);
    assert_eq!(driver.common16(common::QUEUE_VECTOR), NO_VECTOR);
    driver.enable_queue(1, 64, 0x7000);
    assert_eq!(driver.common16(common::QUEUE_RESET), 0);
    assert_eq!(guest.device.calls(), [Call::StartQueue(1)]);
    assert_eq!(guest.device.queue(1).unwrap().size, 64);
}

#[test]
fn a_slow_queue_reset_shows_until_it_is_done() {
    let guest = guest();
    let driver = guest.driver();
    driver.go_live(RING_RESET);
    guest.device.be_slow();
    driver.set16(common::QUEUE_RESET, 1);
    let _ = guest.device.calls();
    for _ in 0..3 {
        assert_eq!(driver.common16(common::QUEUE_RESET), 1);
        assert_eq!(driver.common16(common::QUEUE_ENABLE), 1);
        driver.set16(common::QUEUE_RESET, 1);
        driver.enable_queue(1, 8, 0);
    }
    assert_eq!(guest.device.calls(), []);
    guest.device.finish();
    assert_eq!(driver.common16(common::QUEUE_RESET), 0);
    assert_eq!(driver.common16(common::QUEUE_ENABLE), 0);
}

#[test]
fn a_reset_of_the_device_ends_that_of_a_queue() {
    let guest = guest();
    let driver = guest.driver();
    driver.go_live(RING_RESET);
    guest.device.be_slow();
    driver.set16(common::QUEUE_RESET, 1);
    driver.set_status(0);
    guest.device.finish();
    assert_eq!(driver.status(), 0);
    driver.set16(common::QUEUE_SELECT, 1);
    assert_eq!(driver.common16(common::QUEUE_RESET), 0);
    driver.go_live(RING_RESET);
}

#[test]
fn before_driver_ok_a_queue_reset_is_the_transports_own_affair() {
    let guest = guest();
    let driver = guest.driver();
    assert!(driver.negotiate(RING_RESET));
    driver.enable_queue(0, 16, 0x1000);
    let _ = guest.device.calls();
    driver.set16(common::QUEUE_RESET, 1);
    assert_eq!(driver.common16(common::QUEUE_ENABLE), 0);
    go(&driver);
    let started = |call: &Call| matches!(call, Call::Start(_, queues) if queues.is_empty());
    assert!(guest.device.calls().iter().all(started));
}

#[test]
fn wide_and_unaligned_accesses() {
    let guest = guest();
    let driver = guest.driver();
    assert!(driver.negotiate(0));
    let at = driver.common;
    driver.write(at + common::QUEUE_DESC, &0x1_2345_6000_u64.to_le_bytes());
    assert_eq!(u64::from_le_bytes(driver.read(at + common::QUEUE_DESC)), 0x1_2345_6000);
    // Size and vector in one write.
    driver.write(at + common::QUEUE_SIZE, &[32, 0, 2, 0]);
    assert_eq!(driver.common16(common::QUEUE_SIZE), 32);
    assert_eq!(driver.common16(common::QUEUE_VECTOR), 2);
    // Parts of a register, and what lies across two.
    driver.write(at + common::QUEUE_SIZE, &[64]);
    driver.write(at + common::QUEUE_DESC + 2, &[0xff; 4]);
    assert_eq!(driver.common16(common::QUEUE_SIZE), 32);
    assert_eq!(u64::from_le_bytes(driver.read(at + common::QUEUE_DESC)), 0x1_2345_6000);
    // Each half by itself.
    driver.set32(common::QUEUE_DESC + 4, 7);
    assert_eq!(u64::from_le_bytes(driver.read(at + common::QUEUE_DESC)), 0x7_2345_6000);
    // A byte out of the middle, and past the end.
    assert_eq!(driver.read::<1>(at + common::QUEUE_DESC + 1), [0x60]);
    assert_eq!(driver.read::<8>(at + common::ADMIN_QUEUES), [0; 8]);
}
