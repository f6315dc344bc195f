//! The virtio side of a function: status, features, queues, configuration (virtio 1.4, 2.1 to 2.6,
//! 3.1 and 4.1.4).
//!
//! # Theory of operation
//! The driver climbs: ACKNOWLEDGE, DRIVER, FEATURES_OK (if the device agrees to the features),
//! DRIVER_OK (starts the device, with the queues enabled so far). A bit once set stays until a
//! reset; a driver that clears one breaks its obligations, and is not heard. Features are frozen
//! by FEATURES_OK; a queue is frozen by being enabled; and at DRIVER_OK all are, but with
//! RING_RESET those that are idle can be configured and enabled.
//!
//! Writing 0 begins a reset, which the device may take its time for: until it is over the status
//! reads as it did, and all writes but selections and vectors are ignored. Every access asks the
//! device how far it is. Only when it says that nothing is touched any more, the registers
//! go back to their first state, vectors are unmapped, and the status reads 0. The reset of one
//! queue goes the same way.

use std::sync::Arc;

use virtio_spec::{Negotiated, Status, features as bit};

use crate::common_config::{Common, Register, SelectedQueue};
use crate::device::{Device, Queue, Start};
use crate::event::Event;
use crate::features;
use crate::interrupts::{self, Interrupts, NO_VECTOR, queue_source};
use crate::kicks::Kicks;
use crate::queue::{Phase, QueueRegisters};
use crate::signals::Signals;

/// Bits that a driver can set. The others are the device's, reserved, or belong to features that
/// are not offered.
const DRIVERS_OWN: Status = Status::ACKNOWLEDGE.union(Status::DRIVER).union(Status::FAILED);

/// The registers and what they govern.
pub(crate) struct Transport {
    device: Arc<dyn Device>,
    signals: Arc<Signals>,
    pub(crate) interrupts: Interrupts,
    pub(crate) kicks: Kicks,
    calls: Vec<Arc<Event>>,
    status: Status,
    resetting: bool,
    device_feature_select: u32,
    driver_feature_select: u32,
    driver_features: u64,
    negotiated: Negotiated,
    queue_select: u16,
    queues: Vec<QueueRegisters>,
    config_generation: u8,
    /// The version of the configuration space that the driver saw last.
    config_version: Option<u64>,
}

impl Transport {
    /// A transport after reset, whose queues call by `calls`.
    pub(crate) fn new(
        device: Arc<dyn Device>,
        signals: Arc<Signals>,
        interrupts: Interrupts,
        kicks: Kicks,
        calls: Vec<Arc<Event>>,
    ) -> Self {
        let size = device.max_queue_size();
        let queues = (0..device.queues()).map(|index| QueueRegisters::new(index, size)).collect();
        Self {
            device,
            signals,
            interrupts,
            kicks,
            calls,
            status: Status::RESET,
            resetting: false,
            device_feature_select: 0,
            driver_feature_select: 0,
            driver_features: 0,
            negotiated: Negotiated::NONE,
            queue_select: 0,
            queues,
            config_generation: 0,
            config_version: None,
        }
    }

    /// Reads the common configuration.
    pub(crate) fn read_common(&mut self) -> Common {
        self.follow_resets();
        let offered = features::carried(self.device.offered()).bits();
        Common {
            device_feature_select: self.device_feature_select,
            device_feature: features::word(offered, self.device_feature_select),
            driver_feature_select: self.driver_feature_select,
            driver_feature: features::word(self.driver_features, self.driver_feature_select),
            config_vector: self.interrupts.vector(interrupts::CONFIG),
            queues: u16::try_from(self.queues.len()).unwrap_or(u16::MAX),
            status: self.shown_status().bits(),
            config_generation: self.config_generation,
            queue_select: self.queue_select,
            queue: self.shown_queue(),
        }
    }

    /// Writes one register of the common configuration.
    pub(crate) fn write_common(&mut self, register: Register, value: u32) {
        self.follow_resets();
        // No register that is narrower than its value gets here.
        let word = u16::try_from(value).unwrap_or(u16::MAX);
        match register {
            Register::DeviceFeatureSelect => self.device_feature_select = value,
            Register::DriverFeatureSelect => self.driver_feature_select = value,
            Register::DriverFeature => self.write_driver_feature(value),
            Register::ConfigVector => self.interrupts.map(interrupts::CONFIG, word),
            Register::DeviceStatus => self.write_status(value),
            Register::QueueSelect => self.queue_select = word,
            Register::QueueVector if self.selected().is_some() => {
                self.interrupts.map(queue_source(self.queue_select), word);
            }
            Register::QueueEnable => self.write_queue_enable(value),
            Register::QueueReset => self.write_queue_reset(value),
            _ => self.configure_queue(register, value),
        }
    }

