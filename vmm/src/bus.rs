//! Who answers at which port and at which address.
//!
//! A bus is put together before the guest starts and does not change after that, so looking
//! something up takes no lock; each device locks itself. PCI devices, whose addresses the guest
//! chooses, are not on it: they are asked where nobody here answers.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A device with registers. The vCPU that accesses them waits, so nothing here may block.
pub trait Device: Send + Sync {
    /// The guest reads `data.len()` bytes at `offset` from the device's first register; the range
    /// is inside the device's own. Every byte must be written.
    fn read(&self, offset: u64, data: &mut [u8]);

    /// The guest writes at `offset` from the device's first register; the range is inside the
    /// device's own.
    fn write(&self, offset: u64, data: &[u8]);

    /// The machine is reset; no vCPU runs.
    fn reset(&self) {}
}

/// Two devices want the same addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "two devices want the range {:#x}..{:#x}; this is a bug, please report it with the command line",
    range.start, range.end
)]
pub struct Overlap {
    range: Range<u64>,
}

/// Ports and memory-mapped registers.
#[derive(Default)]
pub struct Bus {
    ports: Space,
    memory: Space,
}

impl Bus {
    /// Puts a device at I/O ports.
    ///
    /// # Errors
    /// When another is there already, or the range is empty.
    pub fn insert_ports(
        &mut self,
        range: Range<u16>,
        device: Arc<dyn Device>,
    ) -> Result<(), Overlap> {
        self.ports.insert(range.start.into()..range.end.into(), device)
    }

    /// Puts a device at guest addresses.
    ///
    /// # Errors
    /// When another is there already, or the range is empty.
    pub fn insert_memory(
        &mut self,
        range: Range<u64>,
        device: Arc<dyn Device>,
    ) -> Result<(), Overlap> {
        self.memory.insert(range, device)
    }

    /// One read of a port, of 1, 2 or 4 bytes. False if nobody answers; `data` is then all ones.
    #[must_use]
    pub fn read_port(&self, port: u16, data: &mut [u8]) -> bool {
        self.ports.read(port.into(), data)
    }

    /// One write to a port, of 1, 2 or 4 bytes. False if nobody listens.
    #[must_use]
    pub fn write_port(&self, port: u16, data: &[u8]) -> bool {
        self.ports.write(port.into(), data)
    }

    /// One read where there is no memory. False if nobody answers; `data` is then all ones.
    #[must_use]
    pub fn read_memory(&self, address: u64, data: &mut [u8]) -> bool {
        self.memory.read(address, data)
    }

    /// One write where there is no memory. False if nobody listens.
    #[must_use]
    pub fn write_memory(&self, address: u64, data: &[u8]) -> bool {
        self.memory.write(address, data)
    }

    /// Resets every device.
    pub fn reset(&self) {
        for (_, device) in self.ports.devices.iter().chain(&self.memory.devices) {
            device.reset();
        }
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges = |space: &Space| {
            space.devices.iter().map(|(range, _)| range.clone()).collect::<Vec<_>>()
        };
        f.debug_struct("Bus")
            .field("ports", &ranges(&self.ports))
            .field("memory", &ranges(&self.memory))
            .finish()
    }
}

/// Devices in the order of their addresses; their ranges do not overlap.
#[derive(Default)]
struct Space {
    devices: Vec<(Range<u64>, Arc<dyn Device>)>,
}

impl Space {
    fn insert(&mut self, range: Range<u64>, device: Arc<dyn Device>) -> Result<(), Overlap> {
        let at = self.devices.partition_point(|(other, _)| other.start < range.start);
        let free_from = at.checked_sub(1).and_then(|before| self.devices.get(before));
        let free_to = self.devices.get(at);
        if range.is_empty()
            || free_from.is_some_and(|(before, _)| before.end > range.start)
            || free_to.is_some_and(|(after, _)| range.end > after.start)
        {
            return Err(Overlap { range });
        }
        self.devices.insert(at, (range, device));
        Ok(())
    }

    /// The device that has the whole of an access, and where in it.
    fn find(&self, address: u64, length: usize) -> Option<(&dyn Device, u64)> {
        let at = self.devices.partition_point(|(range, _)| range.start <= address);
        let (range, device) = self.devices.get(at.checked_sub(1)?)?;
        let end = address.checked_add(u64::try_from(length).ok()?)?;
        (address < range.end && end <= range.end).then(|| (&**device, address - range.start))
    }

    fn read(&self, address: u64, data: &mut [u8]) -> bool {
        let found = self.find(address, data.len());
        match found {
            Some((device, offset)) => device.read(offset, data),
            None => data.fill(0xff),
        }
        found.is_some()
    }

    fn write(&self, address: u64, data: &[u8]) -> bool {
        let found = self.find(address, data.len());
        if let Some((device, offset)) = found {
            device.write(offset, data);
        }
        found.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use proptest::prelude::*;

    use super::*;

    /// Answers with its number and remembers where it was written.
    struct Numbered(u8, Mutex<Vec<(u64, usize)>>);

    impl Device for Numbered {
        fn read(&self, offset: u64, data: &mut [u8]) {
            self.1.lock().unwrap().push((offset, data.len()));
            data.fill(self.0);
        }

        fn write(&self, offset: u64, data: &[u8]) {
            self.1.lock().unwrap().push((offset, data.len()));
        }
    }

    fn numbered(n: u8) -> Arc<Numbered> {
        Arc::new(Numbered(n, Mutex::new(Vec::new())))
    }

    proptest! {
        /// Against a model: a list that is searched from front to back.
        #[test]
        fn each_access_reaches_the_device_that_has_all_of_it(
            ranges in prop::collection::vec((0u64..100, 0u64..30), 0..12),
            accesses in prop::collection::vec((prop_oneof![0u64..140, u64::MAX - 8..=u64::MAX], 0usize..9), 0..40),
        ) {
            let mut bus = Bus::default();
            let mut model: Vec<(Range<u64>, u8)> = Vec::new();
            for (n, &(start, length)) in (0..).zip(&ranges) {
                let range = start..start + length;
                let free = length > 0 && model.iter().all(|(o, _)| o.end <= range.start || range.end <= o.start);
                prop_assert_eq!(bus.insert_memory(range.clone(), numbered(n)).is_ok(), free);
                if free {
                    model.push((range, n));
                }
            }
            for (address, length) in accesses {
                let mut data = vec![0x5a; length];
                let answered = bus.read_memory(address, &mut data);
                let expected = model.iter().find(|(range, _)| {
                    range.contains(&address) && address.checked_add(length as u64).is_some_and(|end| end <= range.end)
                });
                prop_assert_eq!(answered, expected.is_some());
                prop_assert_eq!(bus.write_memory(address, &data), answered);
                prop_assert!(data.iter().all(|&byte| byte == expected.map_or(0xff, |&(_, n)| n)));
            }
        }
    }

    #[test]
    fn ports_and_memory_are_apart_and_offsets_count_from_the_range() {
        let (mut bus, device) = (Bus::default(), numbered(7));
        bus.insert_ports(0x3f8..0x400, device.clone()).unwrap();
        let mut data = [0; 2];
        assert!(bus.read_port(0x3fa, &mut data) && data == [7, 7]);
        assert!(!bus.read_memory(0x3fa, &mut data) && data == [0xff, 0xff]);
        assert!(!bus.write_port(0x3ff, &data), "an access that reaches beyond the device");
        assert_eq!(*device.1.lock().unwrap(), [(2, 2)]);
    }
}
