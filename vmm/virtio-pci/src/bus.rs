//! PCI bus 0: the host bridge, the functions, and the ways in which a guest reaches them.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hypervisor::Machine;

use crate::address::FunctionAddress;
use crate::config_space::{ConfigSpace, Identity};
use crate::device::Device;
use crate::error::Error;
use crate::function::Function;

/// The host bridge's ids: Red Hat's generic PCI Express host bridge, which no driver binds to.
const HOST_BRIDGE: Identity = Identity {
    vendor: 0x1b36,
    device: 0x0008,
    revision: 0,
    class: [0x06, 0x00, 0x00],
    subsystem_vendor: 0x1af4,
    subsystem: 0x1100,
};

/// The address port of configuration mechanism 1 (PCI 3.0, 3.2.2.3.2).
const CONFIG_ADDRESS: u16 = 0xcf8;
/// Its data port, four bytes.
const CONFIG_DATA: u16 = 0xcfc;
/// Address port: accesses to the data port reach a configuration space.
const ENABLE: u32 = 1 << 31;

/// Bus 0, immutable but for what the guest writes. Shared by all vCPUs: each function locks itself,
/// and finding it takes no lock.
pub struct Bus {
    bridge: ConfigSpace,
    functions: Vec<Function>,
    /// By number of the function: its place in `functions`.
    places: [Option<u8>; 256],
    config_address: AtomicU32,
}

impl Bus {
    /// A bus with these devices, in slots from 1 up, and their BARs in `window`, as firmware
    /// would leave them. Memory decoding is off until the guest switches it on.
    ///
    /// # Errors
    /// When there are too many devices, one is not made for PCI, or eventfds, interrupt lines or
    /// addresses run out.
    pub fn new(
        machine: &Arc<dyn Machine>,
        devices: Vec<Arc<dyn Device>>,
        window: Range<u64>,
    ) -> Result<Self, Error> {
        let (count, max) = (devices.len(), FunctionAddress::MOST_DEVICES);
        let mut functions = Vec::with_capacity(count);
        let mut places = [None; 256];
        for (n, device) in devices.into_iter().enumerate() {
            let (Some(address), Ok(place)) = (FunctionAddress::of_device(n), u8::try_from(n))
            else {
                return Err(Error::TooManyDevices { count, max });
            };
            functions.push(Function::new(machine, address, device)?);
            if let Some(entry) = places.get_mut(usize::from(address.number())) {
                *entry = Some(place);
            }
        }
        mark_shared_slots(&mut functions);
        place_bars(&mut functions, window)?;
        let bridge = ConfigSpace::new(HOST_BRIDGE);
        Ok(Self { bridge, functions, places, config_address: AtomicU32::new(0) })
    }

    /// Where the devices are, in the order in which they were given.
    pub fn addresses(&self) -> impl Iterator<Item = FunctionAddress> {
        self.functions.iter().map(Function::address)
    }

    /// The guest reads at an offset of the ECAM area of bus 0.
    pub fn read_ecam(&self, offset: u64, into: &mut [u8]) {
        match ecam_place(offset) {
            Some((function, register)) => self.read_config(function, register, into),
            None => into.fill(0xff),
        }
    }

    /// The guest writes at an offset of the ECAM area of bus 0.
    pub fn write_ecam(&self, offset: u64, bytes: &[u8]) {
        if let Some((function, register)) = ecam_place(offset) {
            self.write_config(function, register, bytes);
        }
    }

    /// The guest reads a port from 0xcf8 to 0xcff.
    pub fn read_port(&self, port: u16, into: &mut [u8]) {
        let address = self.config_address.load(Ordering::Relaxed);
        if port == CONFIG_ADDRESS && into.len() == 4 {
            return into.copy_from_slice(&address.to_le_bytes());
        }
        match port_place(address, port) {
            Some((function, register)) => self.read_config(function, register, into),
            None => into.fill(0xff),
        }
    }

    /// The guest writes a port from 0xcf8 to 0xcff. The address port takes only whole words: what
    /// is narrower is meant for other registers that share its addresses.
    pub fn write_port(&self, port: u16, bytes: &[u8]) {
        if let (CONFIG_ADDRESS, Ok(&address)) = (port, <&[u8; 4]>::try_from(bytes)) {
            return self.config_address.store(u32::from_le_bytes(address), Ordering::Relaxed);
        }
        let address = self.config_address.load(Ordering::Relaxed);
        if let Some((function, register)) = port_place(address, port) {
            self.write_config(function, register, bytes);
        }
    }