    /// Reads the device's configuration. The generation changes when, and only when, the driver
    /// sees another version than it saw last (4.1.4.3.1).
    pub(crate) fn read_config(&mut self, offset: u32, into: &mut [u8]) {
        let version = self.device.read_config(offset, into);
        if self.config_version.replace(version).is_some_and(|last| last != version) {
            self.config_generation = self.config_generation.wrapping_add(1);
        }
    }

    /// Writes the device's configuration.
    pub(crate) fn write_config(&mut self, offset: u32, bytes: &[u8]) {
        self.follow_resets();
        if !self.resetting {
            self.device.write_config(offset, bytes);
        }
    }

    /// The driver's kick, where no doorbell took it.
    pub(crate) fn kick(&self, queue: u16) {
        let enabled = |queue: &QueueRegisters| queue.phase() == Phase::Enabled;
        if self.is_live()
            && self.queues.get(usize::from(queue)).is_some_and(enabled)
            && let Some(event) = self.kicks.event(queue)
        {
            event.signal();
        }
    }

    /// The ISR status; reading clears it (4.1.4.5).
    pub(crate) fn take_isr(&self) -> u8 {
        let queue = !self.interrupts.enabled() && self.interrupts.take_calls();
        let config = self.signals.take_config_interrupt();
        u8::from(queue) | (u8::from(config) << 1)
    }

    /// Whether an interrupt waits to be seen in the ISR status, without messages.
    pub(crate) fn has_interrupt(&self) -> bool {
        !self.interrupts.enabled()
            && (self.signals.config_interrupt() || self.interrupts.has_calls())
    }

    /// Begins a reset, by the driver or of the whole machine.
    pub(crate) fn begin_reset(&mut self) {
        if !self.resetting {
            self.resetting = true;
            self.signals.go_quiet();
            self.device.reset();
        }
        self.follow_resets();
    }

    /// Whether no reset is under way.
    pub(crate) fn is_reset(&mut self) -> bool {
        self.follow_resets();
        !self.resetting
    }

    fn is_live(&self) -> bool {
        self.status.contains(Status::DRIVER_OK) && !self.resetting
    }

    /// Finishes resets that the device is done with.
    fn follow_resets(&mut self) {
        if self.resetting {
            if self.device.is_reset() {
                self.finish_reset();
            }
            return;
        }
        let index = self.queue_select;
        if self.selected().is_some_and(|queue| queue.phase() == Phase::Resetting)
            && self.device.queue_is_reset(index)
        {
            self.finish_queue_reset(index);
        }
    }

    /// The device is done: nothing of the last driver's is left (2.4.1, 4.1.4.3.1, 4.1.5.1.2.1).
    fn finish_reset(&mut self) {
        self.interrupts.forget_all();
        self.signals.clear();
        for queue in &mut self.queues {
            queue.reset();
        }
        self.resetting = false;
        self.status = Status::RESET;
        self.device_feature_select = 0;
        self.driver_feature_select = 0;
        self.driver_features = 0;
        self.negotiated = Negotiated::NONE;
        self.queue_select = 0;
    }

    fn finish_queue_reset(&mut self, index: u16) {
        self.interrupts.forget(queue_source(index));
        if let Some(queue) = self.queues.get_mut(usize::from(index)) {
            queue.reset();
        }
    }

    fn shown_status(&self) -> Status {
        match self.status {
            // Zero says that the reset is over, whatever the device has to say.
            Status::RESET if self.resetting => Status::ACKNOWLEDGE,
            Status::RESET => Status::RESET,
            status if self.signals.wants_reset() => status | Status::DEVICE_NEEDS_RESET,
            status => status,
        }
    }

