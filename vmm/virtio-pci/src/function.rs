//! A virtio device as a PCI function: its configuration space and its BAR.

use std::iter;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hypervisor::Machine;
use virtio_spec::DeviceType;

use crate::address::FunctionAddress;
use crate::bar::{DOORBELL, LONGEST_CONFIG, Layout, Target};
use crate::capability::Capabilities;
use crate::common_config::writes;
use crate::config_space::{ConfigSpace, Identity};
use crate::device::Device;
use crate::error::Error;
use crate::event::Event;
use crate::interrupts::Interrupts;
use crate::kicks::Kicks;
use crate::registers as reg;
use crate::signals::Signals;
use crate::transport::Transport;

/// The vendor of virtio devices (virtio 1.4, 4.1.2).
const VENDOR: u16 = 0x1af4;
/// What is added to the device type to get the PCI device id.
const DEVICE_BASE: u16 = 0x1040;
/// Device types up to here have a PCI device id.
const LAST_TYPE: u32 = 0x3f;
/// Subsystem ids of 0x40 and more keep legacy drivers away (virtio 1.4, 4.1.2.1).
const SUBSYSTEM: u16 = 0x1100;
/// So that each queue and the configuration can have a vector of their own: 2048 are the limit.
const MOST_QUEUES: u16 = 1024;
/// The largest split ring (virtio 1.4, 2.7).
const LARGEST_QUEUE: u16 = 32768;
/// Guest addresses have at most 52 bits; a BAR beyond them, as during sizing, answers nowhere.
const ADDRESSES: u64 = 1 << 52;
/// Where a BAR is that answers nowhere.
const NOWHERE: u64 = u64::MAX;

/// A virtio device on the bus.
pub(crate) struct Function {
    address: FunctionAddress,
    layout: Layout,
    capabilities: Capabilities,
    /// Where the BAR answers, for a look without the lock.
    base: AtomicU64,
    /// The configuration space at power-on.
    initial: ConfigSpace,
    state: Mutex<State>,
}

struct State {
    config: ConfigSpace,
    transport: Transport,
}

impl Function {
    /// A function for `device`. Its BAR is to be placed before the bus is used.
    pub(crate) fn new(
        machine: &Arc<dyn Machine>,
        address: FunctionAddress,
        device: Arc<dyn Device>,
    ) -> Result<Self, Error> {
        check(device.as_ref())?;
        let queues = device.queues();
        let vectors = queues + 1;
        let layout = Layout::new(queues, vectors, device.config_size());
        let mut config = ConfigSpace::new(identity(device.as_ref())?);
        config.set_bar(layout.size, 0);
        let capabilities =
            Capabilities::add(&mut config, &layout, vectors).ok_or(Error::ConfigSpaceFull)?;
        let kicks = events(queues)?;
        let calls = events(queues)?;
        let change = Arc::new(Event::new().map_err(Error::Event)?);
        let signals = Arc::new(Signals::new(change.clone()));
        let sources = iter::once(change).chain(calls.iter().cloned()).collect();
        let interrupts = Interrupts::new(machine.clone(), sources)?;
        let kicks = Kicks::new(machine.clone(), layout.doorbells, &kicks);
        device.subscribe(signals.clone());
        let transport = Transport::new(device, signals, interrupts, kicks, calls);
        let state = Mutex::new(State { config: config.clone(), transport });
        let base = AtomicU64::new(NOWHERE);
        Ok(Self { address, layout, capabilities, base, initial: config, state })
    }

    /// Where it is on the bus.
    pub(crate) fn address(&self) -> FunctionAddress {
        self.address
    }

    /// The size of its BAR.
    pub(crate) fn bar_size(&self) -> u64 {
        self.layout.size
    }

    /// Says where the BAR is at power-on.
    pub(crate) fn place(&mut self, address: u64) {
        self.initial.set_bar(self.layout.size, address);
        self.lock().config = self.initial.clone();
    }

    /// Says that the slot has further functions.
    pub(crate) fn set_multi_function(&mut self) {
        self.initial.set_multi_function();
        self.lock().config = self.initial.clone();
    }

    /// The offset of a guest address in the BAR, if the BAR answers there.
    pub(crate) fn offset(&self, address: u64) -> Option<u64> {
        let base = Some(self.base.load(Ordering::Acquire)).filter(|&base| base != NOWHERE)?;
        address.checked_sub(base).filter(|&offset| offset < self.layout.size)
    }

    /// The guest reads the configuration space.
    pub(crate) fn read_config(&self, offset: usize, into: &mut [u8]) {
        let mut state = self.lock();
        let State { config, transport } = &mut *state;
        if self.capabilities.touches_window(offset, into.len())
            && let Some(window) = self.capabilities.window(config)
        {
            let mut data = [0; 4];
            if let Some(data) = data.get_mut(..window.length) {
                self.read_target(transport, window.offset, data);
                self.capabilities.set_window_data(config, data);
            }
        }
        config.read(offset, into);
        if let Some(at) = reg::STATUS.checked_sub(offset)
            && let Some(status) = into.get_mut(at)
            && transport.has_interrupt()
        {
            *status |= reg::STATUS_INTERRUPT;
        }
    }

