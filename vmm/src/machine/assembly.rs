//! Puts a machine together, doing at the same time what does not depend on each other: daemons start and
//! front-ends connect, vCPUs are made, the kernel is loaded.

use std::sync::Arc;

use boot::Payload;
use hypervisor::{Topology, layout};
use supervisor::Link;

use super::back_ends::BackEnds;
use super::body::Machine;
use super::error::Result;
use super::exits::Devices;
use super::fixed;
use super::guest::Guest;
use super::mailbox::Mailbox;
use super::ram;
use crate::config::Config;
use crate::devices::serial::Port;
use crate::sandbox::Sandbox;
use crate::vcpu::crew::Crew;
use crate::vcpu::scheduling::Placement;
use crate::vcpu::thread::Exits;

/// What the machine is made on.
#[derive(Clone)]
pub struct Ground {
    /// The hypervisor's part of the machine.
    pub machine: Arc<dyn hypervisor::Machine>,
    /// How its CPUs are arranged.
    pub topology: Topology,
    /// How many bits of physical address they have.
    pub physical_bits: u32,
    /// Whom its threads tell what happens.
    pub mailbox: Mailbox,
    /// What its threads are confined by.
    pub sandbox: Arc<Sandbox>,
}

/// What was fetched before the machine is made.
pub struct Supplies {
    /// Kernel, initrd, command line.
    pub payload: Payload,
    /// Links to the daemons, in the order of the devices that have one.
    pub links: Vec<Link>,
}

/// Puts the machine together; its vCPUs are at the kernel's entry and wait to be released. Returns it with the
/// host's end of its serial port.
///
/// # Errors
/// When something is missing; the message says what to do. [`Error::Cancelled`] when `cancelled` says so while
/// back-ends are waited for.
///
/// [`Error::Cancelled`]: super::Error::Cancelled
pub fn assemble(
    config: &Config,
    supplies: Supplies,
    ground: &Ground,
    cancelled: &dyn Fn() -> bool,
) -> Result<(Machine, Port)> {
    let Supplies { payload, links } = supplies;
    let Ground { machine, topology, physical_bits, mailbox, sandbox } = ground;
    let memory = ram::make(&config.memory, &**machine)?;
    let regions = ram::regions(&memory)?;
    let back_ends = BackEnds::attach(&config.devices, links, &regions, mailbox, sandbox)?;
    let crew = Crew::recruit(machine, &Placement::of(&config.cpus), mailbox, sandbox)?;
    let fixed = fixed::make(&config.serial, machine, mailbox)?;
    let guest = Guest::new(payload, config, &memory, *topology, *physical_bits);
    let start = guest.load(&memory)?;
    back_ends.wait_until_ready(cancelled)?;
    let pci = virtio_pci::Bus::new(machine, back_ends.devices(), layout::MMIO32)?;
    let devices = Arc::new(Devices { fixed: fixed.bus, pci, ioapic: fixed.ioapic });
    let exits: Arc<dyn Exits> = devices.clone();
    let crew = crew.complete(&exits)?;
    crew.reset(start)?;
    let machine = Machine { crew, devices, power: fixed.power, back_ends, memory, guest };
    Ok((machine, fixed.serial))
}
