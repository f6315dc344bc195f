//! The device's configuration space, its generation, and the way in by the PCI configuration space.

use virtio_pci::fake::{self, Call};

use crate::guest::{ACKNOWLEDGE, Driver, Guest, common};

fn guest() -> Guest {
    Guest::new(fake::Config::default())
}

fn generation(driver: &Driver<'_>) -> u8 {
    driver.common8(common::CONFIG_GENERATION)
}

#[test]
fn the_configuration_is_read_in_any_width_from_the_start() {
    let guest = guest();
    let driver = guest.driver();
    assert_eq!(driver.status(), 0, "long before FEATURES_OK");
    assert_eq!(driver.read::<4>(driver.config), [0, 1, 2, 3]);
    assert_eq!(driver.read::<8>(driver.config + 8), [8, 9, 10, 11, 12, 13, 14, 15]);
    assert_eq!(driver.read::<1>(driver.config + 63), [63]);
    assert_eq!(driver.read::<2>(driver.config + 63), [63, 0]);
    assert_eq!(driver.read::<4>(driver.config + 64), [0; 4]);
}

#[test]
fn the_device_gets_what_is_written() {
    let guest = guest();
    let driver = guest.driver();
    driver.write(driver.config + 32, &[1]);
    assert_eq!(guest.device.calls(), [Call::WriteConfig(32, vec![1])]);
    driver.write(driver.config + 64, &[1]);
    assert_eq!(guest.device.calls(), [], "past the end");
}

/// The loop of 2.5.1: what is read between two equal generations is of one state.
#[test]
fn a_change_between_two_reads_shows_in_the_generation() {
    let guest = guest();
    let driver = guest.driver();
    for round in 0..600_u32 {
        let before = generation(&driver);
        let low: [u8; 4] = driver.read(driver.config);
        guest.device.change_config(&round.to_le_bytes().repeat(2));
        let high: [u8; 4] = driver.read(driver.config + 4);
        assert_ne!(low, high);
        assert_ne!(generation(&driver), before);
    }
}

#[test]
fn changes_that_nobody_sees_do_not_wrap_the_generation() {
    let guest = guest();
    let driver = guest.driver();
    let before = generation(&driver);
    let _: [u8; 4] = driver.read(driver.config);
    for round in 0..=255_u8 {
        guest.device.change_config(&[round; 8]);
    }
    let _: [u8; 4] = driver.read(driver.config);
    assert_ne!(generation(&driver), before);
    let after = generation(&driver);
    let _: [u8; 8] = driver.read(driver.config);
    assert_eq!(generation(&driver), after);
}

/// The window into the BAR that works without memory decoding (4.1.4.9).
struct Window<'a> {
    guest: &'a Guest,
    at: u64,
}

impl Window<'_> {
    fn set(&self, bar: u8, offset: u64, length: u32) {
        self.guest.set_config(self.at + 4, &[bar]);
        self.guest.set_config(self.at + 8, &u32::try_from(offset).unwrap().to_le_bytes());
        self.guest.set_config(self.at + 12, &length.to_le_bytes());
    }

    fn read(&self) -> [u8; 4] {
        self.guest.ecam(8, self.at + 16)
    }

    fn write(&self, bytes: &[u8]) {
        self.guest.set_config(self.at + 16, bytes);
    }
}

#[test]
fn the_window_reaches_the_registers() {
    let guest = guest();
    let driver = guest.driver();
    guest.set_config(crate::guest::COMMAND, &[0, 0]);
    let window = Window { guest: &guest, at: guest.virtio_capability(5).unwrap() };
    window.set(0, driver.config + 8, 4);
    assert_eq!(window.read(), [8, 9, 10, 11]);
    window.set(0, driver.common + common::DEVICE_STATUS, 1);
    window.write(&[ACKNOWLEDGE]);
    assert_eq!(window.read()[0], ACKNOWLEDGE);
    window.set(0, driver.common + common::NUM_QUEUES, 2);
    assert_eq!(window.read()[..2], [2, 0]);
    window.set(0, driver.common + common::DEVICE_FEATURE_SELECT, 4);
    window.write(&1_u32.to_le_bytes());
    window.set(0, driver.common + common::DEVICE_FEATURE, 4);
    assert_eq!(window.read()[0] & 1, 1, "VERSION_1");
}

#[test]
fn the_window_opens_nowhere_else() {
    let guest = guest();
    let _ = guest.driver();
    let window = Window { guest: &guest, at: guest.virtio_capability(5).unwrap() };
    window.write(&[0; 4]);
    for (bar, offset, length) in [
        (1, 0x1000, 4),
        (0xff, 0x1000, 4),
        (0, 0x1000, 0),
        (0, 0x1000, 3),
        (0, 0x1000, 8),
        (0, 0x1000, u32::MAX),
    ] {
        window.set(bar, offset, length);
        window.write(&[0; 4]);
        assert_eq!(window.read(), [0; 4], "{bar} {offset:#x} {length}");
    }
    window.set(0, 0xffff_ffff, 4);
    window.write(&[0xff; 4]);
    assert_eq!(window.read(), [0; 4]);
    assert_eq!(guest.device.calls(), []);
}

#[test]
fn capabilities_are_read_only_but_for_the_window() {
    let guest = guest();
    let before: [u8; 256] = guest.ecam(8, 0);
    for register in 0x40..0x100 {
        guest.set_config(register, &[0xff]);
    }
    let after: [u8; 256] = guest.ecam(8, 0);
    let window = usize::try_from(guest.virtio_capability(5).unwrap()).unwrap();
    let msix = usize::try_from(guest.capabilities(0x11)[0]).unwrap();
    for at in 0..256 {
        let writable =
            at == window + 4 || (window + 8..window + 20).contains(&at) || at == msix + 3;
        assert!(writable || before[at] == after[at], "byte {at:#x}");
    }
    assert_eq!(after[msix + 3] & 0x3f, before[msix + 3] & 0x3f);
}