    /// The guest writes the configuration space.
    pub(crate) fn write_config(&self, offset: usize, bytes: &[u8]) {
        let mut state = self.lock();
        let State { config, transport } = &mut *state;
        config.write(offset, bytes);
        self.follow_config(config, transport);
        if self.capabilities.touches_window(offset, bytes.len())
            && let Some(window) = self.capabilities.window(config)
            && let Some(data) = self.capabilities.window_data(config).get(..window.length)
        {
            self.write_target(transport, window.offset, data);
        }
    }

    /// The guest reads the BAR.
    pub(crate) fn read_bar(&self, offset: u64, into: &mut [u8]) {
        self.read_target(&mut self.lock().transport, offset, into);
    }

    /// The guest writes the BAR.
    pub(crate) fn write_bar(&self, offset: u64, bytes: &[u8]) {
        self.write_target(&mut self.lock().transport, offset, bytes);
    }

    /// The machine is reset: configuration space as at power-on, and the device's reset begun.
    pub(crate) fn reset(&self) {
        let mut state = self.lock();
        let State { config, transport } = &mut *state;
        config.clone_from(&self.initial);
        self.follow_config(config, transport);
        transport.interrupts.reset();
        transport.begin_reset();
    }

    /// Whether the device's reset is over.
    pub(crate) fn is_reset(&self) -> bool {
        self.lock().transport.is_reset()
    }

    /// A panic in a thread that held the lock does not make the device's registers unusable: each
    /// of them is valid by itself.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings BAR and MSI-X to where the configuration space has them now.
    fn follow_config(&self, config: &ConfigSpace, transport: &mut Transport) {
        let base = self.decoded(config);
        self.base.store(base.unwrap_or(NOWHERE), Ordering::Release);
        transport.kicks.move_to(base);
        transport.interrupts.set_control(self.capabilities.msix(config));
    }

    /// Where the BAR answers: nowhere without the command bit, at zero (which means that it has no
    /// place), or where there are no addresses.
    fn decoded(&self, config: &ConfigSpace) -> Option<u64> {
        let on = config.command() & reg::COMMAND_MEMORY != 0;
        let last = ADDRESSES - self.layout.size;
        Some(config.bar()).filter(|base| on && (1..=last).contains(base))
    }

    fn read_target(&self, transport: &mut Transport, offset: u64, into: &mut [u8]) {
        into.fill(0);
        match self.layout.locate(offset) {
            Target::Common(at) => {
                let image = transport.read_common().to_bytes();
                for (to, &from) in into.iter_mut().zip(image.iter().skip(place(at))) {
                    *to = from;
                }
            }
            Target::Isr => {
                if let Some(isr) = into.first_mut() {
                    *isr = transport.take_isr();
                }
            }
            Target::Config(at) => transport.read_config(at, into),
            Target::Table(at) => transport.interrupts.read_table(place(at), into),
            Target::Pending(at) => transport.interrupts.read_pending(place(at), into),
            Target::Doorbell(_) | Target::Nothing => {}
        }
    }

    fn write_target(&self, transport: &mut Transport, offset: u64, bytes: &[u8]) {
        match self.layout.locate(offset) {
            Target::Common(at) => {
                for (register, value) in writes(place(at), bytes) {
                    transport.write_common(register, value);
                }
            }
            Target::Config(at) => transport.write_config(at, bytes),
            Target::Table(at) => transport.interrupts.write_table(place(at), bytes),
            Target::Doorbell(at) if at.is_multiple_of(DOORBELL) => {
                if let Ok(queue) = u16::try_from(at / DOORBELL) {
                    transport.kick(queue);
                }
            }
            Target::Isr | Target::Pending(_) | Target::Doorbell(_) | Target::Nothing => {}
        }
    }
}

/// An offset as an index.
fn place(offset: u32) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

fn events(count: u16) -> Result<Vec<Arc<Event>>, Error> {
    (0..count).map(|_| Event::new().map(Arc::new).map_err(Error::Event)).collect()
}

/// Refuses what the layout and the registers have no room for.
fn check(device: &dyn Device) -> Result<(), Error> {
    let (kind, size) = (device.device_type(), device.max_queue_size());
    if device.queues() > MOST_QUEUES {
        return Err(Error::TooManyQueues {
            device: kind,
            queues: device.queues(),
            max: MOST_QUEUES,
        });
    }
    if !size.is_power_of_two() || size > LARGEST_QUEUE {
        return Err(Error::QueueSize { device: kind, size });
    }
    if device.config_size() > LONGEST_CONFIG {
        return Err(Error::ConfigSize {
            device: kind,
            size: device.config_size(),
            max: LONGEST_CONFIG,
        });
    }
    Ok(())
}

/// What a virtio device of this type is on PCI (virtio 1.4, 4.1.2). The class is for people who
/// look at lists of devices; drivers go by the ids.
fn identity(device: &dyn Device) -> Result<Identity, Error> {
    let kind = device.device_type();
    let number = u16::try_from(kind.0).ok().filter(|_| (1..=LAST_TYPE).contains(&kind.0));
    let class = match kind {
        DeviceType::NET => [0x02, 0x00, 0x00],
        DeviceType::BLOCK | DeviceType::SCSI | DeviceType::FS => [0x01, 0x80, 0x00],
        DeviceType::CONSOLE => [0x07, 0x80, 0x00],
        _ => [0xff, 0x00, 0x00],
    };
    Ok(Identity {
        vendor: VENDOR,
        device: DEVICE_BASE + number.ok_or(Error::DeviceType { device: kind })?,
        revision: 1,
        class,
        subsystem_vendor: VENDOR,
        subsystem: SUBSYSTEM,
    })
}
