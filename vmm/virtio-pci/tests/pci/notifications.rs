//! Kicks, and the two kinds of notification to the driver.

use virtio_pci::fake;

use crate::guest::{ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, Guest, NO_VECTOR, common};

fn guest() -> Guest {
    Guest::new(fake::Config::default())
}

#[test]
fn each_queue_has_a_doorbell_of_its_own() {
    let guest = guest();
    let driver = guest.driver();
    driver.go_live(0);
    assert_eq!(guest.machine.doorbells().len(), 2);
    let kicked = || [0, 1].map(|index| guest.device.queue(index).unwrap().kick.take());
    assert_eq!(kicked(), [false, false]);
    driver.write(driver.notify + 4, &1_u16.to_le_bytes());
    assert_eq!(kicked(), [false, true]);
    driver.write(driver.notify, &0_u32.to_le_bytes());
    assert_eq!(kicked(), [true, false]);
}

#[test]
fn a_kick_by_an_exit_does_the_same() {
    let guest = guest();
    let driver = guest.driver();
    driver.go_live(0);
    let at = guest.bar() + driver.notify;
    assert!(guest.bus.write_memory(at + 4, &1_u16.to_le_bytes()));
    assert!(guest.device.queue(1).unwrap().kick.take());
    for nowhere in [at + 2, at + 8, at + 0xffc] {
        guest.bus.write_memory(nowhere, &1_u16.to_le_bytes());
    }
    assert!(!guest.device.queue(0).unwrap().kick.take());
    assert!(!guest.device.queue(1).unwrap().kick.take());
}

#[test]
fn a_kick_before_driver_ok_is_not_passed_on() {
    let guest = guest();
    let driver = guest.driver();
    assert!(driver.negotiate(0));
    driver.enable_queue(0, 16, 0);
    driver.write(driver.notify, &[0, 0]);
    driver.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    assert!(!guest.device.queue(0).unwrap().kick.take());
}

#[test]
fn doorbells_are_connected_for_queues_in_use_only() {
    let guest = guest();
    let driver = guest.driver();
    assert!(driver.negotiate(0));
    driver.enable_queue(1, 16, 0);
    assert_eq!(guest.machine.doorbells(), []);
    driver.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    assert_eq!(guest.machine.doorbells().len(), 1);
}

#[test]
fn a_configuration_change_is_a_message() {
    let guest = guest();
    let driver = guest.driver();
    driver.set_msix(true, false);
    driver.set_vector(2, 0x77, false);
    driver.go_live(0);
    driver.set16(common::CONFIG_VECTOR, 2);
    assert_eq!(driver.common16(common::CONFIG_VECTOR), 2);
    guest.device.change_config(&[1]);
    assert_eq!(driver.messages(), [0x77]);
    guest.device.need_reset();
    assert_eq!(driver.messages(), [0x77]);
    assert_eq!(driver.isr(), 2, "the bit is set with messages, too");
    assert_eq!(driver.isr(), 0);
}

#[test]
fn no_configuration_change_is_notified_before_driver_ok_or_after_a_reset() {
    let guest = guest();
    let driver = guest.driver();
    driver.set_msix(true, false);
    driver.set_vector(0, 0x50, false);
    assert!(driver.negotiate(0));
    driver.set16(common::CONFIG_VECTOR, 0);
    guest.device.change_config(&[1]);
    driver.hears_nothing();
    driver.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    assert_eq!(driver.messages(), [0x50], "held back");
    driver.reset();
    driver.set16(common::CONFIG_VECTOR, 0);
    guest.device.change_config(&[2]);
    guest.device.need_reset();
    driver.hears_nothing();
}

#[test]
fn an_event_without_a_vector_is_not_delivered() {
    let guest = guest();
    let driver = guest.driver();
    driver.set_msix(true, false);
    driver.set_vector(0, 0x50, false);
    driver.go_live(0);
    assert!(guest.device.call(0));
    guest.device.change_config(&[1]);
    driver.hears_nothing();
    assert_eq!(driver.map_queue(0, 0), 0);
    driver.set16(common::CONFIG_VECTOR, 0);
    // Nor afterwards.
    driver.hears_nothing();
    assert_eq!(driver.map_queue(0, NO_VECTOR), NO_VECTOR);
    assert!(guest.device.call(0));
    driver.hears_nothing();
}

#[test]
fn a_vector_that_does_not_exist_cannot_be_mapped() {
    let guest = guest();
    let driver = guest.driver();
    for vector in [3, 0x7ff, 0x800, 0xfffe] {
        assert_eq!(driver.map_queue(0, vector), NO_VECTOR);
        driver.set16(common::CONFIG_VECTOR, vector);
        assert_eq!(driver.common16(common::CONFIG_VECTOR), NO_VECTOR);
    }
    for vector in 0..3 {
        assert_eq!(driver.map_queue(0, vector), vector);
    }
}

#[test]
fn without_messages_the_isr_tells() {
    let guest = guest();
    let driver = guest.driver();
    driver.go_live(0);
    let shown = || guest.config16(0x06) & 8 != 0;
    assert!(!shown());
    assert!(guest.device.call(1));
    assert!(shown());
    assert_eq!(driver.isr(), 1);
    assert_eq!(driver.isr(), 0);
    assert!(!shown());
    guest.device.change_config(&[1]);
    assert!(guest.device.call(0));
    assert_eq!(driver.read::<4>(driver.isr), [3, 0, 0, 0]);
    assert!(!shown());
}

#[test]
fn with_messages_neither_isr_nor_status_tell_of_queues() {
    let guest = guest();
    let driver = guest.driver();
    driver.set_msix(true, false);
    driver.go_live(0);
    assert!(guest.device.call(1));
    assert_eq!(guest.config16(0x06) & 8, 0);
    assert_eq!(driver.isr(), 0);
}
