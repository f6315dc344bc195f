//! The devices at fixed places, which the VMM emulates itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hypervisor::Machine;
use hypervisor::layout::{COM1, COM1_IRQ, EVENTS, EVENTS_IRQ, IOAPIC, PVPANIC, RESET_CONTROL};

use super::error::Result;
use super::lifecycle::Event;
use super::mailbox::Mailbox;
use super::outcome::{Force, Outcome};
use crate::bus::Bus;
use crate::config::serial::SerialPort;
use crate::devices::ioapic::Ioapic;
use crate::devices::power::Power;
use crate::devices::pvpanic::Pvpanic;
use crate::devices::reset::{KeyboardController, ResetControl};
use crate::devices::serial::{self, Port};
use crate::devices::{self, Report};

/// Port of the keyboard controller's commands, of which only the reset is there.
const KEYBOARD_COMMAND: u16 = 0x64;

/// What the machine keeps hold of among them.
pub struct Fixed {
    /// All of them.
    pub bus: Bus,
    /// Interrupts of devices without MSI.
    pub ioapic: Arc<Ioapic>,
    /// The power button.
    pub power: Arc<Power>,
    /// The host's end of COM1.
    pub serial: Port,
}

/// Puts them on a bus.
///
/// # Errors
/// When two of them are in the same place, or what the serial port is to be connected to is not there.
pub fn make(serial: &SerialPort, machine: &Arc<dyn Machine>, mailbox: &Mailbox) -> Result<Fixed> {
    let report = report_to(mailbox);
    let ioapic = Ioapic::new(machine.clone());
    let power = Arc::new(Power::new(Box::new(ioapic.pin(EVENTS_IRQ)), report.clone()));
    let (uart, serial) = serial::open(serial, Box::new(ioapic.pin(COM1_IRQ)), report.clone())?;
    let mut bus = Bus::default();
    bus.insert_ports(COM1, uart)?;
    bus.insert_memory(IOAPIC, ioapic.clone())?;
    bus.insert_memory(EVENTS, power.clone())?;
    bus.insert_ports(PVPANIC..PVPANIC + 1, Arc::new(Pvpanic::new(report.clone())))?;
    bus.insert_ports(
        RESET_CONTROL..RESET_CONTROL + 1,
        Arc::new(ResetControl::new(report.clone())),
    )?;
    bus.insert_ports(
        KEYBOARD_COMMAND..KEYBOARD_COMMAND + 1,
        Arc::new(KeyboardController::new(report)),
    )?;
    Ok(Fixed { bus, ioapic, power, serial })
}

/// What devices report, as events of the machine's life. A panic is logged once, since the guest can report
/// it for ever.
fn report_to(mailbox: &Mailbox) -> Report {
    let (mailbox, told) = (mailbox.clone(), AtomicBool::new(false));
    let tell = move |what: &str| {
        if !told.swap(true, Ordering::Relaxed) {
            tracing::warn!("the guest's kernel panicked{what}");
        }
    };
    Arc::new(move |event| match event {
        devices::Event::PowerOff => mailbox.post(Event::PowerOff),
        devices::Event::Reset => mailbox.post(Event::Reset),
        devices::Event::Panic { loaded: true } => tell("; its crash kernel takes over"),
        devices::Event::Panic { loaded: false } => {
            tell("");
            mailbox.post(Event::Panic);
        }
        devices::Event::Quit => mailbox.post(Event::Fatal(Outcome::Forced(Force::Terminal))),
    })
}
