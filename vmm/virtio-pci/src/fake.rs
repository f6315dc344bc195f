//! A device without anything behind it, for tests of what drives it: it records what the transport
//! tells it, checks that it is in order, and the test plays the back-end.

mod contract;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use virtio_spec::{DeviceType, Negotiated, Offered, features};

use self::contract::Contract;
use crate::device::{self, Notices, Queue, Start};

/// A device for tests. What it is stands in [`Config`]; what happens to it, in [`Device::calls`].
///
/// It panics when the transport breaks what it promises in the trait's description.
pub struct Device {
    config: Config,
    state: Mutex<State>,
}

/// What a [`Device`] is.
#[derive(Debug, Clone)]
pub struct Config {
    /// The device type.
    pub device_type: DeviceType,
    /// What it offers.
    pub offered: Offered,
    /// The number of its queues.
    pub queues: u16,
    /// Their largest size.
    pub max_queue_size: u16,
    /// What its configuration space starts as.
    pub space: Vec<u8>,
}

/// What the transport called, without what only asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// The driver wants these features.
    AcceptFeatures(u64),
    /// DRIVER_OK, with these features and queues.
    Start(u64, Vec<u16>),
    /// The driver enabled a queue of a live device.
    StartQueue(u16),
    /// The driver resets a queue.
    ResetQueue(u16),
    /// The driver resets the device.
    Reset,
    /// The driver wrote the configuration space.
    WriteConfig(u32, Vec<u8>),
}

struct State {
    contract: Contract,
    calls: Vec<Call>,
    queues: Vec<Option<Queue>>,
    space: Vec<u8>,
    version: u64,
    refuses_features: bool,
    slow: bool,
    resetting: bool,
    resetting_queues: Vec<u16>,
    notices: Option<Arc<dyn Notices>>,
}

impl Default for Config {
    /// A block device with two queues of 256 entries, 64 bytes of configuration space, and the
    /// features VERSION_1, EVENT_IDX, RING_PACKED and RING_RESET.
    fn default() -> Self {
        let offered =
            [features::VERSION_1, features::EVENT_IDX, features::RING_PACKED, features::RING_RESET];
        Self {
            device_type: DeviceType::BLOCK,
            offered: Offered::of(&offered),
            queues: 2,
            max_queue_size: 256,
            space: (0..64).collect(),
        }
    }
}

impl Device {
    /// A device that agrees to everything and is reset at once.
    #[must_use]
    pub fn new(config: Config) -> Arc<Self> {
        let space = config.space.clone();
        let queues = vec![None; config.queues.into()];
        let state = State {
            contract: Contract::new(config.offered.bits(), config.queues, config.max_queue_size),
            calls: Vec::new(),
            queues,
            space,
            version: 0,
            refuses_features: false,
            slow: false,
            resetting: false,
            resetting_queues: Vec::new(),
            notices: None,
        };
        Arc::new(Self { config, state: Mutex::new(state) })
    }

    /// What the transport called since the last time.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.state().calls)
    }

    /// A queue, if the device has it.
    #[must_use]
    pub fn queue(&self, index: u16) -> Option<Queue> {
        self.state().queues.get(usize::from(index)).cloned().flatten()
    }

    /// Signals the call of a queue that the device has; says whether it has it.
    pub fn call(&self, index: u16) -> bool {
        self.queue(index).inspect(|queue| queue.call.signal()).is_some()
    }

    /// From now on the device agrees to no features.
    pub fn refuse_features(&self) {
        self.state().refuses_features = true;
    }

    /// From now on resets take until [`Device::finish`].
    pub fn be_slow(&self) {
        self.state().slow = true;
    }

    /// Finishes the resets that are under way.
    pub fn finish(&self) {
        let mut state = self.state();
        if std::mem::take(&mut state.resetting) {
            state.queues.fill(None);
        }
        for index in std::mem::take(&mut state.resetting_queues) {
            state.release(index);
        }
    }

    /// Replaces the configuration space, and says so.
    pub fn change_config(&self, space: &[u8]) {
        let mut state = self.state();
        space.clone_into(&mut state.space);
        state.version += 1;
        let notices = state.notices.clone();
        drop(state);
        if let Some(notices) = notices {
            notices.config_changed();
        }
    }

    /// Says that the device cannot go on.
    pub fn need_reset(&self) {
        let notices = self.state().notices.clone();
        if let Some(notices) = notices {
            notices.needs_reset();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn keep(&mut self, queue: Queue) {
        if let Some(place) = self.queues.get_mut(usize::from(queue.index)) {
            *place = Some(queue);
        }
    }

    fn release(&mut self, index: u16) {
        if let Some(place) = self.queues.get_mut(usize::from(index)) {
            *place = None;
        }
    }
}

impl device::Device for Device {
    fn device_type(&self) -> DeviceType {
        self.config.device_type
    }

    fn offered(&self) -> Offered {
        self.config.offered
    }

    fn queues(&self) -> u16 {
        self.config.queues
    }

    fn max_queue_size(&self) -> u16 {
        self.config.max_queue_size
    }

    fn config_size(&self) -> u32 {
        u32::try_from(self.config.space.len()).unwrap_or(u32::MAX)
    }

    fn read_config(&self, offset: u32, into: &mut [u8]) -> u64 {
        let state = self.state();
        let from = state.space.iter().skip(usize::try_from(offset).unwrap_or(usize::MAX));
        into.fill(0);
        for (to, &from) in into.iter_mut().zip(from) {
            *to = from;
        }
        state.version
    }

    fn write_config(&self, offset: u32, bytes: &[u8]) {
        let mut state = self.state();
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        for (to, &from) in state.space.iter_mut().skip(start).zip(bytes) {
            *to = from;
        }
        state.version += 1;
        state.contract.write_config();
        state.calls.push(Call::WriteConfig(offset, bytes.to_vec()));
    }

    fn accept_features(&self, features: Negotiated) -> bool {
        let mut state = self.state();
        state.contract.accept_features(features);
        state.calls.push(Call::AcceptFeatures(features.bits()));
        !state.refuses_features
    }

    fn start(&self, start: Start) {
        let mut state = self.state();
        state.contract.start(&start);
        let indices = start.queues.iter().map(|queue| queue.index).collect();
        state.calls.push(Call::Start(start.features.bits(), indices));
        for queue in start.queues {
            state.keep(queue);
        }
    }

    fn start_queue(&self, queue: Queue) {
        let mut state = self.state();
        state.contract.start_queue(&queue);
        state.calls.push(Call::StartQueue(queue.index));
        state.keep(queue);
    }

    fn reset_queue(&self, index: u16) {
        let mut state = self.state();
        state.contract.reset_queue(index);
        state.calls.push(Call::ResetQueue(index));
        if state.slow {
            state.resetting_queues.push(index);
        } else {
            state.release(index);
        }
    }

    fn queue_is_reset(&self, index: u16) -> bool {
        !self.state().resetting_queues.contains(&index)
    }

    fn reset(&self) {
        let mut state = self.state();
        state.contract.reset();
        state.calls.push(Call::Reset);
        state.resetting_queues.clear();
        if state.slow && state.queues.iter().any(Option::is_some) {
            state.resetting = true;
        } else {
            state.queues.fill(None);
        }
    }

    fn is_reset(&self) -> bool {
        let mut state = self.state();
        if !state.resetting {
            state.contract.is_reset();
        }
        !state.resetting
    }

    fn subscribe(&self, notices: Arc<dyn Notices>) {
        self.state().notices = Some(notices);
    }
}
