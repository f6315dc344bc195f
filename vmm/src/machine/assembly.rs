//! Puts a machine together, doing at the same time what does not depend on each other: the guest is loaded,
//! daemons start and front-ends connect, vCPUs are made.

use std::sync::Arc;

use hypervisor::layout;
use supervisor::Link;

use super::back_ends::BackEnds;
use super::body::Machine;
use super::error::Result;
use super::exits::Devices;
use super::fixed;
use super::loading::Loading;
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
    /// Whom its threads tell what happens.
    pub mailbox: Mailbox,
    /// What its threads are confined by.
    pub sandbox: Arc<Sandbox>,
}

/// What was begun before the machine is made.
pub struct Supplies {
    /// The guest, which is being loaded.
    pub loading: Loading,
    /// Links to the daemons, in the order of the devices that have one.
    pub links: Vec<Link>,
}

/// Puts the machine together; its vCPUs are at the kernel's entry and wait to be released. Returns it with the
/// host's end of its serial port.
///
/// # Errors
/// When something is missing; the message says what to do. That of `interrupted`, which is asked while
/// back-ends are waited for.
pub fn assemble(
    config: &Config,
    supplies: Supplies,
    ground: &Ground,
    interrupted: &dyn Fn() -> Result<()>,
) -> Result<(Machine, Port)> {
    let Supplies { loading, links } = supplies;
    let Ground { machine, mailbox, sandbox } = ground;
    ram::map(loading.memory(), &**machine)?;
    let regions = ram::regions(loading.memory())?;
    let back_ends = BackEnds::attach(&config.devices, links, &regions, mailbox, sandbox)?;
    let crew = Crew::recruit(machine, &Placement::of(&config.cpus), mailbox, sandbox)?;
    let fixed = fixed::make(&config.serial, machine, mailbox)?;
    back_ends.wait_until_ready(interrupted)?;
    let pci = virtio_pci::Bus::new(machine, back_ends.devices(), layout::MMIO32)?;
    let devices = Arc::new(Devices { fixed: fixed.bus, pci, ioapic: fixed.ioapic });
    let exits: Arc<dyn Exits> = devices.clone();
    let crew = crew.complete(&exits)?;
    let (memory, guest, start) = loading.finish()?;
    crew.reset(start)?;
    let machine = Machine { crew, devices, power: fixed.power, back_ends, memory, guest };
    Ok((machine, fixed.serial))
}
