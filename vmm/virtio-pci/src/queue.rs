//! The registers of one queue, and who has it.

use std::sync::Arc;

use hypervisor::GuestAddress;

use crate::common_config::{Register, SelectedQueue};
use crate::device::Queue;
use crate::event::Event;

/// A queue as the driver configures it.
#[derive(Debug, Clone)]
pub(crate) struct QueueRegisters {
    index: u16,
    max_size: u16,
    size: u16,
    desc: u64,
    driver: u64,
    device: u64,
    phase: Phase,
}

/// A queue's life. Its registers can be written only while it is idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not enabled: the driver configures it.
    Idle,
    /// Enabled; the device has it from DRIVER_OK on.
    Enabled,
    /// The driver reset it, and the device is not done with it yet.
    Resetting,
}

impl QueueRegisters {
    /// A queue after reset: of the largest size, and idle.
    pub(crate) fn new(index: u16, max_size: u16) -> Self {
        let (desc, driver, device) = (0, 0, 0);
        Self { index, max_size, size: max_size, desc, driver, device, phase: Phase::Idle }
    }

    /// Back to what it was after reset.
    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.index, self.max_size);
    }

    pub(crate) fn index(&self) -> u16 {
        self.index
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    pub(crate) fn set_phase(&mut self, phase: Phase) {
        self.phase = phase;
    }

    /// The driver writes size or addresses. A size that the device does not have, or that the
    /// ring format cannot have, leaves the register as it is (virtio 1.4, 4.1.4.3.1).
    pub(crate) fn configure(&mut self, register: Register, value: u32, packed: bool) {
        match register {
            Register::QueueSize => {
                let fits = |size: &u16| (1..=self.max_size).contains(size);
                let formed = |size: &u16| packed || size.is_power_of_two();
                if let Some(size) = u16::try_from(value).ok().filter(fits).filter(formed) {
                    self.size = size;
                }
            }
            Register::QueueDesc(half) => self.desc = half.replace(self.desc, value),
            Register::QueueDriver(half) => self.driver = half.replace(self.driver, value),
            Register::QueueDevice(half) => self.device = half.replace(self.device, value),
            _ => {}
        }
    }

    /// What the driver reads while the queue is selected.
    pub(crate) fn shown(&self, vector: u16) -> SelectedQueue {
        SelectedQueue {
            size: self.size,
            vector,
            enable: self.phase != Phase::Idle,
            notify_offset: self.index,
            desc: self.desc,
            driver: self.driver,
            device: self.device,
            reset: self.phase == Phase::Resetting,
        }
    }

    /// The queue as the device gets it.
    pub(crate) fn to_queue(&self, kick: &Arc<Event>, call: &Arc<Event>) -> Queue {
        Queue {
            index: self.index,
            size: self.size,
            desc: GuestAddress(self.desc),
            driver: GuestAddress(self.driver),
            device: GuestAddress(self.device),
            kick: kick.clone(),
            call: call.clone(),
        }
    }
}