    /// The guest reads memory where there is none; says whether a BAR is there.
    pub fn read_memory(&self, address: u64, into: &mut [u8]) -> bool {
        let Some((function, offset)) = self.decode(address) else { return false };
        function.read_bar(offset, into);
        true
    }

    /// The guest writes memory where there is none; says whether a BAR is there.
    pub fn write_memory(&self, address: u64, bytes: &[u8]) -> bool {
        let Some((function, offset)) = self.decode(address) else { return false };
        function.write_bar(offset, bytes);
        true
    }

    /// The machine is reset: every configuration space is as it was at power-on, and the resets of
    /// all devices are begun.
    pub fn reset(&self) {
        self.config_address.store(0, Ordering::Relaxed);
        for function in &self.functions {
            function.reset();
        }
    }

    /// Whether the devices' resets are over. Until then a guest would find devices that have not
    /// let go of its memory.
    #[must_use]
    pub fn is_reset(&self) -> bool {
        self.functions.iter().all(Function::is_reset)
    }

    fn decode(&self, address: u64) -> Option<(&Function, u64)> {
        let here = |function: &_| Function::offset(function, address);
        self.functions.iter().find_map(|function| Some((function, here(function)?)))
    }

    fn function(&self, address: FunctionAddress) -> Option<&Function> {
        let place = self.places.get(usize::from(address.number())).copied().flatten()?;
        self.functions.get(usize::from(place))
    }

    fn read_config(&self, address: FunctionAddress, register: usize, into: &mut [u8]) {
        match self.function(address) {
            Some(function) => function.read_config(register, into),
            None if address == FunctionAddress::HOST_BRIDGE => self.bridge.read(register, into),
            None => into.fill(0xff),
        }
    }

    fn write_config(&self, address: FunctionAddress, register: usize, bytes: &[u8]) {
        if let Some(function) = self.function(address) {
            function.write_config(register, bytes);
        }
    }
}

/// Tells the first function of each slot whether there are others.
fn mark_shared_slots(functions: &mut [Function]) {
    let shared: Vec<u8> = functions
        .iter()
        .map(Function::address)
        .filter(|address| address.function() == 1)
        .map(FunctionAddress::slot)
        .collect();
    for function in functions.iter_mut() {
        let address = function.address();
        if address.function() == 0 && shared.contains(&address.slot()) {
            function.set_multi_function();
        }
    }
}

/// Gives each BAR a place in the window, aligned to its size, the largest first, so that nothing
/// is lost between them.
fn place_bars(functions: &mut [Function], window: Range<u64>) -> Result<(), Error> {
    let mut by_size: Vec<&mut Function> = functions.iter_mut().collect();
    by_size.sort_by_key(|function| std::cmp::Reverse(function.bar_size()));
    let size = window.end.saturating_sub(window.start);
    let needed = by_size.iter().map(|function| function.bar_size()).sum();
    let mut next = window.start;
    for function in by_size {
        let bar = function.bar_size();
        let place = next.checked_next_multiple_of(bar);
        let end = place.and_then(|place| place.checked_add(bar));
        let (Some(place), Some(end)) = (place, end.filter(|&end| end <= window.end)) else {
            return Err(Error::WindowTooSmall { needed, size });
        };
        function.place(place);
        next = end;
    }
    Ok(())
}

/// The function and register that an offset in ECAM stands for: 4096 bytes for each function
/// (PCIe 3.0, 7.2.2).
fn ecam_place(offset: u64) -> Option<(FunctionAddress, usize)> {
    let number = u8::try_from(offset >> 12).ok()?;
    let register = usize::try_from(offset & 0xfff).ok()?;
    Some((FunctionAddress::from_number(number), register))
}

/// The function and register that an access to the data port reaches.
fn port_place(address: u32, port: u16) -> Option<(FunctionAddress, usize)> {
    let byte = port.checked_sub(CONFIG_DATA).filter(|&byte| byte < 4)?;
    let [register, number, bus, _] = address.to_le_bytes();
    let here = address & ENABLE != 0 && bus == 0;
    let register = usize::from(register & 0xfc) + usize::from(byte);
    here.then_some((FunctionAddress::from_number(number), register))
}