    fn write_status(&mut self, value: u32) {
        let asked = Status::from_bits_retain(u8::try_from(value).unwrap_or(0));
        if asked.is_empty() {
            return self.begin_reset();
        }
        if self.resetting {
            return;
        }
        let new = asked - self.status;
        self.status |= new & DRIVERS_OWN;
        if new.contains(Status::FEATURES_OK) {
            self.negotiate();
        }
        if new.contains(Status::DRIVER_OK) {
            self.start();
        }
    }

    /// FEATURES_OK: stays clear if the features do not do (3.1.1, steps 5 and 6).
    fn negotiate(&mut self) {
        let agreed = features::agree(self.device.offered(), self.driver_features);
        if let Some(agreed) = agreed.filter(|&agreed| self.device.accept_features(agreed)) {
            self.negotiated = agreed;
            self.status |= Status::FEATURES_OK;
        }
    }

    /// DRIVER_OK, which needs features that were agreed on and a driver that has not given up.
    fn start(&mut self) {
        let ready = self.status.contains(Status::FEATURES_OK);
        if !ready || self.status.contains(Status::FAILED) {
            return;
        }
        self.status |= Status::DRIVER_OK;
        let enabled = self.queues.iter().filter(|queue| queue.phase() == Phase::Enabled);
        let queues: Vec<Queue> = enabled.filter_map(|queue| self.handed_over(queue)).collect();
        for queue in &queues {
            self.kicks.use_queue(queue.index);
        }
        self.device.start(Start { features: self.negotiated, queues });
        self.signals.go_live();
    }

    fn write_driver_feature(&mut self, value: u32) {
        if self.resetting || self.status.contains(Status::FEATURES_OK) {
            return;
        }
        let (low, high) = (self.driver_features & 0xffff_ffff, self.driver_features >> 32);
        match self.driver_feature_select {
            0 => self.driver_features = (high << 32) | u64::from(value),
            1 => self.driver_features = (u64::from(value) << 32) | low,
            _ => {}
        }
    }

    fn selected(&self) -> Option<&QueueRegisters> {
        self.queues.get(usize::from(self.queue_select))
    }

    fn shown_queue(&self) -> SelectedQueue {
        let vector = self.interrupts.vector(queue_source(self.queue_select));
        let nothing = SelectedQueue { vector: NO_VECTOR, ..SelectedQueue::default() };
        self.selected().map_or(nothing, |queue| queue.shown(vector))
    }

    /// The selected queue, if the driver may configure it now.
    fn configurable(&mut self) -> Option<&mut QueueRegisters> {
        let frozen = self.is_live() && !self.negotiated.has(bit::RING_RESET);
        if self.resetting || frozen {
            return None;
        }
        let queue = self.queues.get_mut(usize::from(self.queue_select))?;
        (queue.phase() == Phase::Idle).then_some(queue)
    }

    fn configure_queue(&mut self, register: Register, value: u32) {
        let packed = self.negotiated.has(bit::RING_PACKED);
        if let Some(queue) = self.configurable() {
            queue.configure(register, value, packed);
        }
    }

    /// Only 1 means something; a driver must not write 0 (4.1.4.3.2).
    fn write_queue_enable(&mut self, value: u32) {
        let Some(queue) = self.configurable().filter(|_| value == 1) else { return };
        queue.set_phase(Phase::Enabled);
        if !self.is_live() {
            return;
        }
        if let Some(queue) = self.selected().and_then(|queue| self.handed_over(queue)) {
            self.kicks.use_queue(queue.index);
            self.device.start_queue(queue);
        }
    }

    /// Resets the selected queue, if single queues can be reset and this one is in use.
    fn write_queue_reset(&mut self, value: u32) {
        let index = self.queue_select;
        let live = self.is_live();
        if value != 1 || self.resetting || !self.negotiated.has(bit::RING_RESET) {
            return;
        }
        let Some(queue) = self.queues.get_mut(usize::from(index)) else { return };
        if queue.phase() != Phase::Enabled {
            return;
        }
        if !live {
            // The device does not have it yet.
            return self.finish_queue_reset(index);
        }
        queue.set_phase(Phase::Resetting);
        self.device.reset_queue(index);
        self.follow_resets();
    }

    fn handed_over(&self, queue: &QueueRegisters) -> Option<Queue> {
        let index = queue.index();
        let kick = self.kicks.event(index)?;
        let call = self.calls.get(usize::from(index))?;
        Some(queue.to_queue(kick, call))
    }
}
