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
}

/// Puts the machine together; its vCPUs are at the kernel's entry and wait to be released. Returns it with the
/// host's end of its serial port.
///
/// # Errors
/// When something is missing; the message says what to do.
pub fn assemble(
    config: &Config,
    payload: Payload,
    links: Vec<Link>,
    ground: &Ground,
    mailbox: &Mailbox,
    sandbox: &Arc<Sandbox>,
) -> Result<(Machine, Port)> {
    let memory = ram::make(&config.memory, &*ground.machine)?;
    let regions = ram::regions(&memory)?;
    let back_ends = BackEnds::attach(&config.devices, links, &regions, mailbox, sandbox)?;
    let crew = Crew::recruit(&ground.machine, &Placement::of(&config.cpus), mailbox, sandbox)?;
    let fixed = fixed::make(&config.serial, &ground.machine, mailbox)?;
    let guest = Guest::new(payload, config, &memory, ground.topology, ground.physical_bits);
    let start = guest.load(&memory)?;
    back_ends.wait_until_ready()?;
    let pci = virtio_pci::Bus::new(&ground.machine, back_ends.devices(), layout::MMIO32)?;
    let devices = Arc::new(Devices { fixed: fixed.bus, pci, ioapic: fixed.ioapic });
    let exits: Arc<dyn Exits> = devices.clone();
    let crew = crew.complete(&exits)?;
    crew.reset(start)?;
    let machine = Machine { crew, devices, power: fixed.power, back_ends, memory, guest };
    Ok((machine, fixed.serial))
}
